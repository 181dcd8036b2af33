"""The short way of a response: what is poured, what is not, and that the order is one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tests.fakes.clock import FakeClock
from tests.upstream.wire import CREATED, DELTA, DONE
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.pool import ConnectionPool
from upstream.response import UpstreamResponse
from upstream.types import Timeouts


class Carrier:
    """The connection below: bytes come when the test says so."""

    def __init__(self) -> None:
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True

    def resume_reading(self) -> None: ...


class Bench:
    """A response whose first block is out, and a sink that notes what it was given."""

    def __init__(self, max_stream_bytes: int = 1 << 20) -> None:
        self.clock = FakeClock()
        self.exchange = Exchange(Carrier(), Timeouts(), self.clock.monotonic_s())
        self.exchange.status = 200
        nobody = cast("ConnectionPool", None)
        self.response = UpstreamResponse(self.exchange, nobody, self.clock, 4096, max_stream_bytes)
        self.poured: list[bytes] = []
        self.takes = True

    def sink(self, block: bytes) -> bool:
        if self.takes:
            self.poured.append(block)
        return self.takes

    def arrive(self, data: bytes) -> None:
        """One read of the connection."""
        assert not self.exchange.arrived(data)
        self.exchange.wake_reader()

    @contextlib.asynccontextmanager
    async def waiting(self, wait_s: float | None = 15.0) -> AsyncIterator[asyncio.Task[bytes | None]]:
        """A reader that waits for the second block, with the short way open."""
        self.arrive(CREATED)
        assert await self.response.next_block() == CREATED
        self.response.pour(self.sink)
        reader = asyncio.create_task(self.response.next_block(wait_s))
        await asyncio.sleep(0)
        yield reader
        reader.cancel()
        await asyncio.wait([reader])
        self.response.pour(None)


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_whole_events_are_poured_at_once_and_the_reader_sleeps_on() -> None:
    bench = Bench()
    async with bench.waiting() as reader:
        bench.arrive(DELTA)
        bench.arrive(DELTA + DELTA)
        assert bench.poured == [DELTA, DELTA + DELTA], "from the callback, not a turn of the loop later"
        await turn()
        assert not reader.done()


async def test_half_an_event_goes_the_long_way_and_the_short_way_opens_again_behind_it() -> None:
    """No half event is offered; its other half comes out of the reader; then blocks are poured again."""
    bench = Bench()
    async with bench.waiting() as reader:
        bench.arrive(DELTA + DELTA[:9])
        await turn()
        assert (bench.poured, await reader) == ([], DELTA)
        again = asyncio.create_task(bench.response.next_block(15.0))
        await turn()
        bench.arrive(DELTA[9:])
        assert await again == DELTA
        last = asyncio.create_task(bench.response.next_block(15.0))
        await turn()
        bench.arrive(DELTA)
        assert bench.poured == [DELTA]
        last.cancel()
        await asyncio.wait([last])


async def test_what_the_sink_leaves_is_the_readers_and_nothing_overtakes_it() -> None:
    """Refused once: what comes before the reader has run waits behind it, although the sink would take it."""
    bench = Bench()
    async with bench.waiting() as reader:
        bench.takes = False
        bench.arrive(DONE)
        bench.takes = True
        bench.arrive(DELTA)
        assert await reader == DONE + DELTA
        assert bench.poured == []


async def test_nothing_is_poured_once_the_reader_is_cancelled() -> None:
    """From the moment of the cancellation, before the reader's task has run."""
    bench = Bench()
    async with bench.waiting() as reader:
        reader.cancel()
        bench.arrive(DELTA)
        assert bench.poured == []


async def test_the_end_and_a_fault_find_the_reader_behind_what_was_poured() -> None:
    bench = Bench()
    async with bench.waiting() as reader:
        bench.arrive(DELTA)
        bench.exchange.end(UpstreamError(FaultKind.TRUNCATED))
        with pytest.raises(UpstreamError) as caught:
            await reader
        assert (caught.value.kind, bench.poured) == (FaultKind.TRUNCATED, [DELTA])


async def test_poured_bytes_count_towards_the_largest_stream() -> None:
    bench = Bench(max_stream_bytes=len(CREATED + DELTA + DELTA) + 1)
    async with bench.waiting() as reader:
        bench.arrive(DELTA)
        bench.arrive(DELTA)
        bench.arrive(DELTA)
        with pytest.raises(UpstreamError) as caught:
            await reader
        assert (caught.value.kind, bench.poured) == (FaultKind.BUDGET, [DELTA, DELTA])


async def test_an_event_above_the_limit_is_not_poured() -> None:
    bench = Bench()
    async with bench.waiting() as reader:
        bench.arrive(b"data: " + b"x" * 5000 + b"\n\n")
        with pytest.raises(UpstreamError) as caught:
            await reader
        assert (caught.value.kind, bench.poured) == (FaultKind.EVENT_TOO_LARGE, [])


async def test_silence_is_told_although_blocks_were_poured() -> None:
    """The wait begins anew with the sweep that sees that something was poured."""
    bench = Bench()
    async with bench.waiting(15.0) as reader:
        began_s = bench.clock.monotonic_s()
        bench.arrive(DELTA)
        bench.exchange.nudge_if_due(began_s + 14.9)
        bench.exchange.nudge_if_due(began_s + 15.1)
        await turn()
        assert not reader.done()
        bench.exchange.nudge_if_due(began_s + 30.0)
        assert await reader is None


async def test_a_wait_with_a_timer_of_its_own_pours_nothing() -> None:
    """Its timer could not be put off."""
    bench = Bench()
    async with bench.waiting(0.5) as reader:
        bench.arrive(DELTA)
        assert (await reader, bench.poured) == (DELTA, [])


async def test_without_a_sink_everything_goes_the_long_way() -> None:
    bench = Bench()
    async with bench.waiting() as reader:
        bench.response.pour(None)
        bench.arrive(DELTA)
        assert (await reader, bench.poured) == (DELTA, [])
