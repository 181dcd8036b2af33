"""A stream as its reader sees it: whole events, one error at most, and never a wait too long."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.clock import FakeClock
from tests.upstream.wire import (
    ACCOUNT,
    CREATED,
    CREDENTIAL,
    DELTA,
    DONE,
    LAST,
    REQUEST,
    SSE_HEAD,
    Peer,
    Talk,
    chunk,
    client_of,
    read_stream,
    saying,
    serving,
)
from upstream.errors import FaultKind, UpstreamError
from upstream.types import RateLimitWindow, Timeouts


@pytest.mark.fault("B13")
async def test_a_stream_byte_by_byte_gives_the_same_events() -> None:
    """Whatever the network cuts, blocks are whole events and the bytes are the upstream's."""
    body = CREATED + 'data: {"x":"äöü€"}\r\n\r\n'.encode() + DELTA + DONE

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.drip(SSE_HEAD + b"".join(chunk(body[i : i + 1]) for i in range(len(body))) + LAST)
        await peer.gone()

    async with serving(talk) as server, client_of(server) as (client, _):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        blocks = []
        while block := await response.next_block():
            assert block.endswith((b"\n\n", b"\r\n\r", b"\n"))
            blocks.append(block)
        assert b"".join(blocks) == body


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (saying(SSE_HEAD + chunk(CREATED) + chunk(DELTA[:20]), then="reset"), FaultKind.TRUNCATED),
        (saying(SSE_HEAD + chunk(CREATED) + chunk(DELTA[:20]), then="close"), FaultKind.TRUNCATED),
        (saying(SSE_HEAD + chunk(CREATED) + b"40\r\nabc", then="close"), FaultKind.TRUNCATED),
        (saying(SSE_HEAD + chunk(CREATED) + chunk(DELTA[:20]) + LAST), FaultKind.TRUNCATED),
        (saying(SSE_HEAD + chunk(CREATED) + b"zz\r\n"), FaultKind.PROTOCOL),
    ],
)
async def test_a_stream_that_breaks_gives_whole_events_first(talk: Talk, kind: FaultKind) -> None:
    """No half event, and one error."""
    async with serving(talk) as server, client_of(server) as (client, pool):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        assert await response.next_block() == CREATED
        with pytest.raises(UpstreamError) as caught:
            await response.next_block()
        assert caught.value.kind is kind
        await server.until_empty() if pool.busy else None


@pytest.mark.fault("B14")
async def test_a_clean_end_without_a_terminal_event_is_the_callers_to_judge() -> None:
    """The message is whole: b"" it is."""
    async with serving(saying(SSE_HEAD + chunk(CREATED) + LAST)) as server, client_of(server) as (client, _):
        assert await read_stream(client) == CREATED


@pytest.mark.fault("B15")
@pytest.mark.parametrize("then", ["reset", "close"])
async def test_a_stream_cut_before_any_event(then: str) -> None:
    """Told as truncated; nothing was given out."""
    async with serving(saying(SSE_HEAD, then=then)) as server, client_of(server) as (client, _):
        try:
            response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
            with pytest.raises(UpstreamError) as caught:
                await response.next_block()
            assert caught.value.kind is FaultKind.TRUNCATED
        finally:
            await server.until_empty()


@pytest.mark.fault("B6")
async def test_a_dripping_upstream_does_not_stretch_the_first_event() -> None:
    """Bytes come all the time, no event does: the deadline is the first event's."""
    clock = FakeClock()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD)
        while True:
            await peer.say(chunk(b"x"))
            await asyncio.sleep(0.003)

    async with serving(talk) as server, client_of(server, clock) as (client, pool):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        reading = asyncio.create_task(response.next_block())
        for _ in range(6):
            await asyncio.sleep(0.005)
            assert not reading.done()
            clock.advance(0.9)
            pool.sweep()
        with pytest.raises(UpstreamError) as caught:
            await reading
        assert caught.value.kind is FaultKind.FIRST_EVENT_TIMEOUT
        await server.until_empty()


@pytest.mark.fault("B18")
@pytest.mark.fault("B18b")
async def test_bytes_of_a_stream_and_of_an_event_are_bounded() -> None:
    """An endless stream and an endless line end in their own errors, and the connection is closed."""

    async def endless(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD)
        while True:
            await peer.say(chunk(DELTA * 100))

    async def line(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(CREATED) + chunk(b"data: "))
        while True:
            await peer.say(chunk(b"y" * 10_000))

    for talk, kind in ((endless, FaultKind.BUDGET), (line, FaultKind.EVENT_TOO_LARGE)):
        async with (
            serving(talk) as server,
            client_of(server, max_event_bytes=50_000, max_stream_bytes=2_000_000) as (client, _),
        ):
            with pytest.raises(UpstreamError) as caught:
                await read_stream(client)
            assert caught.value.kind is kind
            await server.until_empty()


async def test_windows_and_headers_of_the_answer() -> None:
    """Windows are read from the head, and only listed fields are shown."""
    head = SSE_HEAD.replace(
        b"\r\n\r\n",
        b"\r\nX-Codex-Primary-Used-Percent: 12.5\r\nSet-Cookie: a=b\r\nx-codex-turn-state: sticky\r\n\r\n",
    )
    async with serving(saying(head + LAST)) as server, client_of(server) as (client, _):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        assert response.windows == [RateLimitWindow("primary", 12.5, None, None)]
        assert response.headers == [(b"x-codex-primary-used-percent", b"12.5"), (b"x-codex-turn-state", b"sticky")]
        response.close()


async def test_waiting_for_a_block_has_a_limit_of_its_own() -> None:
    """None after a short wait by the loop's clock, after a long one by ours; and nothing is lost by it."""
    clock = FakeClock()
    go = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(CREATED) + chunk(DELTA[:10]))
        await go.wait()
        await peer.say(chunk(DELTA[10:]) + chunk(DONE) + LAST)
        await peer.gone()

    patient = Timeouts(2, 100, 100, 500, 5)
    async with serving(talk) as server, client_of(server, clock, patient) as (client, pool):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        assert await response.next_block(15.0) == CREATED
        assert await response.next_block(0.01) is None
        waiting = asyncio.create_task(response.next_block(15.0))
        await asyncio.sleep(0.03)
        assert not waiting.done()
        clock.advance(15)
        pool.sweep()
        assert await waiting is None
        go.set()
        rest = b""
        while block := await response.next_block(15.0):
            rest += block
        assert rest == DELTA + DONE


async def test_after_the_terminal_event_nobody_waits_and_the_connection_is_kept() -> None:
    """The end of the message comes late: the caller has long been told, the next request uses the connection."""
    go = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DONE))
        await go.wait()
        await peer.say(LAST)
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DONE) + LAST)

    async with serving(talk) as server, client_of(server) as (client, pool):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        assert await response.next_block() == DONE
        response.expect_end()
        assert await response.next_block() == b""
        response.close()
        go.set()
        async with asyncio.timeout(2):
            while not pool.idle:
                await asyncio.sleep(0.001)
        assert await read_stream(client) == DONE
        assert server.accepted == 1


@pytest.mark.fault("B44")
async def test_close_in_mid_stream_closes_the_connection_at_once() -> None:
    """And twice is once."""
    async with serving(saying(SSE_HEAD + chunk(CREATED))) as server, client_of(server) as (client, pool):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        await response.next_block()
        response.close()
        response.close()
        await server.until_empty()
        assert (pool.busy, pool.idle) == (0, 0)
