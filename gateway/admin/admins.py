"""``/admin/api/admins``: who may sign in, in which role. Only an owner changes anybody.

A new person gets a one-time link to set a password; a reset makes a new link, takes away what the person proved
himself with before, and ends his sessions. A link is in the answer that made it and nowhere else. That an enabled
owner remains is kept by auth.admins, whatever is asked at once.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from auth.admins import KEEP, Admin, AdminDirectory
from auth.roles import Role
from auth.signin import SignIn, link_url
from gateway.admin.accounts import given
from gateway.admin.acts import Acts
from gateway.admin.answers import AdminAnswer, AdminList, InvitedAdmin, LinkAnswer
from gateway.admin.bodies import AdminChange, NewAdmin
from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from store.base import KeyStore


class Admins:
    """``public_url``: the URL that people use, for links; None: that of the request."""

    def __init__(
        self, admins: AdminDirectory, signin: SignIn, tenants: KeyStore, acts: Acts, public_url: str | None
    ) -> None:
        self._admins = admins
        self._signin = signin
        self._tenants = tenants
        self._acts = acts
        self._public_url = public_url

    def handlers(self) -> Handlers:
        return {
            "admins.list": self.list,
            "admins.create": self.create,
            "admins.change": self.change,
            "admins.reset": self.reset,
            "admins.remove": self.remove,
        }

    async def list(self, _call: Call) -> Reply:
        return Reply(AdminList(items=[view(one) for one in await self._admins.all()]))

    async def create(self, call: Call) -> Reply:
        body: NewAdmin = call.body
        await self._must_be_tenant(body.tenant_id)
        async with self._acts.act(call, "admin.create", role=body.role) as detail:
            admin = await self._admins.create(body.name, Role(body.role), body.tenant_id)
            detail["admin"] = admin.id
            link = await self._link(call, admin)
        return Reply(InvitedAdmin(admin=view(admin), link=link), 201)

    async def change(self, call: Call) -> Reply:
        body: AdminChange = call.body
        if body.tenant_id is not UNSET:
            await self._must_be_tenant(body.tenant_id)
        changes: dict[str, Any] = given(body, ("role", "enabled"))
        async with self._acts.act(call, "admin.set", (await self._admin(call)).id, **changes):
            admin = await self._admins.change(
                call.target,
                version=body.version,
                role=None if body.role is UNSET else Role(body.role),
                enabled=None if body.enabled is UNSET else body.enabled,
                tenant_id=KEEP if body.tenant_id is UNSET else body.tenant_id,
            )
        return Reply(view(admin))

    async def reset(self, call: Call) -> Reply:
        admin = await self._admin(call)
        async with self._acts.act(call, "admin.reset", admin.id):
            link = await self._link(call, admin)
        return Reply(LinkAnswer(link=link))

    async def remove(self, call: Call) -> Reply:
        admin = await self._admin(call)
        async with self._acts.act(call, "admin.remove", admin.id):
            await self._admins.remove(admin.id)
        return Reply(None, 204)

    async def _link(self, call: Call, admin: Admin) -> str:
        token = await self._signin.invite(admin)
        return link_url(self._public_url or call.seen.origin, token).reveal()

    async def _admin(self, call: Call) -> Admin:
        admin = await self._admins.get(call.target)
        if admin is None:
            raise absent("administrator")
        return admin

    async def _must_be_tenant(self, tenant_id: str | None) -> None:
        if tenant_id is not None and tenant_id not in {one.id for one in await self._tenants.tenants()}:
            raise GatewayError.invalid("There is no such tenant.", "tenant_id")


def view(admin: Admin) -> AdminAnswer:
    return AdminAnswer(
        id=admin.id,
        name=admin.name,
        role=admin.role.value,
        tenant_id=admin.tenant_id,
        enabled=admin.enabled,
        totp_enabled=admin.totp_enabled,
        sso=admin.sso,
        created_at_s=admin.created_at_s,
        last_login_at_s=admin.last_login_at_s,
        version=admin.version,
    )
