"""``/admin/api/logins``: accounts on their way in, by a device code or by the address that a browser ended at.

The code and the addresses of a login are shown only to those who may add accounts: who reads alone cannot finish a
login with an account of his own. A browser login is finished by the session (or key) that began it. How a login goes,
and its lines in the audit log, are auth.onboarding's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from auth.logins import Login, LoginKind
from auth.roles import Permission
from gateway.admin.acts import Acts
from gateway.admin.answers import LoginAnswer, LoginFailure, LoginList
from gateway.admin.bodies import CallbackBody, NewLogin
from gateway.admin.types import Call, Handlers, Reply


class Logins(Protocol):
    """auth.onboarding.Onboarding, as far as it is asked here."""

    async def begin(
        self,
        kind: LoginKind,
        *,
        requested_by: str,
        session_id: str,
        pool: str | None = None,
        label: str | None = None,
        expect: str | None = None,
    ) -> Login: ...

    async def all(self) -> Sequence[Login]: ...

    async def get(self, login_id: str) -> Login: ...

    async def cancel(self, login_id: str, by: str) -> Login: ...

    async def take_callback(self, login_id: str, url: str, session_id: str) -> Login: ...


class LoginDesk:
    def __init__(self, logins: Logins, acts: Acts) -> None:
        self._logins = logins
        self._acts = acts

    def handlers(self) -> Handlers:
        return {
            "logins.list": self.list,
            "logins.create": self.create,
            "logins.show": self.show,
            "logins.cancel": self.cancel,
            "logins.callback": self.callback,
        }

    async def list(self, call: Call) -> Reply:
        return Reply(LoginList(items=[view(one, call) for one in await self._logins.all()]))

    async def create(self, call: Call) -> Reply:
        body: NewLogin = call.body
        await self._acts.check()
        login = await self._logins.begin(
            LoginKind(body.kind),
            requested_by=call.principal.actor,
            session_id=holder(call),
            pool=body.pool,
            label=body.label,
            expect=body.expect,
        )
        return Reply(view(login, call), 201)

    async def show(self, call: Call) -> Reply:
        return Reply(view(await self._logins.get(call.target), call))

    async def cancel(self, call: Call) -> Reply:
        await self._acts.check()
        login = await self._logins.cancel(call.target, call.principal.actor)
        return Reply(view(login, call))

    async def callback(self, call: Call) -> Reply:
        body: CallbackBody = call.body
        await self._acts.check()
        login = await self._logins.take_callback(call.target, body.url, holder(call))
        return Reply(view(login, call))


def holder(call: Call) -> str:
    """What a browser login is bound to: the console session, or the key."""
    return call.principal.session_id or call.principal.actor


def view(login: Login, call: Call) -> LoginAnswer:
    """The login, for who asks."""
    may = call.principal.may(Permission.ACCOUNTS_WRITE)
    failure = login.failure
    return LoginAnswer(
        id=login.id,
        kind=login.kind.value,
        state=login.state.value,
        requested_by=login.requested_by,
        pool=login.pool,
        label=login.label,
        expect=login.expect,
        user_code=login.user_code if may else None,
        verification_url=login.verification_url if may else None,
        authorize_url=login.authorize_url if may else None,
        created_at_s=login.created_at_s,
        expires_at_s=login.expires_at_s,
        failure=None if failure is None else LoginFailure(code=failure.code, message=failure.message),
        account_id=login.account_id,
        account_label=login.account_label,
        version=login.version,
    )
