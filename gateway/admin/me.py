"""``/admin/api/me``: one's own password, one-time codes and sessions. Never anybody else's.

A new password ends every session of the person; the answer brings a new cookie, so that the browser that asked stays
signed in. Its CSRF token is new as well: the session is to be read again. Of the sessions one may end only one's own;
another's id is a 404, as is one that never was.
"""

from __future__ import annotations

from auth.admins import Admin, AdminDirectory
from auth.errors import PasswordRefused
from auth.sessions import Sessions
from auth.signin import SignIn
from gateway.admin.access import set_session
from gateway.admin.acts import Acts
from gateway.admin.answers import SessionItem, SessionList, TotpAnswer
from gateway.admin.bodies import CodeBody, ConfirmPasswordBody, PasswordBody
from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from store.records import Secret


class Me:
    def __init__(self, admins: AdminDirectory, sessions: Sessions, signin: SignIn, acts: Acts) -> None:
        self._admins = admins
        self._sessions = sessions
        self._signin = signin
        self._acts = acts

    def handlers(self) -> Handlers:
        return {
            "me.password": self.password,
            "me.totp.begin": self.begin_totp,
            "me.totp.confirm": self.confirm_totp,
            "me.totp.drop": self.drop_totp,
            "me.sessions": self.sessions,
            "me.sessions.close": self.close_session,
        }

    async def password(self, call: Call) -> Reply:
        body: PasswordBody = call.body
        admin = await self._self(call)
        async with self._acts.act(call, "admin.password", admin.id):
            try:
                fresh = await self._signin.change_password(admin, Secret(body.old), Secret(body.new))
            except PasswordRefused as error:
                raise GatewayError.invalid(f"{error}.", "new") from error
        cookie, _ = await self._sessions.open(
            fresh, address=call.seen.address, user_agent=call.seen.user_agent
        )  # fmt: skip
        return Reply(None, 204, (set_session(cookie, call.seen),))

    async def begin_totp(self, call: Call) -> Reply:
        admin = await self._self(call)
        async with self._acts.act(call, "admin.totp.begin", admin.id):
            offer = await self._signin.begin_totp(admin)
        return Reply(TotpAnswer(secret=offer.secret.reveal(), uri=offer.uri.reveal()))

    async def confirm_totp(self, call: Call) -> Reply:
        body: CodeBody = call.body
        admin = await self._self(call)
        async with self._acts.act(call, "admin.totp.on", admin.id):
            await self._signin.confirm_totp(admin, body.code)
        return Reply(None, 204)

    async def drop_totp(self, call: Call) -> Reply:
        body: ConfirmPasswordBody = call.body
        admin = await self._self(call)
        async with self._acts.act(call, "admin.totp.off", admin.id):
            await self._signin.drop_totp(admin, Secret(body.password))
        return Reply(None, 204)

    async def sessions(self, call: Call) -> Reply:
        own = await self._sessions.of(call.principal.id)
        return Reply(
            SessionList(
                items=[
                    SessionItem(
                        id=one.id,
                        created_at_s=one.created_at_s,
                        seen_at_s=one.seen_at_s,
                        expires_at_s=one.expires_at_s,
                        current=one.id == call.principal.session_id,
                        address=one.address,
                        user_agent=one.user_agent,
                    )
                    for one in own
                ]
            )
        )

    async def close_session(self, call: Call) -> Reply:
        if call.target not in {one.id for one in await self._sessions.of(call.principal.id)}:
            raise absent("session")
        async with self._acts.act(call, "session.close", call.principal.id):
            await self._sessions.close(call.target)
        return Reply(None, 204)

    async def _self(self, call: Call) -> Admin:
        admin = await self._admins.get(call.principal.id)
        if admin is None:
            raise absent("administrator")
        return admin
