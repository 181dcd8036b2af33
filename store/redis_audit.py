"""The audit log in Redis: numbered and chained (store.chain), appended by one script if nobody else has meanwhile.

The log is a stream whose ids are the numbers, so the server itself refuses a number twice or out of order. The head,
the last record's number with its hash, is sealed beside it: a person who edits the data without the key can neither
cut the tail nor write the chain anew unseen; one who puts back an older copy of both can, and only an export kept
elsewhere tells.

Searches read the stream in bounded steps. A small index of times says where the records from a time on can begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from store import chain
from store.errors import SealBroken, StoreUnavailable
from store.records import AuditRecord
from store.redis_link import Word
from store.redis_records import RedisRecords, Table, get
from store.vault import Place, Vault

_TRIES: Final = 200
_STEP: Final = 1000
_INDEXED_S: Final = 60.0  # the index of times gets an entry when the log has come this much further
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode
_decode_head: Final = msgspec.msgpack.Decoder(tuple[int, float, float, bytes]).decode


@dataclass(frozen=True, slots=True)
class _End:
    """Where the log ends: by its sealed head (bytes as read, number, hash), and by the stream itself."""

    raw: bytes
    seq: int
    last_hash: str
    latest_s: float
    indexed_s: float
    last_id: bytes


class RedisAudit:
    """The log of one store. Appends of this process go one after another; those of others are waited out."""

    def __init__(self, records: RedisRecords, vault: Vault) -> None:
        self._records = records
        self._vault = vault
        self._line = asyncio.Lock()

    async def append(self, new: Sequence[AuditRecord]) -> int:
        async with self._line:
            for turn in range(_TRIES):
                end = await self._end()
                if not new:
                    return max(end.seq, _number(end.last_id))
                last = await self._append(end, new)
                if last is not None:
                    return last
                await self._records.pause(turn)
        raise StoreUnavailable(f"{self._records.link.where} has too many writers at once; try again")

    async def _append(self, end: _End, new: Sequence[AuditRecord]) -> int | None:
        """The last number, or None when somebody else appended."""
        seq = max(end.seq, _number(end.last_id))  # never below a record that somebody slipped in
        first, last_hash, latest_s = seq + 1, end.last_hash, end.latest_s
        words: list[Word] = []
        for record in new:
            seq += 1
            row = chain.to_row(record, seq, last_hash)
            last_hash, latest_s = row[14], max(latest_s, row[1])
            words += [f"{seq}-0", _encode(row)]
        index: tuple[Word, Word] = ("", "")
        indexed_s = end.indexed_s
        if end.latest_s >= indexed_s + _INDEXED_S:
            index, indexed_s = (repr(end.latest_s), f"{first:020d}"), end.latest_s
        head = _encode((seq, latest_s, indexed_s, self._vault.seal(last_hash.encode(), head_place(seq))))
        tables = (Table.AUDIT.value, Table.AUDIT_HEAD.value, Table.AUDIT_TIMES.value)
        answer = await self._records.run("append", *tables, end.raw, end.last_id, head, *index, *words, durable=True)
        return None if answer is None else seq

    async def _end(self) -> _End:
        """Raises SealBroken when the head does not open."""
        seen = await self._records.look(get(Table.AUDIT_HEAD, "head"))
        last_id = await self._last_id()
        raw = seen.found[0]
        if raw is None:
            return _End(b"", 0, chain.GENESIS, 0.0, 0.0, last_id)
        seq, latest_s, indexed_s, sealed = _decode_head(raw)
        return _End(raw, seq, self._vault.open(sealed, head_place(seq)).decode(), latest_s, indexed_s, last_id)

    async def _last_id(self) -> bytes:
        found = await self._records.link.call("XREVRANGE", self._log, "+", "-", "COUNT", 1, again=True)
        return bytes(found[0][0]) if found else b""

    @property
    def _log(self) -> str:
        return self._records.key(Table.AUDIT)

    async def search(
        self, since_s: float | None, after_seq: int, limit: int, matches: Callable[[AuditRecord], bool]
    ) -> tuple[AuditRecord, ...]:
        """The first ``limit`` records after ``after_seq``, and from about ``since_s`` on, that match."""
        await self._records.look()  # it is still our log
        after = after_seq if since_s is None else max(after_seq, await self._before(since_s))
        found: list[AuditRecord] = []
        while len(found) < limit:
            rows = await self.rows(after, _STEP)
            for row in rows:
                record = chain.from_row(row)
                if matches(record):
                    found.append(record)
            if len(rows) < _STEP:
                break
            after = rows[-1][0]
        return tuple(found[:limit])

    async def _before(self, since_s: float) -> int:
        """A number up to which all records are older than ``since_s``."""
        times = self._records.key(Table.AUDIT_TIMES)
        found = await self._records.link.call(
            "ZREVRANGEBYSCORE", times, f"({since_s!r}", "-inf", "LIMIT", 0, 1, again=True
        )
        return int(found[0]) - 1 if found else 0

    async def rows(self, after: int, limit: int, up_to: int | None = None) -> list[chain.Row]:
        """Rows of the log as they rest, in order."""
        end = "+" if up_to is None else f"{up_to}-0"
        found = await self._records.link.call("XRANGE", self._log, f"{after + 1}-0", end, "COUNT", limit, again=True)
        return [tuple(_decode(fields[1])) for _, fields in found]

    async def verify(self) -> tuple[int, str | None]:
        """Reads in steps; records that are added meanwhile are left for the next time."""
        end, end_hash, fault = await self._sealed_head()
        seq, last_hash = 0, chain.GENESIS
        while True:
            rows = await self.rows(seq, _STEP, up_to=end)
            seq, last_hash, broken = chain.broken_at(rows, seq, last_hash)
            if broken is not None:
                return seq, broken
            if len(rows) < _STEP:
                break
        if fault is not None:
            return seq, fault
        if seq < end:
            return seq, f"the log ends at record {seq}, its sealed head is record {end}"
        if last_hash != end_hash:
            return seq, "the log was written anew: its end does not match its sealed head"
        return seq, None

    async def _sealed_head(self) -> tuple[int, str, str | None]:
        """Number and hash as sealed, and what is wrong with them; where the head does not serve, the log's own end."""
        last = _number(await self._last_id())
        (raw,) = (await self._records.look(get(Table.AUDIT_HEAD, "head"))).found
        if raw is None:
            return last, chain.GENESIS, "the sealed head of the log is missing" if last else None
        seq, _, _, sealed = _decode_head(raw)
        try:
            last_hash = self._vault.open(sealed, head_place(seq)).decode()
        except SealBroken:
            return last, "", "the sealed head of the log was altered"
        if last > seq:
            return last, "", f"the log has records beyond its sealed head, which is record {seq}"
        return seq, last_hash, None


def head_place(seq: int) -> Place:
    """Where the head is sealed."""
    return Place("audit_head", "1", "sealed", seq)


def _number(stream_id: bytes) -> int:
    return int(stream_id.partition(b"-")[0] or 0)
