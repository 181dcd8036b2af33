"""Documents in Redis: one look and one commit each.

The body is sealed in its place, which is kind, id and version: an older body put back in its row, or another's, does
not open. An expired row is treated as absent and taken away by the next purge, or by whoever wants its id. Names sort
by bytes, so a page of a kind is a range of one index.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec

from store.errors import Conflict, NotFound
from store.records import Document
from store.redis_records import Decision, Op, RedisRecords, Seen, Table, get, page, pairs
from store.vault import Place, Vault

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[int, float | None, bytes]).decode
_MOST: Final = 500


async def document(records: RedisRecords, vault: Vault, kind: str, document_id: str) -> Document | None:
    seen = await records.look(get(Table.DOCUMENTS, _name(kind, document_id)))
    return _alive(vault, kind, document_id, seen.found[0], seen.now_s)


async def documents(records: RedisRecords, vault: Vault, kind: str, after_id: str, limit: int) -> tuple[Document, ...]:
    found: list[Document] = []
    after, end = b"(" + _name(kind, after_id), b"(" + kind.encode() + b"\x01"
    if not after_id:
        after = b"[" + _name(kind, "")
    while len(found) < limit:
        most = min(_MOST, limit)
        seen = await records.look(page(Table.DOCUMENT_NAMES, Table.DOCUMENTS, after, end, most))
        rows = pairs(seen.found[0])
        for name, row in rows:
            one = _alive(vault, kind, name.partition(b"\x00")[2].decode(), row, seen.now_s)
            if one is not None and len(found) < limit:
                found.append(one)
        if len(rows) < most:
            break
        after = b"(" + rows[-1][0]
    return tuple(found)


async def add_document(records: RedisRecords, vault: Vault, new: Document) -> Document:
    stored = replace(new, version=1)
    ops = _ops(vault, stored)

    def decide(seen: Seen) -> Decision[Document]:
        if _lives(seen.found[0], seen.now_s):
            raise Conflict(f"a {new.kind} with this id exists already")
        return Decision(stored, ops)

    return await records.transact([get(Table.DOCUMENTS, _name(new.kind, new.id))], decide)


async def put_document(records: RedisRecords, vault: Vault, changed: Document, expected_version: int) -> Document:
    stored = replace(changed, version=expected_version + 1)
    ops = _ops(vault, stored)

    def decide(seen: Seen) -> Decision[Document]:
        (row,) = seen.found
        if not _lives(row, seen.now_s):
            raise NotFound(f"there is no such {changed.kind}")
        if _decode(row)[0] != expected_version:
            raise Conflict(f"the {changed.kind} has changed since it was read")
        return Decision(stored, ops)

    return await records.transact([get(Table.DOCUMENTS, _name(changed.kind, changed.id))], decide)


async def remove_document(records: RedisRecords, kind: str, document_id: str) -> bool:
    name = _name(kind, document_id)

    def decide(seen: Seen) -> Decision[bool]:
        (row,) = seen.found
        if row is None:
            return Decision(False)
        gone: list[Op] = [
            ("HDEL", Table.DOCUMENTS, name),
            ("ZREM", Table.DOCUMENT_NAMES, name),
            ("ZREM", Table.DOCUMENT_ENDS, name),
        ]
        return Decision(_lives(row, seen.now_s), gone)

    return await records.transact([get(Table.DOCUMENTS, name)], decide)


def _ops(vault: Vault, stored: Document) -> list[Op]:
    name = _name(stored.kind, stored.id)
    sealed = vault.seal(stored.body, document_place(stored.kind, stored.id, stored.version))
    ops: list[Op] = [
        ("HSET", Table.DOCUMENTS, name, _encode((stored.version, stored.expires_at_s, sealed))),
        ("ZADD", Table.DOCUMENT_NAMES, 0, name),
    ]
    if stored.expires_at_s is None:
        return [*ops, ("ZREM", Table.DOCUMENT_ENDS, name)]
    return [*ops, ("ZADD", Table.DOCUMENT_ENDS, repr(float(stored.expires_at_s)), name)]


def _alive(vault: Vault, kind: str, document_id: str, row: bytes | None, now_s: float) -> Document | None:
    if row is None or not _lives(row, now_s):
        return None
    version, expires_at_s, sealed = _decode(row)
    body = vault.open(sealed, document_place(kind, document_id, version))
    return Document(kind, document_id, body, expires_at_s, version)


def _lives(row: bytes | None, now_s: float) -> bool:
    if row is None:
        return False
    expires_at_s = _decode(row)[1]
    return expires_at_s is None or expires_at_s > now_s


def _name(kind: str, document_id: str) -> bytes:
    return kind.encode() + b"\x00" + document_id.encode()


def document_place(kind: str, document_id: str, version: int) -> Place:
    """Where a body is sealed."""
    return Place("documents", f"{kind}/{document_id}", "sealed", version)
