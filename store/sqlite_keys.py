"""Tenants, client keys and sealed values in SQLite: plain jobs on a connection, one transaction each.

A client key rests as the keyed hash that the caller made; a sealed value is a secret of the gateway itself (such as
the key of that hash), placed by its name.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from store.errors import Conflict, NotFound
from store.records import ClientKey, Limits, Tenant
from store.sqlite_accounts import touch_directory
from store.vault import Place, Vault

_TENANTS: Final = """SELECT id, name, requests_per_minute, concurrent_streams, pools, enabled, created_at_s, version
    FROM tenants"""
_KEYS: Final = """SELECT id, tenant_id, name, digest, scopes, models, requests_per_minute, concurrent_streams,
    expires_at_s, revoked_at_s, created_at_s, version FROM client_keys"""
_names_decode: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def tenants(db: sqlite3.Connection) -> tuple[Tenant, ...]:
    return tuple(_tenant(row) for row in db.execute(_TENANTS + " ORDER BY created_at_s, id"))


def add_tenant(db: sqlite3.Connection, new: Tenant) -> None:
    try:
        db.execute(
            """INSERT INTO tenants (id, name, requests_per_minute, concurrent_streams, pools, enabled, created_at_s,
                version) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (new.id, *_tenant_values(new), new.version),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"a tenant with this id or the name {new.name!r} exists already") from None
    touch_directory(db)


def put_tenant(db: sqlite3.Connection, changed: Tenant, expected_version: int) -> Tenant:
    try:
        done = db.execute(
            """UPDATE tenants SET name = ?, requests_per_minute = ?, concurrent_streams = ?, pools = ?, enabled = ?,
                created_at_s = ?, version = ? WHERE id = ? AND version = ?""",
            (*_tenant_values(changed), expected_version + 1, changed.id, expected_version),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"another tenant has the name {changed.name!r}") from None
    row = db.execute(_TENANTS + " WHERE id = ?", (changed.id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no tenant {changed.id!r}")
    if done.rowcount == 0:
        raise Conflict(f"tenant {changed.id!r} has changed since it was read")
    touch_directory(db)
    return _tenant(row)


def remove_tenant(db: sqlite3.Connection, tenant_id: str) -> bool:
    if db.execute("DELETE FROM tenants WHERE id = ?", (tenant_id,)).rowcount == 0:
        return False
    touch_directory(db)
    return True


def keys(db: sqlite3.Connection) -> tuple[ClientKey, ...]:
    return tuple(_key(row) for row in db.execute(_KEYS + " ORDER BY created_at_s, id"))


def add_key(db: sqlite3.Connection, new: ClientKey) -> None:
    _must_have_tenant(db, new.tenant_id)
    try:
        db.execute(
            """INSERT INTO client_keys (id, tenant_id, name, digest, scopes, models, requests_per_minute,
                concurrent_streams, expires_at_s, revoked_at_s, created_at_s, version)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (new.id, *_key_values(new), new.version),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"a key with the id {new.id!r} exists already") from None
    touch_directory(db)


def put_key(db: sqlite3.Connection, changed: ClientKey, expected_version: int) -> ClientKey:
    _must_have_tenant(db, changed.tenant_id)
    done = db.execute(
        """UPDATE client_keys SET tenant_id = ?, name = ?, digest = ?, scopes = ?, models = ?,
            requests_per_minute = ?, concurrent_streams = ?, expires_at_s = ?, revoked_at_s = ?, created_at_s = ?,
            version = ? WHERE id = ? AND version = ?""",
        (*_key_values(changed), expected_version + 1, changed.id, expected_version),
    )
    row = db.execute(_KEYS + " WHERE id = ?", (changed.id,)).fetchone()
    if row is None:
        raise NotFound(f"there is no key {changed.id!r}")
    if done.rowcount == 0:
        raise Conflict(f"key {changed.id!r} has changed since it was read")
    touch_directory(db)
    return _key(row)


def remove_key(db: sqlite3.Connection, key_id: str) -> bool:
    gone = db.execute("DELETE FROM client_keys WHERE id = ?", (key_id,)).rowcount > 0
    if gone:
        touch_directory(db)
    return gone


def find_sealed(db: sqlite3.Connection, vault: Vault, name: str) -> bytes | None:
    row = db.execute("SELECT sealed FROM sealed_values WHERE name = ?", (_row_name(name),)).fetchone()
    return None if row is None else vault.open(row[0], _place(name))


def sealed_value(db: sqlite3.Connection, vault: Vault, name: str, make: bytes) -> bytes:
    found = find_sealed(db, vault, name)
    if found is not None:
        return found
    db.execute(
        "INSERT INTO sealed_values (name, sealed) VALUES (?, ?)", (_row_name(name), vault.seal(make, _place(name)))
    )
    return make


def _row_name(name: str) -> str:
    return f"value:{name}"  # apart from the database's own key check


def _place(name: str) -> Place:
    return Place("sealed_values", _row_name(name), "sealed", 1)


def _must_have_tenant(db: sqlite3.Connection, tenant_id: str) -> None:
    if db.execute("SELECT 1 FROM tenants WHERE id = ?", (tenant_id,)).fetchone() is None:
        raise NotFound(f"there is no tenant {tenant_id!r}")


def _names(values: tuple[str, ...]) -> str:
    return msgspec.json.encode(values).decode()


def _tenant_values(source: Tenant) -> tuple[Any, ...]:
    return (
        source.name,
        source.limits.requests_per_minute,
        source.limits.concurrent_streams,
        _names(source.pools),
        int(source.enabled),
        source.created_at_s,
    )


def _tenant(row: tuple[Any, ...]) -> Tenant:
    return Tenant(
        id=row[0],
        name=row[1],
        limits=Limits(row[2], row[3]),
        pools=_names_decode(row[4]),
        enabled=bool(row[5]),
        created_at_s=row[6],
        version=row[7],
    )


def _key_values(source: ClientKey) -> tuple[Any, ...]:
    return (
        source.tenant_id,
        source.name,
        source.digest,
        _names(tuple(sorted(source.scopes))),
        _names(source.models),
        source.limits.requests_per_minute,
        source.limits.concurrent_streams,
        source.expires_at_s,
        source.revoked_at_s,
        source.created_at_s,
    )


def _key(row: tuple[Any, ...]) -> ClientKey:
    return ClientKey(
        id=row[0],
        tenant_id=row[1],
        name=row[2],
        digest=row[3],
        scopes=frozenset(_names_decode(row[4])),
        models=_names_decode(row[5]),
        limits=Limits(row[6], row[7]),
        expires_at_s=row[8],
        revoked_at_s=row[9],
        created_at_s=row[10],
        version=row[11],
    )
