"""The pool: connections are used again when that is safe, closed when in doubt, and never leaked or mixed up."""

from __future__ import annotations

import asyncio
import itertools
import random
import time

import pytest

from tests.fakes.clock import FakeClock
from tests.upstream.wire import DELTA, DONE, LAST, SSE_HEAD, TIMEOUTS, Peer, ask, chunk, pooled, read_all, serving
from upstream.errors import FaultKind, UpstreamError
from upstream.types import Timeouts

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"


async def echo(peer: Peer) -> None:
    """Answers each request with its own body, as a chunked stream of two pieces."""
    while True:
        _, body = await peer.request()
        await peer.say(SSE_HEAD + chunk(body))
        await asyncio.sleep(0)
        await peer.say(chunk(body) + LAST)


async def hang(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def test_a_finished_connection_carries_the_next_request() -> None:
    """Ten requests in a row on one connection."""
    async with serving(echo) as server, pooled() as pool:
        for number in range(10):
            body = b"%d" % number
            assert await read_all(await ask(pool, server, body)) == body * 2
        assert server.accepted == 1
        assert (pool.stats.opened, pool.stats.reused, pool.idle, pool.busy) == (1, 9, 1, 0)


async def test_the_latest_idle_connection_is_taken_first_and_old_ones_end() -> None:
    """Last in, first out, so that the surplus of a burst ages and is closed."""
    clock = FakeClock()
    async with serving(echo) as server, pooled(clock) as pool:
        await asyncio.gather(*(ask(pool, server) for _ in range(4)))
        async with asyncio.timeout(2):
            while pool.idle != 4:
                await asyncio.sleep(0.001)
        clock.advance(40)
        await read_all(await ask(pool, server))
        clock.advance(20)
        pool.sweep()
        assert pool.idle == 1
        async with asyncio.timeout(2):
            while server.open != 1:
                await asyncio.sleep(0.001)


@pytest.mark.fault("B5")
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_connection_lost_before_the_answer(how: str) -> None:
    """Fresh: lost. Kept from before: lost, and told apart."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        if server.accepted == 2:
            await peer.say(PLAIN)
            await peer.request()
        if how == "reset":
            peer.reset()

    async with serving(talk) as server, pooled() as pool:
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, server)
        assert (caught.value.kind, caught.value.reused, caught.value.sent) == (FaultKind.LOST, False, True)
        await read_all(await ask(pool, server))
        with pytest.raises(UpstreamError) as again:
            await ask(pool, server)
        assert (again.value.kind, again.value.reused, again.value.sent) == (FaultKind.LOST, True, True)


@pytest.mark.fault("B3")
async def test_a_connection_that_ends_while_idle_is_forgotten() -> None:
    """The next request dials anew and knows nothing of it."""

    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.say(PLAIN)

    async with serving(once) as server, pooled() as pool:
        for _ in range(3):
            assert await read_all(await ask(pool, server)) == b"abc"
            await server.until_empty()
            async with asyncio.timeout(2):
                while pool.idle:
                    await asyncio.sleep(0.001)
        assert server.accepted == 3


@pytest.mark.fault("B6")
@pytest.mark.fault("B7")
@pytest.mark.parametrize(
    ("said", "kind"),
    [(b"", FaultKind.FIRST_EVENT_TIMEOUT), (b"HTTP/1.1 200 OK\r\nx: ", FaultKind.HEADER_TIMEOUT)],
)
async def test_the_deadline_for_the_head_is_total(said: bytes, kind: FaultKind) -> None:
    """Whether nothing comes or a byte at a time: the time from the start counts."""
    clock = FakeClock()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)
        while said:
            await peer.say(b"a")
            await asyncio.sleep(0.005)
        await peer.gone()

    async with serving(talk) as server, pooled(clock) as pool:
        asking = asyncio.create_task(ask(pool, server))
        while not pool.busy:
            await asyncio.sleep(0.001)
        for _ in range(int(TIMEOUTS.first_event_s) * 2):
            await asyncio.sleep(0.012)
            assert not asking.done()
            clock.advance(0.5)
        with pytest.raises(UpstreamError) as caught:
            await asking
        assert caught.value.kind is kind
        await server.until_empty()


@pytest.mark.fault("B17")
@pytest.mark.fault("B18")
@pytest.mark.parametrize(("idle_s", "total_s", "kind"), [(5, 50, FaultKind.IDLE), (50, 5, FaultKind.BUDGET)])
async def test_silence_and_length_of_a_stream_are_bounded(idle_s: float, total_s: float, kind: FaultKind) -> None:
    """Each by its own deadline, after the first event."""
    clock = FakeClock()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DELTA))
        await peer.gone()

    async with serving(talk) as server, pooled(clock) as pool:
        exchange = await ask(pool, server, timeouts=Timeouts(1, 1, idle_s, total_s, 1))
        assert await exchange.read() == DELTA
        exchange.first_event_seen()
        pool.sweep()
        clock.advance(4.9)
        pool.sweep()
        assert exchange.error is None
        clock.advance(0.2)
        pool.sweep()
        with pytest.raises(UpstreamError) as caught:
            await exchange.read()
        assert caught.value.kind is kind
        await server.until_empty()


@pytest.mark.fault("B43")
async def test_the_silence_of_a_paused_upstream_is_not_its_fault() -> None:
    """A slow reader never turns into an idle timeout."""
    clock = FakeClock()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD)
        for _ in range(8):
            await peer.say(chunk(b"y" * 262_144))
        await peer.say(LAST)
        await peer.gone()

    async with serving(talk) as server, pooled(clock) as pool:
        exchange = await ask(pool, server, timeouts=Timeouts(1, 1, 5, 500, 1))
        exchange.first_event_seen()
        async with asyncio.timeout(2):
            while not exchange.paused:
                await asyncio.sleep(0.001)
        for _ in range(5):
            clock.advance(20)
            pool.sweep()
        assert len(await read_all(exchange)) == 8 * 262_144


@pytest.mark.fault("B61")
async def test_after_a_stall_of_the_loop_what_has_arrived_counts() -> None:
    """The sweep that comes late gives the sockets one round first."""
    clock = FakeClock()
    go = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DELTA))
        await go.wait()
        await peer.say(chunk(DONE) + LAST)
        await peer.gone()

    async with serving(talk) as server, pooled(clock) as pool:
        exchange = await ask(pool, server, timeouts=Timeouts(1, 1, 1, 500, 1))
        assert await exchange.read() == DELTA
        exchange.first_event_seen()
        pool.sweep()
        go.set()
        clock.advance(2)
        time.sleep(0.1)  # the loop stands still while the deadline passes
        assert await read_all(exchange) == DONE


@pytest.mark.fault("B44")
async def test_cancelling_at_any_await_closes_the_connection_and_leaks_nothing() -> None:
    """Cancelled after n turns of the loop, for every n until the whole exchange gets through."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0)
        await peer.say(SSE_HEAD)
        await asyncio.sleep(0)
        await peer.say(chunk(DELTA))
        await asyncio.sleep(0.001)
        await peer.say(chunk(DONE) + LAST)
        await peer.gone()

    async def whole() -> None:
        exchange = await ask(pool, server)
        try:
            await read_all(exchange)
        finally:
            exchange.abort()

    async with serving(talk) as server, pooled() as pool:
        before = asyncio.all_tasks()
        cancelled = 0
        for turns in itertools.count():
            task = asyncio.create_task(whole())
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled += 1
            assert pool.busy == 0
        assert cancelled > 3
        await pool.aclose()
        await server.until_empty()
        async with asyncio.timeout(2):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.001)


@pytest.mark.fault("B44")
async def test_cancelled_streams_never_leak_a_byte_into_the_next() -> None:
    """400 streams with a name of their own, half of them given up somewhere: every reader sees only its own name."""
    rng = random.Random(7)

    async def talk(peer: Peer) -> None:
        while True:
            _, name = await peer.request()
            await peer.say(SSE_HEAD)
            for _ in range(4):
                await peer.say(chunk(name))
                await asyncio.sleep(rng.random() * 0.002)
            await peer.say(LAST)

    async def one(number: int) -> None:
        name = b"<%06d>" % number
        exchange = await ask(pool, server, name)
        patience = rng.randrange(8)
        got = b""
        try:
            while data := await exchange.read():
                got += data
                if patience == 0 and len(got) >= 16:
                    break
                if patience == 1:
                    pool.linger(exchange)
                    break
        finally:
            if patience != 1:
                exchange.abort()
        assert got == name * (len(got) // len(name))

    async def impatient(number: int) -> None:
        task = asyncio.create_task(one(number))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.006)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()

    async with serving(talk) as server, pooled() as pool:
        for start in range(0, 400, 40):
            await asyncio.gather(*(impatient(n) for n in range(start, start + 40)))
        assert pool.stats.reused > 50
        assert pool.stats.desync_detected == 0


async def test_a_lingering_connection_is_kept_when_its_end_comes_soon() -> None:
    """The reader leaves at the terminal event; the final chunk comes later."""
    go = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DONE))
        await go.wait()
        await peer.say(chunk(b": bye\n\n") + LAST)
        await peer.request()
        await peer.say(PLAIN)

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server)
        assert await exchange.read() == DONE
        pool.linger(exchange)
        go.set()
        async with asyncio.timeout(2):
            while not pool.idle:
                await asyncio.sleep(0.001)
        assert await read_all(await ask(pool, server)) == b"abc"
        assert server.accepted == 1


async def test_a_lingering_connection_is_closed_when_no_end_comes() -> None:
    """Within the linger time, and without anybody waiting."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DONE))
        await peer.gone()

    async with serving(talk) as server, pooled() as pool:
        pool.linger(await ask(pool, server))
        assert pool.busy == 1
        await server.until_empty()
        assert (pool.busy, pool.idle) == (0, 0)
