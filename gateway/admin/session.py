"""Signing in and out over HTTP: ``/admin/api/sign-in``, ``session`` and ``bootstrap``.

Rules that hold:

* every sign-in opens a session of its own with a new cookie; a session that the browser brought along is ended;
* it is audited whether or not it went well, and refused when that could not be: 503, and nothing was checked. What
  was typed (a name, a password, a code, a link) is never part of a record of a failure, as it may be a secret typed
  into the wrong field;
* the cookie's value is in the ``Set-Cookie`` header and nowhere else.

Who may sign in is auth.signin's matter, how long it holds auth.sessions'.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from auth.admins import Admin, AdminDirectory
from auth.errors import AuthError, SignInRefused
from auth.roles import Principal
from auth.sessions import Sessions, SessionView
from auth.signin import SignIn
from gateway.admin.access import clear_session, set_session
from gateway.admin.acts import Acts
from gateway.admin.answers import Features, PrincipalView, SessionAnswer, SignInOptions
from gateway.admin.bodies import BootstrapBody, SignInBody
from gateway.admin.types import Acting, Call, Handlers, RawHeader, Reply
from store.records import Secret

ANONYMOUS = "anonymous"


class SignInDoor:
    """What opens sessions; single sign-on comes in by :meth:`welcome` too."""

    def __init__(
        self, admins: AdminDirectory, sessions: Sessions, signin: SignIn, acts: Acts, *, oidc: bool, sandbox: bool
    ) -> None:
        self._admins = admins
        self._sessions = sessions
        self._signin = signin
        self._acts = acts
        self._oidc = oidc
        self._sandbox = sandbox

    def handlers(self) -> Handlers:
        return {
            "sign_in.options": self.options,
            "session.open": self.open,
            "bootstrap": self.redeem,
            "session.show": self.show,
            "session.close": self.close,
        }

    async def options(self, _call: Call) -> Reply:
        needed = await self._signin.bootstrap_needed()
        return Reply(SignInOptions(password=True, oidc=self._oidc, bootstrap_needed=needed))

    async def open(self, call: Call) -> Reply:
        body: SignInBody = call.body
        async with self.refusals(call, "session.open"):
            admin = await self._signin.password(
                body.name, Secret(body.password), body.code, address=call.seen.address
            )  # fmt: skip
        return await self._opened(call, admin, "session.open")

    async def redeem(self, call: Call) -> Reply:
        body: BootstrapBody = call.body
        async with self.refusals(call, "link.redeem"):
            admin = await self._signin.redeem(Secret(body.token), body.name, Secret(body.password))
        return await self._opened(call, admin, "link.redeem")

    async def show(self, call: Call) -> Reply:
        acting = call.acting
        admin = None if acting.session is None else await self._admins.get(acting.session.admin_id)
        return Reply(self._answer(call.principal, acting, totp=admin is not None and admin.totp_enabled))

    async def close(self, call: Call) -> Reply:
        assert call.acting.session is not None
        async with self._acts.act(call, "session.close", call.principal.id):
            await self._sessions.close(call.acting.session.id)
        return Reply(None, 204, (clear_session(call.seen),))

    async def _opened(self, call: Call, admin: Admin, action: str) -> Reply:
        acting, cookie = await self.welcome(call, admin, action)
        assert acting.principal is not None
        answer = self._answer(acting.principal, acting, totp=admin.totp_enabled)
        return Reply(answer, 200, (cookie,), acting.principal.actor)

    async def welcome(self, call: Call, admin: Admin, action: str) -> tuple[Acting, RawHeader]:
        """A session for a person who has proved himself, on record, and the header with its cookie."""
        if call.acting.cookie is not None and (old := await self._sessions.find(call.acting.cookie)) is not None:
            await self._sessions.close(old[1].id)
        secret, view = await self._sessions.open(
            admin, address=call.seen.address, user_agent=call.seen.user_agent
        )  # fmt: skip
        principal = Principal(admin.id, admin.name, admin.role, view.id, admin.tenant_id)
        await self._acts.record(call, principal.actor, action, "ok", admin.id, role=admin.role.value)
        return Acting(principal, secret, None, view), set_session(secret, call.seen)

    @asynccontextmanager
    async def refusals(self, call: Call, action: str) -> AsyncIterator[None]:
        """Records that somebody was not let in, by the word of the reason, and passes the error on."""
        await self._acts.check()
        try:
            yield
        except AuthError as error:
            why = error.code if isinstance(error, SignInRefused) else type(error).__name__
            await self._acts.record(call, ANONYMOUS, action, "failed", None, reason=why)
            raise

    def _answer(self, principal: Principal, acting: Acting, *, totp: bool) -> SessionAnswer:
        view: SessionView | None = acting.session
        return SessionAnswer(
            principal=PrincipalView(
                id=principal.id, name=principal.name, role=principal.role.value, tenant_id=principal.tenant_id
            ),
            csrf_token=None if acting.cookie is None else self._sessions.csrf_token(acting.cookie),
            expires_at_s=None if view is None else view.expires_at_s,
            idle_expires_at_s=None if view is None else view.idle_expires_at_s,
            totp_enabled=totp,
            features=Features(sandbox=self._sandbox),
        )
