"""How does a person sign in by the provider of his organisation, and which role does he get?

OpenID Connect, authorization code with PKCE (S256). Nothing is stored when a sign-in begins, so nobody fills the
store by beginning: ``state``, ``nonce`` and the verifier are made from the browser's own secret (a cookie that only
this browser has), and the place to go afterwards travels in ``state``, signed with it.

Rules that hold:

* an answer is taken from the browser that began, within ten minutes, once (its state is stored as used);
* a person is (issuer, sub), made when he first comes; neither name nor e-mail address ever leads to an account;
* his role is the highest that his groups have, and follows them with every sign-in. Without one he is refused, what
  he had is taken from him and his sessions end. Only the last enabled owner keeps the role's name, and gets in
  as little as anybody;
* afterwards the browser goes to a path of the console, never elsewhere.

What a token must say is in auth.oidc_token, what is asked of the provider in auth.oidc_provider.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec

from auth.admins import Admin, AdminDirectory, Subject
from auth.errors import LastOwner, NoSuchAdmin, OidcRefused
from auth.oidc_provider import Provider, short_word
from auth.oidc_token import Expected, check
from auth.proofs import ProofShelf
from auth.roles import Role
from auth.shelf import Shelf
from ops.clock import Clock
from store.base import DocumentStore
from store.records import Secret

STATE_KIND: Final = "oidc_state"
FLOW_S: Final = 600.0
HOME: Final = "/console/"
CALLBACK_PATH: Final = "/console/oidc/callback"
MIN_SECRET_CHARS: Final = 43
_MAX_NEXT: Final = 512
_MAX_STATE: Final = 2048
_NEXT: Final = re.compile(r"/console(?:[/?#][A-Za-z0-9/_.~!$&'()*+,;=:@%?#-]*)?")
_CODE: Final = re.compile(r"[\x21-\x7e]{1,2048}")
_PATH_TRAPS: Final = ("//", "/.", "%2f", "%5c", "%2e", "%0", "%1", "%7f")


@dataclass(frozen=True, slots=True)
class OidcPolicy:
    """Whom we ask and what his answers are worth. ``redirect_uri`` is the public URL and CALLBACK_PATH; ``roles`` is
    from group to role."""

    issuer: str
    client_id: str
    redirect_uri: str
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    groups_claim: str = "groups"
    roles: Mapping[str, Role] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _State:
    """What ``state`` carries; short names, as it stands in a URL."""

    n: str  # where to go afterwards
    t: int  # when it began
    r: str  # random


@dataclass(frozen=True, slots=True)
class _Used:
    at_s: float


class OidcSignIn:
    """Sign-ins by one provider. Every method may raise StoreError."""

    def __init__(
        self,
        policy: OidcPolicy,
        http: httpx.AsyncClient,
        documents: DocumentStore,
        admins: AdminDirectory,
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._provider = Provider(http, policy.issuer, policy.client_id, policy.client_secret, clock)
        self._used = Shelf(documents, STATE_KIND, _Used)
        self._proofs = ProofShelf(documents)
        self._admins = admins
        self._clock = clock

    async def start(self, next_path: str, browser_secret: Secret) -> str:
        """The provider's address to send this browser to.

        ``browser_secret`` is fresh (:func:`new_browser_secret`) and goes into a cookie that scripts cannot read.
        Raises OidcUnavailable; ValueError for a secret that is too short to be one.
        """
        if len(browser_secret.reveal()) < MIN_SECRET_CHARS:
            raise ValueError("the browser's secret is too short; make one with new_browser_secret()")
        url = (await self._provider.endpoints()).authorization
        body = msgspec.json.encode(_State(safe_next(next_path), int(self._clock.now_s()), secrets.token_urlsafe(16)))
        payload = _text(body)
        state = f"{payload}.{_derived(browser_secret, 'state', payload)}"
        verifier = _derived(browser_secret, "verifier", state)
        query = {
            "response_type": "code",
            "client_id": self._policy.client_id,
            "redirect_uri": self._policy.redirect_uri,
            "scope": " ".join(self._policy.scopes),
            "state": state,
            "nonce": _derived(browser_secret, "nonce", state),
            "code_challenge": _text(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}"

    async def finish(self, query: Mapping[str, str], browser_secret: Secret | None) -> tuple[Admin, str]:
        """The person, and where to go now; open a session for him, and clear the browser's secret in any case.

        Raises OidcRefused (this person or this answer is not let in), OidcUnavailable (the provider's trouble).
        """
        state, opened = self._opened(query.get("state", ""), browser_secret)
        assert browser_secret is not None
        now_s = self._clock.now_s()
        digest = hashlib.sha256(state.encode()).hexdigest()
        if not await self._used.add(digest, _Used(now_s), now_s + 2 * FLOW_S):
            raise OidcRefused("state_used", "this answer was used already; begin again")
        await self._check_answer(query)
        verifier = _derived(browser_secret, "verifier", state)
        tokens = await self._provider.exchange(query["code"], verifier, self._policy.redirect_uri)
        signing = await self._provider.key_for(tokens.id_token)
        nonce = _derived(browser_secret, "nonce", state)
        expected = Expected(self._policy.issuer, self._policy.client_id, nonce, tokens.access_token)
        claims = check(tokens.id_token, signing, expected, self._clock.now_s())
        if self._policy.groups_claim not in claims and tokens.access_token is not None:
            claims = {**await self._provider.userinfo(tokens.access_token, claims["sub"]), **claims}
        return await self._person(claims), safe_next(opened.n)

    def _opened(self, state: str, browser_secret: Secret | None) -> tuple[str, _State]:
        """The state, when this browser began the sign-in and not too long ago."""
        foreign = OidcRefused(
            "state_mismatch", "this sign-in was not begun in this browser, or too long ago; begin again at the console"
        )
        payload, _, signature = state.partition(".")
        secret = browser_secret.reveal() if browser_secret is not None else ""
        if browser_secret is None or len(secret) < MIN_SECRET_CHARS or len(state) > _MAX_STATE or not state.isascii():
            raise foreign
        if not hmac.compare_digest(signature, _derived(browser_secret, "state", payload)):
            raise foreign
        try:
            opened = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_State)
        except (ValueError, msgspec.MsgspecError):
            raise foreign from None
        if not -FLOW_S < self._clock.now_s() - opened.t < FLOW_S:
            raise foreign
        return state, opened

    async def _check_answer(self, query: Mapping[str, str]) -> None:
        issuer = query.get("iss")
        wanted = (await self._provider.endpoints()).names_itself
        if (issuer is not None or wanted) and issuer != self._policy.issuer:
            raise OidcRefused("wrong_issuer", "the answer is of another provider than was asked; begin again")
        if "error" in query:
            raise OidcRefused("provider_refused", f"the provider refused the sign-in ({short_word(query['error'])})")
        if not _CODE.fullmatch(query.get("code", "")):
            raise OidcRefused("no_code", "the provider's answer holds no code; begin again")

    async def _person(self, claims: Mapping[str, Any]) -> Admin:
        subject = Subject(self._policy.issuer, claims["sub"])
        role = highest_role(claims.get(self._policy.groups_claim), self._policy.roles)
        known = await self._admins.by_subject(subject)
        if role is None:
            if known is not None:
                await self._strip(known)
            raise OidcRefused("no_role", "none of your groups has a role here; ask whoever keeps the groups")
        admin = known or await self._admins.create_subject(subject, _wish(claims), role)
        if not admin.enabled:
            raise OidcRefused("disabled", "this account is disabled; ask an owner")
        try:
            if admin.role is not role:
                admin = await self._admins.change(admin.id, role=role)
        except LastOwner:
            raise OidcRefused(
                "last_owner", "your groups make you no owner any more, and you are the last; make another owner first"
            ) from None
        except NoSuchAdmin:
            raise OidcRefused("disabled", "this account was removed just now; sign in again") from None
        now_s = self._clock.now_s()
        await self._proofs.change(admin.id, lambda proof: replace(proof, last_login_at_s=now_s))
        return replace(admin, last_login_at_s=now_s)

    async def _strip(self, admin: Admin) -> None:
        """Takes the role away and ends the sessions; the last owner's role stays, his sessions end as well."""
        with contextlib.suppress(LastOwner):
            await self._admins.change(admin.id, role=Role.MEMBER)
        await self._admins.end_sessions(admin.id)


def new_browser_secret() -> Secret:
    """256 bits for the cookie of one sign-in."""
    return Secret(secrets.token_urlsafe(32))


def highest_role(groups: object, roles: Mapping[str, Role]) -> Role | None:
    """The highest role of the groups; None for none, and for a claim that is neither a list nor a text."""
    names = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
    found = {roles[name] for name in names if isinstance(name, str) and name in roles}
    return next((role for role in Role if role in found), None)


def safe_next(path: str) -> str:
    """``path`` when it is a plain path of the console, else the console's front page."""
    folded = path.partition("?")[0].partition("#")[0].lower()
    fits = len(path) <= _MAX_NEXT and _NEXT.fullmatch(path) is not None
    return path if fits and not any(trap in folded for trap in _PATH_TRAPS) else HOME


def _wish(claims: Mapping[str, Any]) -> str:
    """What the person would be called, for display alone."""
    names = (claims.get(name) for name in ("preferred_username", "email", "sub"))
    return next((name for name in names if isinstance(name, str) and name), "person")


def _derived(secret: Secret, label: str, text: str) -> str:
    """256 bits that only who holds the secret can make; each label's are apart from the others'."""
    return _text(hmac.digest(secret.reveal().encode(), f"codex-relay oidc {label}\n{text}".encode(), "sha256"))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
