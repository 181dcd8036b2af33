"""``/admin/api/keys``: what clients call the gateway with. The key itself is in one answer only: that which made it.

Rules that hold:

* nobody gives more than he has: a key that acts here gives only scopes of its own, and never ``admin``; with a list of
  models it gives only those. A person who may write keys may give every scope, as ``admin`` is not more than his role;
* a principal that is bound to a tenant sees and makes keys of that tenant only; for it, others do not exist, and it
  never gives the scope ``admin``, which is bound to none;
* revoking is for good and repeating it is no error.
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from auth.keys import PEPPER_BYTES, PEPPER_NAME, SCOPES, KeyRing
from gateway.admin.acts import Acts
from gateway.admin.answers import KeyAnswer, KeyList, MintedKey
from gateway.admin.bodies import KeysQuery, NewKey
from gateway.admin.faults import absent
from gateway.admin.tenants import limits_of, limits_view, may_see
from gateway.admin.types import Acting, Call, Handlers, Reply
from gateway.errors import GatewayError
from ops.clock import Clock
from store.base import KeyStore
from store.records import ClientKey, Tenant


class Keys:
    def __init__(self, store: KeyStore, acts: Acts, clock: Clock) -> None:
        self._store = store
        self._acts = acts
        self._clock = clock

    def handlers(self) -> Handlers:
        return {"keys.list": self.list, "keys.create": self.create, "keys.revoke": self.revoke}

    async def list(self, call: Call) -> Reply:
        query: KeysQuery = call.query
        only = None if query.tenant is None else (await self._tenant(call, query.tenant)).id
        return Reply(
            KeyList(
                items=[
                    view(one)
                    for one in await self._store.keys()
                    if may_see(call.principal, one.tenant_id) and only in (None, one.tenant_id)
                ]
            )
        )

    async def create(self, call: Call) -> Reply:
        body: NewKey = call.body
        must_be_own(call.acting, body)
        owner = await self._tenant(call, body.tenant)
        now_s = self._clock.now_s()
        pepper = await self._store.sealed_value(PEPPER_NAME, secrets.token_bytes(PEPPER_BYTES))
        plain, record = KeyRing(pepper).mint(
            owner.id,
            now_s=now_s,
            name=body.name or "",
            scopes=frozenset(body.scopes),
            models=tuple(dict.fromkeys(body.models)),
            limits=limits_of(body.limits),
            expires_at_s=None if body.expires_in_s is None else now_s + body.expires_in_s,
        )
        scopes = ",".join(sorted(record.scopes))
        async with self._acts.act(call, "key.create", record.id, tenant_id=owner.id, scopes=scopes):
            await self._store.add_key(record)
        return Reply(MintedKey(key=plain.reveal(), record=view(record)), 201)

    async def revoke(self, call: Call) -> Reply:
        old = next((one for one in await self._store.keys() if one.id == call.target), None)
        if old is None or not may_see(call.principal, old.tenant_id):
            raise absent("key")
        if old.revoked_at_s is not None:
            return Reply(view(old))
        async with self._acts.act(call, "key.revoke", old.id, tenant_id=old.tenant_id):
            stored = await self._store.put_key(replace(old, revoked_at_s=self._clock.now_s()), old.version)
        return Reply(view(stored))

    async def _tenant(self, call: Call, given: str) -> Tenant:
        """By id, else by name. Raises GatewayError ``not_found``."""
        seen = [one for one in await self._store.tenants() if may_see(call.principal, one.id)]
        found = next((one for one in seen if one.id == given), None)
        found = found or next((one for one in seen if one.name == given), None)
        if found is None:
            raise absent("tenant")
        return found


def must_be_own(acting: Acting, wanted: NewKey) -> None:
    """Raises GatewayError ``forbidden`` when the key would be able to do more than who makes it."""
    caller, principal = acting.caller, acting.principal
    may_give = SCOPES if caller is None else caller.scopes - {"admin"}
    if principal is None or principal.tenant_id is not None:
        may_give = may_give - {"admin"}
    if beyond := set(wanted.scopes) - may_give:
        raise GatewayError("forbidden", f"You may not give the scope {min(beyond)}.", param="scopes")
    if caller is not None and caller.models and (not wanted.models or set(wanted.models) - set(caller.models)):
        raise GatewayError("forbidden", "You may give only models that your own key has.", param="models")


def view(key: ClientKey) -> KeyAnswer:
    """What is shown of a stored key."""
    return KeyAnswer(
        id=key.id,
        tenant_id=key.tenant_id,
        name=key.name,
        scopes=sorted(key.scopes),
        models=list(key.models),
        limits=limits_view(key.limits),
        expires_at_s=key.expires_at_s,
        revoked_at_s=key.revoked_at_s,
        created_at_s=key.created_at_s,
        version=key.version,
    )
