"""Who did what: records on their way into the store's append-only log.

Two ways in. A request leaves its record with :meth:`AuditLog.record`: an append to a list, never a wait; one loop
writes what has come in batches. An administrator's act is on the disk before :meth:`AuditLog.act` returns, and does
not happen when it cannot be (fail closed): call it before the act is answered.

Rules that hold:

* records of requests keep their order, and are written at least once while the process lives: a batch that failed is
  tried again at the next tick, however long the store is away;
* the queue is bounded. Full, under the policy ``drop``: new records are dropped and counted. Under ``refuse``:
  :attr:`AuditLog.full` tells the front door to refuse new requests, and those in work are still recorded;
* cancelling the loop loses nothing: the batch under way is finished, the rest waits for :meth:`AuditLog.close`.

What a record may hold is store.records' matter (never content); numbering and chaining are the store's.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import structlog

from ops.clock import Clock
from store.base import AuditStore
from store.errors import StoreError
from store.records import AuditRecord

OnFull = Literal["drop", "refuse"]

_BATCH: Final = 500
_LAST_TRIES: Final = 3


class AuditLog:
    """The queue in front of the log, and its one writer.

    Counters, all since the start: ``written`` records in the store, ``dropped`` records lost to a full queue or a
    store that was away at the end.
    """

    def __init__(self, store: AuditStore, *, flush_s: float, queue_size: int, on_full: OnFull, clock: Clock) -> None:
        self._store = store
        self._flush_s = flush_s
        self._queue_size = queue_size
        self._on_full = on_full
        self._clock = clock
        self._waiting: list[AuditRecord] = []
        self._lock = asyncio.Lock()
        self._pass: asyncio.Future[None] | None = None
        self._closed = False
        self._failing = False
        self._log = structlog.get_logger("ops.audit")
        self.written = 0
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Records that wait to be written, those under way included."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether new requests must be refused: the queue is full and the policy is ``refuse``."""
        return self._on_full == "refuse" and len(self._waiting) >= self._queue_size

    @property
    def failing(self) -> bool:
        """Whether the last write failed; for readiness."""
        return self._failing

    def record(self, record: AuditRecord) -> None:
        """Leaves a record for the writer. Never waits, never raises."""
        if len(self._waiting) >= self._queue_size and self._on_full == "drop":
            self.dropped += 1
            return
        self._waiting.append(record)

    async def act(self, record: AuditRecord) -> int:
        """Writes the record of an administrator's act; its number, once it is durable.

        Raises StoreError when it cannot be written: then the act must not happen. Cancelled, the record may have
        been written all the same.
        """
        seq = await self._store.append_audit([record])
        self.written += 1
        return seq

    async def run(self) -> None:
        """Writes batches every ``flush_s`` seconds until :meth:`close`; failures are logged and tried again."""
        while not self._closed:
            await self._clock.sleep(self._flush_s)
            await self._flush()

    async def close(self) -> None:
        """Writes what waits, trying a few times; what is left then is dropped, counted and logged."""
        self._closed = True
        for attempt in range(_LAST_TRIES):
            if attempt:
                await self._clock.sleep(self._flush_s)
            await self._flush()
            if not self._waiting:
                return
        self.dropped += len(self._waiting)
        self._log.error("audit_lost", records=len(self._waiting))
        self._waiting.clear()

    async def _flush(self) -> None:
        """One pass over the queue, as one task: a caller that is cancelled leaves it running, and the lock makes
        the next pass wait for it, so no record is written twice or out of order."""
        self._pass = asyncio.ensure_future(self._write_all())  # the loop itself holds tasks weakly
        await asyncio.shield(self._pass)

    async def _write_all(self) -> None:
        async with self._lock:
            while self._waiting:
                batch = self._waiting[:_BATCH]
                try:
                    await self._store.append_audit(batch)
                except StoreError as error:
                    self._note_failure(error)
                    return
                del self._waiting[: len(batch)]
                self.written += len(batch)
                self._note_success()

    def _note_failure(self, error: StoreError) -> None:
        if not self._failing:
            self._log.error("audit_unavailable", cause=str(error), pending=len(self._waiting))
        self._failing = True

    def _note_success(self) -> None:
        if self._failing:
            self._log.warning("audit_recovered", pending=len(self._waiting), dropped=self.dropped)
        self._failing = False
