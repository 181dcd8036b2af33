"""The sealed values of a Redis store for a change of keys (store.sealed): every one listed, some swapped.

Pages are those of HSCAN, table after table, so what rests there from the first page to the last is on one of them. A
swap is a commit that expects the very row that the value was read from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from store import redis_audit, redis_documents, redis_keys, redis_tasks
from store.redis_accounts import place as credential_place
from store.redis_open import CHECK_PLACE
from store.redis_records import Decision, Op, RedisRecords, Seen, Table, get, pairs
from store.sealed import AUDIT_HEAD, SealedPage, SealedRow, Swap
from store.vault import Place

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One table with sealed values. ``at``: which part of a row is sealed; None: the whole value is."""

    table: Table
    at: int | None
    place: Callable[[str, Sequence[Any]], Place]

    def read(self, field: str, value: bytes) -> SealedRow:
        if self.at is None:
            return SealedRow(self.place(field, ()), value, field)
        row = _decode(value)
        return SealedRow(self.place(field, row), bytes(row[self.at]), field)

    def replaced(self, value: bytes, sealed: bytes) -> bytes:
        if self.at is None:
            return sealed
        row = _decode(value)
        return _encode([*row[: self.at], sealed, *row[self.at + 1 :]])


def _document(name: str, row: Sequence[Any]) -> Place:
    kind, _, document_id = name.partition("\x00")
    return redis_documents.document_place(kind, document_id, row[0])


def _attempt(name: str, row: Sequence[Any]) -> Place:
    task_id, _, number = name.rpartition("\x00")
    return redis_tasks.attempt_place(task_id, int(number), row[0])


def _line(name: str, _row: Sequence[Any]) -> Place:
    task_id, _, number = name.rpartition("\x00")
    return redis_tasks.line_place(task_id, int(number))


_SHELVES: Final = {
    "meta": _Shelf(Table.META, None, lambda _name, _row: CHECK_PLACE),
    "sealed_values": _Shelf(Table.VALUES, None, lambda name, _row: redis_keys.value_place(name)),
    "credentials": _Shelf(Table.CREDENTIALS, 4, lambda name, row: credential_place(name, row[0])),
    "documents": _Shelf(Table.DOCUMENTS, 2, _document),
    "tasks": _Shelf(Table.TASKS, 8, lambda name, row: redis_tasks.task_place(name, row[0])),
    "attempts": _Shelf(Table.ATTEMPTS, 9, _attempt),
    "task_log": _Shelf(Table.TASK_LOG, 1, _line),
    AUDIT_HEAD: _Shelf(Table.AUDIT_HEAD, 3, lambda _name, row: redis_audit.head_place(row[0])),
}
"""By the table of the place that their values open in."""
_ORDER: Final = tuple(_SHELVES)


class RedisSealedRows:
    """Implements store.sealed.SealedRows on the records of a RedisStore, which closes them."""

    def __init__(self, records: RedisRecords) -> None:
        self._records = records

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        number, _, scan = (cursor or "0:0").partition(":")
        shelf = _SHELVES[_ORDER[int(number)]]
        await self._records.look()  # it is still our store
        key = self._records.key(shelf.table)
        after, flat = await self._records.link.call("HSCAN", key, scan, "COUNT", limit, again=True)
        rows = [
            shelf.read(field.decode(), value)
            for field, value in pairs(flat)
            if shelf.table is not Table.META or field == b"seal"
        ]
        following: str | None = f"{number}:{int(after)}"
        if not int(after):
            following = f"{int(number) + 1}:0" if int(number) + 1 < len(_ORDER) else None
        return SealedPage(tuple(rows), following)

    async def swap(self, swaps: Sequence[Swap]) -> int:
        wanted = [(_SHELVES[swap.row.place.table], swap) for swap in swaps if swap.row.place.table != AUDIT_HEAD]

        def decide(seen: Seen) -> Decision[int]:
            ops: list[Op] = []
            for (shelf, swap), value in zip(wanted, seen.found, strict=True):
                field = swap.row.handle
                if value is not None and shelf.read(field, value) == swap.row:
                    ops.append(("HSET", shelf.table, field, shelf.replaced(value, swap.sealed)))
            return Decision(len(ops), ops)

        return await self._records.transact([get(shelf.table, swap.row.handle) for shelf, swap in wanted], decide)
