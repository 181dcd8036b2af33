"""``/admin/api/tenants``: groups of client keys, with limits and pools of their own.

A principal that is bound to a tenant sees that tenant and no other; making, changing and removing tenants is about
the gateway as a whole and not for it (gateway.admin.routes). Removing takes the tenant's name as confirmation.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from msgspec import UNSET

from auth.roles import Principal
from gateway.admin.acts import Acts
from gateway.admin.answers import LimitsView, Removed, TenantAnswer, TenantList
from gateway.admin.bodies import Confirmation, LimitsBody, NewTenant, TenantChange
from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from ops.clock import Clock
from store.base import KeyStore
from store.records import Limits, Tenant


class Tenants:
    def __init__(self, store: KeyStore, acts: Acts, clock: Clock) -> None:
        self._store = store
        self._acts = acts
        self._clock = clock

    def handlers(self) -> Handlers:
        return {
            "tenants.list": self.list,
            "tenants.create": self.create,
            "tenants.change": self.change,
            "tenants.remove": self.remove,
        }

    async def list(self, call: Call) -> Reply:
        every = await self._store.tenants()
        return Reply(TenantList(items=[view(one) for one in every if may_see(call.principal, one.id)]))

    async def create(self, call: Call) -> Reply:
        body: NewTenant = call.body
        tenant = Tenant(
            id=f"ten_{secrets.token_hex(8)}",
            name=body.name,
            limits=limits_of(body.limits),
            pools=tuple(dict.fromkeys(body.pools)),
            created_at_s=self._clock.now_s(),
        )
        async with self._acts.act(call, "tenant.create", tenant.id, tenant_id=tenant.id):
            await self._store.add_tenant(tenant)
        return Reply(view(tenant), 201)

    async def change(self, call: Call) -> Reply:
        body: TenantChange = call.body
        old = await self._tenant(call)
        new = replace(
            old,
            name=old.name if body.name is UNSET else body.name,
            pools=old.pools if body.pools is UNSET else tuple(dict.fromkeys(body.pools)),
            limits=old.limits if body.limits is UNSET else limits_of(body.limits),
            enabled=old.enabled if body.enabled is UNSET else body.enabled,
        )
        async with self._acts.act(call, "tenant.set", old.id, tenant_id=old.id):
            stored = await self._store.put_tenant(new, body.version or old.version)
        return Reply(view(stored))

    async def remove(self, call: Call) -> Reply:
        body: Confirmation = call.body
        old = await self._tenant(call)
        must_confirm(body, old.name)
        async with self._acts.act(call, "tenant.remove", old.id, tenant_id=old.id):
            await self._store.remove_tenant(old.id)
        return Reply(Removed(id=old.id))

    async def _tenant(self, call: Call) -> Tenant:
        return await tenant_of(self._store, call.principal, call.target)


async def tenant_of(store: KeyStore, principal: Principal, given: str) -> Tenant:
    """The tenant with this id, if the principal may see it. Raises GatewayError ``not_found``."""
    for one in await store.tenants():
        if one.id == given and may_see(principal, one.id):
            return one
    raise absent("tenant")


def may_see(principal: Principal, tenant_id: str | None) -> bool:
    """Whether what belongs to ``tenant_id`` exists for the principal."""
    return principal.tenant_id is None or principal.tenant_id == tenant_id


def must_confirm(body: Confirmation, name: str) -> None:
    """Raises GatewayError when what was typed is not the name of what would go."""
    if body.confirm != name:
        raise GatewayError.invalid("Repeat the exact name of what is to be removed; nothing was removed.", "confirm")


def limits_of(body: LimitsBody | None) -> Limits:
    return Limits() if body is None else Limits(body.requests_per_minute, body.concurrent_streams)


def limits_view(limits: Limits) -> LimitsView:
    return LimitsView(
        requests_per_minute=limits.requests_per_minute, concurrent_streams=limits.concurrent_streams
    )  # fmt: skip


def view(tenant: Tenant) -> TenantAnswer:
    return TenantAnswer(
        id=tenant.id,
        name=tenant.name,
        pools=list(tenant.pools),
        limits=limits_view(tenant.limits),
        enabled=tenant.enabled,
        created_at_s=tenant.created_at_s,
        version=tenant.version,
    )
