"""Tenants, client keys and sealed values in Redis: one look and one commit each.

A client key rests as the keyed hash that the caller made; a sealed value is a secret of the gateway itself (such as
the key of that hash), placed by its name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from store.errors import Conflict, NotFound
from store.records import ClientKey, Tenant
from store.redis_records import Decision, Op, RedisRecords, Seen, Table, drop, get, pairs, touch, whole
from store.vault import Place, Vault

_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_tenant: Final = msgspec.msgpack.Decoder(Tenant).decode
_decode_key: Final = msgspec.msgpack.Decoder(ClientKey).decode


async def tenants(records: RedisRecords) -> tuple[Tenant, ...]:
    (rows,) = (await records.look(whole(Table.TENANTS))).found
    found = [_decode_tenant(row) for row in rows[1::2]]
    return tuple(sorted(found, key=lambda one: (one.created_at_s, one.id)))


async def add_tenant(records: RedisRecords, new: Tenant) -> None:
    def decide(seen: Seen) -> Decision[None]:
        if any(found is not None for found in seen.found):
            raise Conflict(f"a tenant with this id or the name {new.name!r} exists already")
        return Decision(
            None,
            [
                ("HSET", Table.TENANTS, new.id, _encode(new)),
                ("HSET", Table.TENANT_NAMES, new.name, new.id),
                touch(),
            ],
        )

    await records.transact([get(Table.TENANTS, new.id), get(Table.TENANT_NAMES, new.name)], decide)


async def put_tenant(records: RedisRecords, changed: Tenant, expected_version: int) -> Tenant:
    stored = replace(changed, version=expected_version + 1)

    def decide(seen: Seen) -> Decision[Tenant]:
        row, twin = seen.found
        if row is None:
            raise NotFound(f"there is no tenant {changed.id!r}")
        if twin is not None and twin != changed.id.encode():
            raise Conflict(f"another tenant has the name {changed.name!r}")
        old = _decode_tenant(row)
        if old.version != expected_version:
            raise Conflict(f"tenant {changed.id!r} has changed since it was read")
        ops: list[Op] = [("HSET", Table.TENANTS, changed.id, _encode(stored)), touch()]
        if twin is None:
            ops += [("HDEL", Table.TENANT_NAMES, old.name), ("HSET", Table.TENANT_NAMES, changed.name, changed.id)]
        return Decision(stored, ops)

    return await records.transact([get(Table.TENANTS, changed.id), get(Table.TENANT_NAMES, changed.name)], decide)


async def remove_tenant(records: RedisRecords, tenant_id: str) -> bool:
    """With its keys: those that are there while the tenant still is. A key that is added meanwhile moves the guard."""

    def decide(seen: Seen) -> Decision[bool]:
        row, guard, keys_there = seen.found
        if row is None:
            return Decision(False)
        gone = [name for name, key in pairs(keys_there) if _decode_key(key).tenant_id == tenant_id]
        return Decision(
            True,
            [
                ("HDEL", Table.TENANTS, tenant_id),
                ("HDEL", Table.TENANT_NAMES, _decode_tenant(row).name),
                *drop(Table.KEYS, "HDEL", gone),
                _guard(guard),
                touch(),
            ],
        )

    queries = [get(Table.TENANTS, tenant_id), get(Table.COUNTERS, "keys"), whole(Table.KEYS)]
    return await records.transact(queries, decide)


async def keys(records: RedisRecords) -> tuple[ClientKey, ...]:
    (rows,) = (await records.look(whole(Table.KEYS))).found
    found = [_decode_key(row) for row in rows[1::2]]
    return tuple(sorted(found, key=lambda one: (one.created_at_s, one.id)))


async def add_key(records: RedisRecords, new: ClientKey) -> None:
    def decide(seen: Seen) -> Decision[None]:
        tenant, row, guard = seen.found
        if tenant is None:
            raise NotFound(f"there is no tenant {new.tenant_id!r}")
        if row is not None:
            raise Conflict(f"a key with the id {new.id!r} exists already")
        return Decision(None, [("HSET", Table.KEYS, new.id, _encode(new)), _guard(guard), touch()])

    queries = [get(Table.TENANTS, new.tenant_id), get(Table.KEYS, new.id), get(Table.COUNTERS, "keys")]
    await records.transact(queries, decide)


async def put_key(records: RedisRecords, changed: ClientKey, expected_version: int) -> ClientKey:
    stored = replace(changed, version=expected_version + 1)

    def decide(seen: Seen) -> Decision[ClientKey]:
        tenant, row, guard = seen.found
        if tenant is None:
            raise NotFound(f"there is no tenant {changed.tenant_id!r}")
        if row is None:
            raise NotFound(f"there is no key {changed.id!r}")
        if _decode_key(row).version != expected_version:
            raise Conflict(f"key {changed.id!r} has changed since it was read")
        return Decision(stored, [("HSET", Table.KEYS, changed.id, _encode(stored)), _guard(guard), touch()])

    queries = [get(Table.TENANTS, changed.tenant_id), get(Table.KEYS, changed.id), get(Table.COUNTERS, "keys")]
    return await records.transact(queries, decide)


async def remove_key(records: RedisRecords, key_id: str) -> bool:
    def decide(seen: Seen) -> Decision[bool]:
        row, guard = seen.found
        if row is None:
            return Decision(False)
        return Decision(True, [("HDEL", Table.KEYS, key_id), _guard(guard), touch()])

    return await records.transact([get(Table.KEYS, key_id), get(Table.COUNTERS, "keys")], decide)


async def sealed_value(records: RedisRecords, vault: Vault, name: str, make: bytes) -> bytes:
    def decide(seen: Seen) -> Decision[bytes]:
        (row,) = seen.found
        if row is not None:
            return Decision(vault.open(row, value_place(name)))
        return Decision(make, [("HSET", Table.VALUES, name, vault.seal(make, value_place(name)))])

    return await records.transact([get(Table.VALUES, name)], decide)


def value_place(name: str) -> Place:
    """Where a sealed value is sealed."""
    return Place("sealed_values", f"value:{name}", "sealed", 1)


def _guard(last: bytes | None) -> Op:
    """Moves with every change of the keys, so that who listed them all knows that the list still holds."""
    return ("HSET", Table.COUNTERS, "keys", int(last or 0) + 1)
