"""A client that reads slowly or not at all slows its upstream, costs bounded memory, and is cut in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import faulty_events as events
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import eventually, line, nothing_left
from tests.flow.stage import stage

PUSHED_AT_MOST = 16 << 20


@pytest.mark.fault("B43")
async def test_a_client_that_reads_nothing_stops_the_upstream_and_is_cut(tmp_path: Path) -> None:
    """An endless stream of small events: the upstream is not read on, then both sides end and nobody is blamed."""
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, server={"write_stall_s": 1.0}) as scene,
    ):
        upstream.default = streams.infinite()
        async with line(scene, receive_buffer=8192) as client:
            await client.send(client.request())
            await eventually(lambda: upstream.requests == 1)
            await upstream.until(lambda: upstream.aborted == 1, timeout_s=8)
            await eventually(lambda: nothing_left(scene))
        assert upstream.bytes_written <= PUSHED_AT_MOST
        assert [scene.state(n) for n in range(2)] == ["ok", "ok"]
        assert [scene.strikes(n) for n in range(2)] == [0, 0]
        assert await scene.metric("relay_stream_end_total", reason="client_stalled") == 1
        upstream.default = modes.good()
        assert (await scene.relay()).code is None


@pytest.mark.fault("B43")
async def test_a_slow_reader_gets_every_event_and_is_not_cut(tmp_path: Path) -> None:
    """A client that pauses longer than the upstream's idle limit loses nothing of a stream larger than all buffers."""
    blocks = events.text_stream(["x" * 40_000] * 100)
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, upstream={"idle_timeout_s": 0.5}) as scene,
    ):
        upstream.default = modes.raw_events(blocks)
        async with line(scene, receive_buffer=8192) as client:
            await client.send(client.request())
            assert (await client.head()).status == 200
            written = await stands_still(lambda: upstream.bytes_written, for_s=0.8)
            assert written < sum(map(len, blocks)), "the stream fits into buffers: this proves nothing"
            body = await client.until(b"\r\n0\r\n\r\n", wait_s=10)
        assert body.count(b"event: response.output_text.delta") == 100
        assert body.count(b"event: response.completed") == 1
        assert await scene.metric("relay_stream_end_total", reason="completed") == 1


async def stands_still(read: Callable[[], int], for_s: float) -> int:
    """The value that ``read`` has kept for ``for_s`` seconds."""
    loop = asyncio.get_running_loop()
    value, since_s = read(), loop.time()
    while loop.time() - since_s < for_s:
        await asyncio.sleep(0.02)
        if read() != value:
            value, since_s = read(), loop.time()
    return value
