"""The event loop never waits for the disk, nobody waits for ever, and what was asked for is done."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ops.clock import SystemClock
from store.errors import Conflict, StoreUnavailable
from store.sqlite import SqliteStore
from store.sqlite_threads import SqliteThreads
from tests.fakes.records import make_account, make_credential, make_health, make_tenant
from tests.store.conftest import Opener


@pytest.fixture
async def threads(path: Path, store: SqliteStore) -> AsyncIterator[SqliteThreads]:
    made = SqliteThreads(path, 2.0, SystemClock())
    await made.open(lambda: None)
    yield made
    await made.close()


@contextlib.contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process that has the write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        yield db
        if db.in_transaction:
            db.execute("ROLLBACK")


def insert(db: sqlite3.Connection, name: str) -> None:
    db.execute("INSERT INTO counters (name, value) VALUES (?, 1)", (name,))


def names(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM counters")}


@pytest.mark.fault("B56")
async def test_reads_go_on_and_writes_are_refused_in_time_while_the_database_is_locked(
    opener: Opener, path: Path
) -> None:
    store = await opener(busy_timeout_s=0.05)
    await store.add_account(make_account(), make_credential())
    with held(path):
        assert await store.accounts() == (make_account(),)
        assert await store.credential("acct-1") == make_credential()
        assert (await store.changes(0)).directory_revision > 0
        for write in (
            store.check(),
            store.add_tenant(make_tenant()),
            store.publish([make_health()], []),
            store.claim("scope", "holder", 1.0),
        ):
            with pytest.raises(StoreUnavailable, match="is locked by another process"):
                await write
    await store.check()
    await store.add_tenant(make_tenant())
    assert await store.tenants() == (make_tenant(),)


@pytest.mark.fault("B56")
async def test_a_queue_of_writes_waits_for_a_lock_once_not_once_each(opener: Opener, path: Path) -> None:
    store = await opener(busy_timeout_s=0.2)
    loop = asyncio.get_running_loop()
    with held(path):
        started_s = loop.time()
        outcomes = await asyncio.gather(
            *(store.add_tenant(make_tenant(f"t{n}")) for n in range(20)), return_exceptions=True
        )
        taken_s = loop.time() - started_s
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert taken_s < 20 * 0.2 / 4
    await store.add_tenant(make_tenant())


async def test_the_loop_turns_while_a_write_waits_for_the_lock(opener: Opener, path: Path) -> None:
    store = await opener(busy_timeout_s=30.0)
    with held(path) as lock:
        writing = asyncio.ensure_future(store.add_tenant(make_tenant()))
        for _ in range(100):
            await asyncio.sleep(0)
        assert await store.tenants() == ()
        assert not writing.done()
        lock.execute("ROLLBACK")
        await writing
    assert await store.tenants() == (make_tenant(),)


async def test_a_cancelled_write_is_done_all_the_same(threads: SqliteThreads) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(db: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(10)
        insert(db, "running")

    running = asyncio.ensure_future(threads.write(slow))
    queued = asyncio.ensure_future(threads.write(lambda db: insert(db, "queued")))
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    queued.cancel()
    for task in (running, queued):
        with pytest.raises(asyncio.CancelledError):
            await task
    go_on.set()
    await threads.write(lambda db: insert(db, "later"))
    assert {"running", "queued", "later"} <= await threads.read(names)


async def test_a_write_that_was_asked_for_is_done_before_closing(store: SqliteStore, opener: Opener) -> None:
    writing = asyncio.ensure_future(store.add_tenant(make_tenant()))
    await asyncio.sleep(0)
    await store.close()
    await writing
    assert await (await opener()).tenants() == (make_tenant(),)
    await store.close()


async def test_whatever_a_job_raises_undoes_it_all(threads: SqliteThreads) -> None:
    for error in (Conflict("no"), RuntimeError("no"), KeyError("no")):

        def fails(db: sqlite3.Connection, error: Exception = error) -> None:
            insert(db, "half")
            raise error

        with pytest.raises(type(error)):
            await threads.write(fails)
    assert "half" not in await threads.read(names)
    await threads.write(lambda db: insert(db, "whole"))
    assert "whole" in await threads.read(names)


async def test_a_reader_cannot_write(threads: SqliteThreads) -> None:
    with pytest.raises(StoreUnavailable):
        await threads.read(lambda db: insert(db, "by the reader"))
    assert "by the reader" not in await threads.read(names)


async def test_durable_writes_are_synced_and_hot_ones_are_not(threads: SqliteThreads) -> None:
    def synchronous(db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA synchronous").fetchone()[0])

    full, normal = 2, 1
    assert await threads.write(synchronous) == full
    assert await threads.write(synchronous, durable=False) == normal
    assert await threads.write(synchronous) == full


async def test_both_connections_keep_the_promises_of_the_file(threads: SqliteThreads) -> None:
    def settings(db: sqlite3.Connection) -> tuple[object, ...]:
        return tuple(
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "foreign_keys", "secure_delete")
        )

    assert await threads.read(settings) == ("wal", 1, 1)
    assert await threads.write(settings) == ("wal", 1, 1)


async def test_two_processes_that_start_together_make_one_database(path: Path, opener: Opener) -> None:
    stores = await asyncio.gather(*(opener() for _ in range(6)))
    await stores[0].add_account(make_account(), make_credential())
    for store in stores:
        assert await store.accounts() == (make_account(),)
    leftovers = [file.name for file in path.parent.iterdir() if ".new-" in file.name]
    assert leftovers == []
