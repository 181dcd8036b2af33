"""Streams whose blocks are written where they are read: revoked, cut and slowed down while that goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from tests.fakes import faulty_events as events
from tests.fakes import faulty_streams as streams
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_modes import LAST_CHUNK, chunk, head, steps
from tests.fakes.faulty_wire import Mode, Repeat, Reset, Send, Step
from tests.flow.raw import Line, eventually, line, nothing_left
from tests.flow.stage import stage

DELTA = b"event: response.output_text.delta"


def one_by_one(blocks: list[bytes], *end: Step) -> Mode:
    """A read for each block, then ``end``."""
    return steps(Send(head()), Repeat(lambda n: chunk(blocks[n]), 0.002, len(blocks)), *end)


async def running(client: Line) -> None:
    """Some of the stream is down, and more comes."""
    await client.send(client.request())
    await client.until(DELTA)
    await client.until(DELTA)


async def test_a_revoked_key_ends_a_stream_that_never_rests(tmp_path: Path) -> None:
    """One ``response.failed``, with the number behind the last delta, and nothing behind it."""
    clock = FakeClock()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, clock=clock) as scene,
        line(scene) as client,
    ):
        upstream.default = streams.infinite(every_s=0.002)
        secret, key = await scene.gateway.make_key()
        client.key = secret.reveal()
        await running(client)
        await scene.gateway.gateway.store.put_key(replace(key, revoked_at_s=1.0), key.version)
        for _ in range(30):
            clock.advance(1.0)
            await asyncio.sleep(0.005)
        body = await client.until(b"\r\n0\r\n\r\n")
        told = body.split(b"event: ")
        assert told[-1].startswith(b"response.failed")
        assert b'"invalid_api_key"' in told[-1]
        assert body.count(b"event: response.failed") == 1
        await upstream.until(lambda: upstream.aborted == 1)
        await eventually(lambda: nothing_left(scene))
        assert [scene.strikes(n) for n in range(2)] == [0, 0]


async def test_an_upstream_that_dies_between_two_blocks_is_told_and_every_block_before_it_came(tmp_path: Path) -> None:
    blocks = events.text_stream(["again "] * 60)
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url) as scene,
        line(scene) as client,
    ):
        upstream.default = one_by_one(blocks[:50], Reset())
        await client.send(client.request())
        body = await client.until(b"\r\n0\r\n\r\n")
        told = body.split(b"event: ")[1:]
        assert len(told) == 51
        assert told[-1].startswith(b"response.failed")
        await eventually(lambda: nothing_left(scene))
        assert await scene.metric("relay_upstream_seq_anomaly_total") == 0


async def test_every_event_is_counted_and_in_order_when_each_comes_by_itself(tmp_path: Path) -> None:
    """The books of the short way: events and bytes are those of the stream, and no number is out of order."""
    blocks = events.text_stream(["word "] * 40)
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url) as scene,
        line(scene) as client,
    ):
        upstream.default = one_by_one(blocks, Send(LAST_CHUNK))
        await client.send(client.request())
        body = await client.until(b"\r\n0\r\n\r\n")
        assert body.count(b"event: ") == len(blocks)
        await eventually(lambda: nothing_left(scene))
        assert await scene.metric("relay_events_total") == len(blocks)
        assert await scene.metric("relay_upstream_seq_anomaly_total") == 0
        assert await scene.metric("relay_stream_end_total", reason="completed") == 1
