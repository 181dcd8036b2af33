"""Request records are written soon, in order, once; admin acts at once or not at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from ops.audit import AuditLog, OnFull
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from store.records import AuditRecord
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_audit


class FlakyStore(MemoryStore):
    """A store that can be away, or slow until it is let go."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.away = False
        self.gate: asyncio.Event | None = None
        self.calls = 0

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise StoreUnavailable("database is locked")
        return await super().append_audit(records)

    async def actions(self) -> list[str]:
        return [record.action for record in await self.search_audit(limit=100_000)]


def make_log(store: FlakyStore, clock: FakeClock, queue_size: int = 100, on_full: OnFull = "drop") -> AuditLog:
    return AuditLog(store, flush_s=0.2, queue_size=queue_size, on_full=on_full, clock=clock)


async def turn(clock: FakeClock, seconds: float = 0.2) -> None:
    """Lets time pass and everybody act on it."""
    for _ in range(3):
        await asyncio.sleep(0)
    clock.advance(seconds)
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FlakyStore:
    return FlakyStore()


async def test_records_are_written_at_the_next_tick_in_order(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock)
    running = asyncio.ensure_future(log.run())
    for number in range(5):
        log.record(make_audit(f"a{number}"))
    assert (log.pending, log.written) == (5, 0)
    await turn(clock, 0.1)
    assert log.written == 0
    await turn(clock, 0.1)
    assert (log.pending, log.written) == (0, 5)
    assert await store.actions() == ["a0", "a1", "a2", "a3", "a4"]
    await log.close()
    await turn(clock)
    await running


async def test_many_records_go_in_batches_of_bounded_size(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock, queue_size=10_000)
    for number in range(1200):
        log.record(make_audit(f"a{number}"))
    await log.close()
    assert store.calls == 3
    assert await store.actions() == [f"a{number}" for number in range(1200)]


@pytest.mark.fault("B63")
async def test_a_store_that_is_away_delays_records_and_keeps_their_order(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock)
    running = asyncio.ensure_future(log.run())
    store.away = True
    log.record(make_audit("first"))
    await turn(clock)
    log.record(make_audit("second"))
    await turn(clock)
    assert (log.pending, log.written, log.dropped, log.failing) == (2, 0, 0, True)
    store.away = False
    await turn(clock)
    assert (log.pending, log.written, log.failing) == (0, 2, False)
    assert await store.actions() == ["first", "second"]
    running.cancel()


async def test_a_full_queue_drops_and_counts(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock, queue_size=3)
    for number in range(5):
        log.record(make_audit(f"a{number}"))
    assert (log.pending, log.dropped, log.full) == (3, 2, False)
    await log.close()
    assert await store.actions() == ["a0", "a1", "a2"]


async def test_a_full_queue_that_refuses_says_so_and_still_takes_what_is_in_work(
    store: FlakyStore, clock: FakeClock
) -> None:
    log = make_log(store, clock, queue_size=2, on_full="refuse")
    full = []
    for action in ("a", "b", "in work already"):
        full.append(log.full)
        log.record(make_audit(action))
    assert full == [False, False, True]
    assert (log.pending, log.dropped) == (3, 0)
    await log.close()
    assert not log.full
    assert await store.actions() == ["a", "b", "in work already"]


async def test_a_cancelled_writer_neither_loses_nor_repeats_its_batch(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock)
    store.gate = asyncio.Event()
    running = asyncio.ensure_future(log.run())
    log.record(make_audit("under way"))
    await turn(clock)
    assert store.calls == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    log.record(make_audit("behind it"))
    closing = asyncio.ensure_future(log.close())
    await turn(clock, 0)
    store.gate.set()
    await closing
    assert await store.actions() == ["under way", "behind it"]
    assert (log.pending, log.written, log.dropped) == (0, 2, 0)


async def test_closing_tries_again_and_then_counts_what_is_lost(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock)
    store.away = True
    log.record(make_audit("a"))
    closing = asyncio.ensure_future(log.close())
    for _ in range(4):
        await turn(clock)
    await closing
    assert store.calls == 3
    assert (log.pending, log.written, log.dropped) == (0, 0, 1)


async def test_closing_writes_what_a_store_that_comes_back_will_take(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock)
    store.away = True
    log.record(make_audit("a"))
    closing = asyncio.ensure_future(log.close())
    await turn(clock, 0)
    store.away = False
    await turn(clock)
    await closing
    assert await store.actions() == ["a"]


@pytest.mark.fault("B63")
async def test_an_act_is_stored_before_it_returns_and_raises_when_it_cannot_be(
    store: FlakyStore, clock: FakeClock
) -> None:
    log = make_log(store, clock)
    log.record(make_audit("waits"))
    assert await log.act(make_audit("keys.create")) == 1
    assert await store.actions() == ["keys.create"]
    store.away = True
    with pytest.raises(StoreUnavailable):
        await log.act(make_audit("keys.revoke"))
    store.away = False
    await log.close()
    assert await store.actions() == ["keys.create", "waits"]
    assert log.written == 2


async def test_recording_costs_next_to_nothing(store: FlakyStore, clock: FakeClock) -> None:
    log = make_log(store, clock, queue_size=1_000_000)
    record = make_audit()
    started_s = time.process_time()
    for _ in range(20_000):
        log.record(record)
    assert (time.process_time() - started_s) / 20_000 < 5e-6
