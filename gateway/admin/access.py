"""Who acts on the admin API, and did his browser mean it?

    Authorization: Bearer <key>    a client key with scope admin, read by the same directory as everywhere; it acts as
                                   an admin of its own name. Nothing else of the request counts then
    a session's cookie             ``__Host-codex-relay`` over https; ``codex-relay-console`` over plain http

Rules that hold:

* browsers are served over https, or over plain http when they speak to loopback: the Host that they name decides, so
  a name of another's that leads here (DNS rebinding) is refused as well. A key may come over plain http wherever the
  gateway listens, as it may for model calls;
* https is what the connection says, a trusted proxy says (X-Forwarded-Proto), or ``server.public_url`` says of the
  Host that is asked for;
* a change by cookie needs the session's CSRF token and proof of the same origin: an ``Origin`` of ours, or
  ``Sec-Fetch-Site: same-origin``. Signing in needs no token, and no foreign sign of origin;
* two cookies of our name, or two Authorization headers, are nobody;
* no session is ever read from a URL, a body or another header.

Nothing here is stored or sent; sessions are auth.sessions' matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from auth.errors import AuthError
from auth.keys import KeyDirectory
from auth.roles import Principal, Role
from auth.types import Caller
from gateway.admin.routes import Route
from gateway.admin.types import Acting, RawHeader, Seen, SessionFinder
from gateway.errors import GatewayError
from gateway.guard import values_of
from ops.clock import Clock
from store.records import Secret

SECURE_COOKIE: Final = "__Host-codex-relay"
PLAIN_COOKIE: Final = "codex-relay-console"
OIDC_COOKIE: Final = "__Host-codex-relay-oidc"
PLAIN_OIDC_COOKIE: Final = "codex-relay-oidc"
OIDC_COOKIE_S: Final = 600
CSRF_HEADER: Final = b"x-csrf-token"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_COOKIE: Final = 512
_AGENT_CHARS: Final = 200


def administrator(caller: Caller) -> Principal:
    """Who a key acts as on the admin API. Raises GatewayError ``forbidden``."""
    if "admin" not in caller.scopes:
        raise GatewayError.forbidden("it lacks the scope admin")
    return Principal(caller.key_id, f"key {caller.key_id}", Role.ADMIN)


class Access:
    """The checks in front of every handler. ``public_url``: what the settings say that clients use, or None.
    ``of_key``: who a key acts as behind this door."""

    def __init__(
        self,
        keys: KeyDirectory,
        sessions: SessionFinder,
        clock: Clock,
        public_url: str | None,
        of_key: Callable[[Caller], Principal] = administrator,
    ) -> None:
        self._keys = keys
        self._sessions = sessions
        self._clock = clock
        self._public = urlsplit(public_url) if public_url else None
        self._of_key = of_key

    def seen(self, scope: Mapping[str, Any]) -> Seen:
        """The client's side of the request."""
        fields: Sequence[RawHeader] = scope["headers"]
        host = _only(fields, b"host").lower()
        https = scope["scheme"] == "https" or (
            self._public is not None and self._public.scheme == "https" and self._public.netloc.lower() == host
        )
        client = scope.get("client")
        agent = _only(fields, b"user-agent")
        return Seen(
            origin=f"{'https' if https else 'http'}://{host}",
            https=https,
            address=client[0] if client else "",
            user_agent="".join(char for char in agent if " " <= char <= "~")[:_AGENT_CHARS],
        )

    async def admit(self, route: Route, scope: Mapping[str, Any], seen: Seen) -> Acting:
        """Who acts, if he may use the route. Raises GatewayError: https_required, not_signed_in, invalid_api_key,
        csrf_failed, forbidden."""
        fields: Sequence[RawHeader] = scope["headers"]
        if route.permission is None:
            must_be_private(seen)
            if route.changes and _foreign(fields, seen):
                raise csrf_failed("the request comes from another origin")
            return Acting(cookie=session_cookie(fields, seen))
        acting = await self.acting(fields, seen)
        if acting.cookie is not None and route.changes:
            self._must_be_meant(fields, seen, acting.cookie)
        assert acting.principal is not None
        must_be_allowed(route, acting.principal)
        return acting

    async def acting(self, fields: Sequence[RawHeader], seen: Seen) -> Acting:
        """Who is signed in. Raises GatewayError."""
        given = values_of(fields, b"authorization")
        if given:
            return self._key(given)
        must_be_private(seen)
        cookie = session_cookie(fields, seen)
        found = await self._sessions.find(cookie) if cookie else None
        if cookie is None or found is None:
            raise GatewayError("not_signed_in", "Nobody is signed in here. Sign in, or send a key with scope admin.")
        return Acting(found[0], cookie, None, found[1])

    def _key(self, given: list[bytes]) -> Acting:
        try:
            caller = self._keys.authenticate(given[0] if len(given) == 1 else None, self._clock.now_s())
        except AuthError:
            raise GatewayError(
                "invalid_api_key", "The API key is missing or not valid. Send it as: Authorization: Bearer <key>"
            ) from None
        return Acting(self._of_key(caller), None, caller)

    def _must_be_meant(self, fields: Sequence[RawHeader], seen: Seen, cookie: Secret) -> None:
        origins = values_of(fields, b"origin")
        same = [seen.origin.encode()] == origins if origins else _site(fields) == [b"same-origin"]
        if not same or _foreign(fields, seen):
            raise csrf_failed("it does not show that it comes from this console")
        token = values_of(fields, CSRF_HEADER)
        if len(token) != 1 or not self._sessions.csrf_fits(cookie, token[0].decode("latin-1")):
            raise csrf_failed("its x-csrf-token is not that of the session; read the session again")


def must_be_private(seen: Seen) -> None:
    """Raises GatewayError ``https_required`` when a browser would send secrets over a network in plain text."""
    if not seen.https and hostname(seen.origin) not in _LOOPBACK:
        raise GatewayError(
            "https_required",
            "The console is served over https, or over plain http on loopback. Set server.tls_cert_file, or "
            "server.public_url and server.trusted_proxies behind a proxy.",
        )


def must_be_allowed(route: Route, principal: Principal) -> None:
    """Raises GatewayError ``forbidden``."""
    assert route.permission is not None
    if not principal.may(route.permission):
        raise GatewayError("forbidden", f"The role {principal.role.value} lacks the permission {route.permission}.")
    if route.whole and principal.tenant_id is not None:
        raise GatewayError("forbidden", "This is about the gateway as a whole; you belong to one tenant.")
    if route.person and principal.session_id is None:
        raise GatewayError("forbidden", "A key has no password and no sessions; sign in for this.")


def csrf_failed(why: str) -> GatewayError:
    return GatewayError("csrf_failed", f"The request is refused: {why}.")


def hostname(origin: str) -> str:
    """The host of an origin without its port; empty when it cannot be read."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def cookies_of(fields: Sequence[RawHeader]) -> dict[str, str]:
    """Cookies by name. A name that comes twice is left out: nobody can say which one was meant."""
    found: dict[str, str] = {}
    twice: set[str] = set()
    for value in values_of(fields, b"cookie"):
        for part in value.decode("latin-1").split(";"):
            name, sign, text = part.strip().partition("=")
            if sign and name in found:
                twice.add(name)
            elif sign:
                found[name] = text
    return {name: text for name, text in found.items() if name not in twice and len(text) <= _MAX_COOKIE}


def session_cookie(fields: Sequence[RawHeader], seen: Seen) -> Secret | None:
    value = cookies_of(fields).get(SECURE_COOKIE if seen.https else PLAIN_COOKIE)
    return Secret(value) if value else None


def oidc_cookie_name(seen: Seen) -> str:
    return OIDC_COOKIE if seen.https else PLAIN_OIDC_COOKIE


def set_session(value: Secret, seen: Seen) -> RawHeader:
    """The header that sets the session's cookie: for the length of the browser's session, to this host alone."""
    return _set_cookie(SECURE_COOKIE if seen.https else PLAIN_COOKIE, value.reveal(), seen)


def clear_session(seen: Seen) -> RawHeader:
    return _set_cookie(SECURE_COOKIE if seen.https else PLAIN_COOKIE, "", seen, age_s=0)


def set_oidc(value: str, seen: Seen) -> RawHeader:
    """The header that ties a sign-in under way to this browser; empty: takes it away."""
    return _set_cookie(oidc_cookie_name(seen), value, seen, age_s=OIDC_COOKIE_S if value else 0)


def _set_cookie(name: str, value: str, seen: Seen, *, age_s: int | None = None) -> RawHeader:
    age = "" if age_s is None else f"; Max-Age={age_s}"
    secure = "; Secure" if seen.https else ""
    return b"set-cookie", f"{name}={value}; Path=/{age}; HttpOnly; SameSite=Lax{secure}".encode()


def _only(fields: Sequence[RawHeader], name: bytes) -> str:
    values = values_of(fields, name)
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _site(fields: Sequence[RawHeader]) -> list[bytes]:
    return values_of(fields, b"sec-fetch-site")


def _foreign(fields: Sequence[RawHeader], seen: Seen) -> bool:
    """Whether the browser says that another origin sent this."""
    return any(value != seen.origin.encode() for value in values_of(fields, b"origin")) or any(
        value not in (b"same-origin", b"none") for value in _site(fields)
    )
