"""Where a browser goes to sign in by a provider: ``/console/oidc/start`` and ``/console/oidc/callback``.

Both answer with a redirect, never with a page. A secret in a cookie of this browser ties the two together: an answer
that another browser began is refused (auth.oidc). What went wrong is told to the sign-in page by one word in its
address, which holds nothing secret; whoever is let in goes to the path of the console that he came for.
"""

from __future__ import annotations

import re
from typing import Final

from auth.errors import AuthError, OidcRefused, OidcUnavailable
from auth.oidc import OidcSignIn, new_browser_secret
from gateway.admin.access import oidc_cookie_name, set_oidc
from gateway.admin.bodies import OidcCallbackQuery, OidcStartQuery
from gateway.admin.session import SignInDoor
from gateway.admin.types import Call, Handlers, RawHeader, Reply
from store.records import Secret

SIGN_IN_PAGE: Final = "/console/sign-in"
_WORD: Final = re.compile(r"[a-z_]{1,64}")


class OidcDoor:
    def __init__(self, oidc: OidcSignIn, door: SignInDoor) -> None:
        self._oidc = oidc
        self._door = door

    def handlers(self) -> Handlers:
        return {"oidc.start": self.start, "oidc.callback": self.callback}

    async def start(self, call: Call) -> Reply:
        query: OidcStartQuery = call.query
        secret = new_browser_secret()
        try:
            url = await self._oidc.start(query.next, secret)
        except (OidcRefused, OidcUnavailable) as error:
            return refused(error)
        return redirect(url, set_oidc(secret.reveal(), call.seen))

    async def callback(self, call: Call) -> Reply:
        query: OidcCallbackQuery = call.query
        given = {"state": query.state, "code": query.code, "error": query.error, "iss": query.iss}
        value = call.cookies.get(oidc_cookie_name(call.seen))
        over = set_oidc("", call.seen)
        try:
            async with self._door.refusals(call, "session.open"):
                admin, path = await self._oidc.finish(
                    {name: text for name, text in given.items() if text}, Secret(value) if value else None
                )
        except (OidcRefused, OidcUnavailable) as error:
            return refused(error, over)
        acting, cookie = await self._door.welcome(call, admin, "session.open")
        assert acting.principal is not None
        return redirect(path, over, cookie, actor=acting.principal.actor)


def redirect(location: str, *headers: RawHeader, actor: str | None = None) -> Reply:
    return Reply(None, 302, ((b"location", location.encode("ascii")), *headers), actor)


def refused(error: AuthError, *headers: RawHeader) -> Reply:
    """Back to the sign-in page, with the word of the reason."""
    code = str(getattr(error, "code", ""))
    return redirect(f"{SIGN_IN_PAGE}?error={code if _WORD.fullmatch(code) else 'refused'}", *headers)
