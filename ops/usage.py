"""Who has used how much: requests, tokens and failures by account, tenant, key and model, hour by hour.

Counting is an addition to a number of this process. Every few seconds the current hour is written as one document of
this worker; a report adds up the documents of all workers. Rules that hold:

* only requests that reached an account count; nothing of their content is kept;
* a process that is killed loses at most the seconds since its last write; the audit log is the exact book;
* rows of an hour are bounded: beyond the bound a model's name counts as ``other``;
* a store that does not answer delays the writing and loses nothing but what does not fit any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

import msgspec

from ops.clock import Clock
from store.errors import Conflict, NotFound
from store.records import Document

KIND: Final = "usage"
HOUR_S: Final = 3600
KEPT_S: Final = 62 * 86_400.0
ROWS_MAX: Final = 5000
PAGE: Final = 500
OTHER: Final = "other"
By = Literal["account", "tenant", "key", "model"]
_NAMES: Final = ("account", "tenant", "key", "model")


class UsageShelf(Protocol):
    """What is asked of the store."""

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]: ...

    async def add_document(self, document: Document) -> Document: ...

    async def put_document(self, document: Document, expected_version: int) -> Document: ...


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """What was used. ``errors`` are requests that did not end well."""

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: UsageTotal) -> UsageTotal:
        return UsageTotal(
            self.requests + other.requests,
            self.errors + other.errors,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )


class UsageBook:
    """Counts for one process; ``worker`` is its name, unique over the fleet and its restarts."""

    def __init__(self, store: UsageShelf, worker: str, clock: Clock) -> None:
        self._store = store
        self._worker = worker
        self._clock = clock
        self._hours: dict[int, dict[tuple[str, ...], list[int]]] = {}
        self._stored: dict[int, Document] = {}
        self._changed: set[int] = set()

    def count(self, names: tuple[str, str, str, str], *, failed: bool, input_tokens: int, output_tokens: int) -> None:
        """One request; ``names`` are account, tenant, key and model. Never blocks, never raises."""
        hour = int(self._clock.now_s()) // HOUR_S
        self._changed.add(hour)
        rows = self._hours.setdefault(hour, {})
        row = rows.get(names)
        if row is None:
            if len(rows) >= ROWS_MAX:
                names = (*names[:3], OTHER)
            row = rows.setdefault(names, [0, 0, 0, 0])
        row[0] += 1
        row[1] += failed
        row[2] += input_tokens
        row[3] += output_tokens

    async def flush(self) -> None:
        """Writes what has changed. Raises StoreError; then it is written the next time."""
        for hour in sorted(self._changed):
            body = msgspec.json.encode([[*names, *row] for names, row in self._hours[hour].items()])
            document = Document(KIND, f"{hour:08d}.{self._worker}", body, expires_at_s=hour * HOUR_S + KEPT_S)
            self._changed.discard(hour)
            try:
                await self._write(hour, document)
            except BaseException:
                self._changed.add(hour)
                raise
        this_hour = int(self._clock.now_s()) // HOUR_S
        for hour in [hour for hour in self._hours if hour < this_hour and hour not in self._changed]:
            del self._hours[hour]
            self._stored.pop(hour, None)

    async def _write(self, hour: int, document: Document) -> None:
        stored = self._stored.get(hour)
        try:
            if stored is None:
                self._stored[hour] = await self._store.add_document(document)
            else:
                self._stored[hour] = await self._store.put_document(document, stored.version)
        except Conflict:  # an earlier write that was thought lost has come through
            found = await self._store.documents(KIND, after_id=document.id[:-1], limit=PAGE)
            self._stored[hour] = next((one for one in found if one.id == document.id), replace(document, version=1))
            self._changed.add(hour)
        except NotFound:
            del self._stored[hour]
            self._changed.add(hour)


async def usage_by(store: UsageShelf, by: By, since_s: float) -> dict[str, UsageTotal]:
    """What was used since the hour of ``since_s``, by name. Raises StoreError."""
    place = _NAMES.index(by)
    totals: dict[str, UsageTotal] = {}
    after = f"{max(0, int(since_s) // HOUR_S):08d}"
    while page := await store.documents(KIND, after_id=after, limit=PAGE):
        for document in page:
            for row in msgspec.json.decode(document.body):
                name = row[place]
                totals[name] = totals.get(name, UsageTotal()) + UsageTotal(*row[4:8])
        after = page[-1].id
    return totals


def sum_of(totals: Mapping[str, UsageTotal]) -> UsageTotal:
    return sum(totals.values(), UsageTotal())
