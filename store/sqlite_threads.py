"""How does blocking SQLite work without blocking the event loop?

One thread writes and one thread reads, each with a connection of its own; jobs of a thread run one after another.
With a write-ahead log, reads go on while this or another process writes.

Rules that hold:

* a write is one transaction (BEGIN IMMEDIATE ... COMMIT); whatever a job raises undoes all of it;
* a job whose caller was cancelled runs to its end all the same: a write that was asked for is done or fails whole;
* a call takes at most about twice ``busy_timeout_s``: what a job has waited behind others is taken off its patience
  with the lock;
* ``durable`` writes are on the disk (fsync) before they return. The others survive a crash of the process, and may
  lose the last moments in a power cut; they never damage the file.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ops.clock import Clock
from store.errors import StoreUnavailable
from store.sqlite_file import connect, translated

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]


class SqliteThread:
    """One connection and the one thread that uses it."""

    def __init__(self, path: Path, name: str, busy_timeout_s: float, clock: Clock) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._clock = clock
        self._patience_ms = round(busy_timeout_s * 1000)
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{name}")

    async def open(self, prepare: Callable[[], None] | None, *, readonly: bool) -> None:
        """Connects on the thread, after ``prepare`` has run there. Raises StoreError."""

        def work() -> None:
            if prepare is not None:
                prepare()
            self._db = connect(self._path, self._busy_timeout_s, readonly=readonly)

        await self._outcome(self._start(work))

    async def run(self, job: Job[T]) -> T:
        """The job's result. Raises what it raises, SQLite's errors as StoreError."""
        asked_at_s = self._clock.monotonic_s()

        def work() -> T:
            db = self._db
            if db is None:
                raise StoreUnavailable(f"database {self._path} is closed")
            self._be_patient(db, self._clock.monotonic_s() - asked_at_s)
            return job(db)

        return await self._outcome(self._start(work))

    async def close(self) -> None:
        """Waits for the jobs that were asked for, then closes. Twice is once."""
        if self._closed:
            return

        def work() -> None:
            db, self._db = self._db, None
            if db is not None:
                db.close()

        future = self._start(work)
        self._closed = True
        try:
            await self._outcome(future)
        finally:
            self._executor.shutdown(wait=False)

    def _be_patient(self, db: sqlite3.Connection, waited_s: float) -> None:
        hurried = waited_s >= self._busy_timeout_s / 10
        patience_ms = round((max(self._busy_timeout_s - waited_s, 0.0) if hurried else self._busy_timeout_s) * 1000)
        if patience_ms != self._patience_ms:
            db.execute("PRAGMA busy_timeout = " + str(patience_ms))  # a pragma takes no bound value
            self._patience_ms = patience_ms

    def _start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise StoreUnavailable(f"database {self._path} is closed")
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(_look_at)
        return future

    async def _outcome(self, future: asyncio.Future[T]) -> T:
        try:
            return await asyncio.shield(future)
        except sqlite3.Error as error:
            raise translated(error, self._path, self._busy_timeout_s) from error


def _look_at(future: asyncio.Future[T]) -> None:
    """Marks the outcome as seen: after a cancellation nobody else will."""
    if not future.cancelled():
        future.exception()


class SqliteThreads:
    """The writer and the reader of one file."""

    def __init__(self, path: Path, busy_timeout_s: float, clock: Clock) -> None:
        self.path = path
        self._writer = SqliteThread(path, "writer", busy_timeout_s, clock)
        self._reader = SqliteThread(path, "reader", busy_timeout_s, clock)
        self._durable = True

    async def open(self, prepare: Callable[[], None]) -> None:
        """Runs ``prepare``, which must leave a usable file, then connects. Raises StoreError; nothing stays open."""
        try:
            await self._writer.open(prepare, readonly=False)
            await self._reader.open(None, readonly=True)
        except BaseException:
            await self.close()
            raise

    async def read(self, job: Job[T]) -> T:
        """Runs the job on the reader. More than one statement sees one state only inside BEGIN ... COMMIT."""
        return await self._reader.run(job)

    async def write(self, job: Job[T], *, durable: bool = True) -> T:
        """Runs the job in one transaction on the writer; its effect is there when this returns."""
        return await self._writer.run(lambda db: self._transaction(db, job, durable))

    async def close(self) -> None:
        """The writer closes last, so that the log is folded into the file."""
        try:
            await self._reader.close()
        finally:
            await self._writer.close()

    def _transaction(self, db: sqlite3.Connection, job: Job[T], durable: bool) -> T:
        if durable != self._durable:
            db.execute("PRAGMA synchronous = FULL" if durable else "PRAGMA synchronous = NORMAL")
            self._durable = durable
        db.execute("BEGIN IMMEDIATE")
        try:
            result = job(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return result
