"""The short way down: plain blocks are written where they were read, everything else is the loop's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import pytest

from gateway.exchange import Exchange
from gateway.ownership import Ownership
from gateway.relay import OpenedStream
from gateway.streaming import HEARTBEAT, Pump
from gateway.types import Dialect
from router.types import RouteQuery
from store.memory import MemoryStore
from tests.fakes.backend import COMPLETED, CREATED, event, make_exchange, make_request
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line
from tests.fakes.routing import MODEL, pool_of
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange as UpstreamExchange
from upstream.pool import ConnectionPool
from upstream.response import UpstreamResponse
from upstream.types import Timeouts


def delta(number: int) -> bytes:
    return event("response.output_text.delta", sequence_number=number, delta='"x"')


class Carrier:
    def abandon(self) -> None: ...

    def resume_reading(self) -> None: ...


class Spout:
    """The client's connection: takes pieces unless it is told not to. Both ways end in ``line.pieces``."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.pushed: list[bytes] = []
        self.takes = True

    def push(self, piece: bytes) -> bool:
        if self.takes:
            self.pushed.append(piece)
            self.line.messages.append({"type": "http.response.body", "body": piece, "more_body": True})
        return self.takes


class Bench:
    """One committed stream whose upstream is a bare exchange."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.pool = pool_of(1, self.clock)
        self.upstream = UpstreamExchange(Carrier(), Timeouts(), self.clock.monotonic_s())
        self.upstream.status = 200
        connections = ConnectionPool(cast("object", None), self.clock)  # type: ignore[arg-type]  # nothing is dialled
        self.response = UpstreamResponse(self.upstream, connections, self.clock, 65_536, 1 << 20)
        self.line = Line()
        self.spout = Spout(self.line)
        self.exchange: Exchange = make_exchange(attempts=1)
        opened = OpenedStream(self.pool.lease(RouteQuery(MODEL)), self.response, b"", make_request())
        ownership = Ownership(self.pool.placements, MemoryStore(self.clock), self.clock)
        self.opened = opened
        self.pump = Pump(opened, self.exchange, ownership, self.clock, self.spout)

    async def arrive(self, data: bytes) -> None:
        self.upstream.arrived(data)
        self.upstream.wake_reader()
        await turn()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """The pump at its wait, the first event down."""
        self.upstream.arrived(CREATED)
        held = await self.response.next_block()
        assert held is not None
        self.opened.held = held
        task = asyncio.create_task(self.pump.run(self.line.send, 15.0))
        await turn()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            self.pump.settle()


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_plain_blocks_are_pushed_and_counted_and_the_end_comes_by_the_loop() -> None:
    bench = Bench()
    first, then = delta(1), delta(2)
    async with bench.running() as task:
        await bench.arrive(first)
        await bench.arrive(then)
        await bench.arrive(COMPLETED)
        await task
    assert bench.spout.pushed == [first, then]
    assert bench.line.pieces == [CREATED, first, then, COMPLETED]
    assert bench.line.ended
    assert bench.exchange.events == 4
    assert bench.exchange.bytes_out == sum(map(len, bench.line.pieces))
    assert bench.exchange.end == "completed"


async def test_numbers_out_of_order_are_noticed_on_the_short_way() -> None:
    bench = Bench()
    async with bench.running():
        await bench.arrive(delta(1))
        assert not bench.exchange.disordered
        await bench.arrive(delta(3))
        assert bench.exchange.disordered


async def test_sealed_parts_are_learned_and_so_never_take_the_short_way() -> None:
    bench = Bench()
    item = '{"type":"reasoning","encrypted_content":"gAAA"}'
    sealed = event("response.output_item.done", sequence_number=1, item=item)
    async with bench.running():
        await bench.arrive(sealed)
    assert bench.spout.pushed == []
    assert bench.line.pieces == [CREATED, sealed]


async def test_a_client_that_takes_nothing_is_awaited_by_the_loop_and_order_holds() -> None:
    """The refused block goes by ``send``; what comes while that waits is kept, and follows it."""
    bench = Bench()
    blocks = [delta(n) for n in range(1, 5)]
    async with bench.running():
        await bench.arrive(blocks[0])
        bench.spout.takes = False
        bench.line.gate = asyncio.Event()
        await bench.arrive(blocks[1])
        bench.spout.takes = True
        await bench.arrive(blocks[2])
        assert bench.spout.pushed == blocks[:1]
        bench.line.gate.set()
        await turn()
        await bench.arrive(blocks[3])
    assert b"".join(bench.line.pieces) == CREATED + b"".join(blocks)
    assert bench.spout.pushed == [blocks[0], blocks[3]], "the short way is open again"


async def test_an_upstream_that_dies_behind_pushed_blocks_is_told_with_the_next_number() -> None:
    bench = Bench()
    async with bench.running() as task:
        await bench.arrive(delta(1))
        bench.upstream.end(UpstreamError(FaultKind.TRUNCATED, "the connection ended inside the answer"))
        await task
    assert b'"sequence_number":2' in bench.line.pieces[-1]
    assert bench.line.pieces[-1].startswith(b"event: response.failed")
    assert bench.line.ended


async def test_heartbeats_fill_the_silence_behind_pushed_blocks() -> None:
    bench = Bench()
    async with bench.running():
        began_s = bench.clock.monotonic_s()
        await bench.arrive(delta(1))
        bench.upstream.nudge_if_due(began_s + 15.0)
        await turn()
        assert HEARTBEAT[Dialect.SDK] not in bench.line.pieces
        bench.upstream.nudge_if_due(began_s + 30.0)
        await turn()
        assert bench.line.pieces[-1] == HEARTBEAT[Dialect.SDK]
        await bench.arrive(delta(2))
        assert bench.spout.pushed == [delta(1), delta(2)]


@pytest.mark.parametrize("settled", [False, True], ids=["cancelled", "settled"])
async def test_nothing_is_pushed_once_the_stream_is_left(settled: bool) -> None:
    """From the cancellation on, or from the settlement: no byte follows what ended the stream."""
    bench = Bench()
    async with bench.running() as task:
        await bench.arrive(delta(1))
        if settled:
            bench.pump.settle()
        else:
            task.cancel()
        bench.upstream.arrived(delta(2))
    assert bench.spout.pushed == [delta(1)]
