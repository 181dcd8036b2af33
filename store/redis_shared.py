"""Hot state that the processes share, in the durable Redis: health, windows, placements, and the cursor over them.

A fleet that needs it faster keeps it in a hot store of its own (``store.hot_url``); the promises are the same. Every
record that is written gets the next number of one counter inside the script that writes it, so "everything after
number n" misses nothing. Nothing here waits for the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from store.base import HEALTHY_KEPT_S, Changes
from store.records import HealthRecord, Placement, WindowRecord
from store.redis_link import Word
from store.redis_records import Op, RedisRecords, Table, get

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_health: Final = msgspec.msgpack.Decoder(HealthRecord).decode
_decode_window: Final = msgspec.msgpack.Decoder(WindowRecord).decode
_PURGED_AT_ONCE: Final = 1000
_PURGED: Final = (
    Table.PLACEMENTS, Table.PLACEMENT_ENDS, Table.DOCUMENTS, Table.DOCUMENT_ENDS, Table.DOCUMENT_NAMES, Table.HEALTH,
    Table.CHANGES,
)  # fmt: skip


async def publish(records: RedisRecords, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
    words: list[Word] = [Table.CHANGES.value]
    for record in health:
        name = _encode((record.account_id, record.scope, record.kind))
        row = repr(float(record.until_s)).encode() + b"|" + _encode(record)
        words += [Table.HEALTH.value, name, repr(float(record.updated_at_s)), row]
    for window in windows:
        name = _encode((window.account_id, window.name))
        words += [Table.WINDOWS.value, name, repr(float(window.seen_at_s)), b"|" + _encode(window)]
    await records.run("publish", *words)


async def changes(records: RedisRecords, cursor: int) -> Changes:
    answer = await records.run("changes", Table.CHANGES.value, cursor, again=True)
    assert answer is not None  # it expects nothing
    _, directory, last, flat = answer
    health: list[HealthRecord] = []
    windows: list[WindowRecord] = []
    for number, row in zip(flat[::2], flat[1::2], strict=True):
        body = row.split(b"|", 2)[2]
        if int(number) == Table.HEALTH:
            health.append(_decode_health(body))
        else:
            windows.append(_decode_window(body))
    return Changes(int(directory), tuple(health), tuple(windows), int(last))


async def place(records: RedisRecords, placements: Sequence[Placement]) -> None:
    ops: list[Op] = []
    for placed in placements:
        name, ends = _name(placed.kind, placed.digest), repr(float(placed.expires_at_s))
        ops.append(("HSET", Table.PLACEMENTS, name, _encode((placed.expires_at_s, placed.account_id))))
        ops.append(("ZADD", Table.PLACEMENT_ENDS, ends, name))
    await records.write(ops, durable=False)


async def placements(records: RedisRecords, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
    if not digests:
        return {}
    seen = await records.look(*(get(Table.PLACEMENTS, _name(kind, digest)) for digest in digests))
    found: dict[bytes, str] = {}
    for digest, row in zip(digests, seen.found, strict=True):
        if row is not None:
            expires_at_s, account_id = msgspec.msgpack.decode(row, type=tuple[float, str])
            if expires_at_s > seen.now_s:
                found[digest] = account_id
    return found


async def purge(records: RedisRecords) -> int:
    """Also takes expired documents; a bounded number at a time, so that no script holds the server up."""
    gone = 0
    while True:
        answer = await records.run("purge", HEALTHY_KEPT_S, _PURGED_AT_ONCE, *(table.value for table in _PURGED))
        assert answer is not None  # it expects nothing
        gone += int(answer[1])
        if not answer[2]:
            return gone


def _name(kind: str, digest: bytes) -> bytes:
    return _encode((kind, digest))
