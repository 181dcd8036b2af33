"""A pool with a cap, and a pool that is closed."""

from __future__ import annotations

import asyncio

import pytest

from tests.upstream.test_pool import echo, hang
from tests.upstream.wire import LAST, SSE_HEAD, Peer, ask, chunk, pooled, read_all, serving
from upstream.errors import FaultKind, UpstreamError
from upstream.types import Timeouts


async def test_a_cap_makes_callers_wait() -> None:
    """The next gets the connection that becomes free; one that gives up waiting takes nobody's turn."""
    go = asyncio.Semaphore(0)

    async def talk(peer: Peer) -> None:
        while True:
            _, body = await peer.request()
            await peer.say(SSE_HEAD)
            await go.acquire()
            await peer.say(chunk(body) + LAST)

    async with serving(talk) as server, pooled(most=1) as pool:
        first = await ask(pool, server, b"a")
        given_up = asyncio.create_task(ask(pool, server, b"b"))
        third = asyncio.create_task(ask(pool, server, b"c"))
        await asyncio.sleep(0.01)
        assert not given_up.done()
        assert not third.done()
        go.release()
        assert await read_all(first) == b"a"
        given_up.cancel()  # it may just have been woken
        with pytest.raises(asyncio.CancelledError):
            await given_up
        go.release()
        assert await read_all(await third) == b"c"
        assert server.open <= 1


async def test_under_a_cap_an_idle_connection_gives_way_to_another_origin() -> None:
    """Rather than to make the caller wait for nothing."""
    async with serving(echo) as server, serving(echo) as other, pooled(most=1) as pool:
        await read_all(await ask(pool, server))
        await read_all(await ask(pool, other))
        await server.until_empty()
        assert pool.idle == 1


async def test_who_waits_too_long_under_a_cap_has_sent_nothing() -> None:
    """And the one in front is not disturbed."""
    async with serving(hang) as server, pooled(most=1) as pool:
        front = asyncio.create_task(ask(pool, server))
        await asyncio.sleep(0.01)
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, server, timeouts=Timeouts(connect_s=0.05))
        assert caught.value.kind is FaultKind.CONNECT_TIMEOUT
        assert not caught.value.sent
        assert not front.done()
        front.cancel()
        with pytest.raises(asyncio.CancelledError):
            await front


async def test_closing_the_pool_ends_what_runs_and_refuses_what_comes() -> None:
    """Nothing hangs on a pool that is gone."""
    async with serving(hang) as server, pooled() as pool:
        running = asyncio.create_task(ask(pool, server))
        while not server.open:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        await pool.aclose()
        with pytest.raises(UpstreamError):
            await running
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, server)
        assert not caught.value.sent
        await server.until_empty()
