"""A key that is revoked or expires ends what runs under it within thirty seconds, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from store.records import ClientKey
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream, Mode
from tests.flow.raw import Line, eventually, line, nothing_left
from tests.flow.stage import Stage, stage

LIMIT_S = 30.0


async def let_time_pass(scene: Stage, clock: FakeClock, seconds: float) -> None:
    """The clock goes on in steps; the background does what it does."""
    for _ in range(int(seconds)):
        clock.advance(1.0)
        await asyncio.sleep(0.005)
    await scene.settled()


async def bearer_of(scene: Stage, client: Line, expires_at_s: float | None = None) -> ClientKey:
    """Gives ``client`` a key of its own."""
    secret, record = await scene.gateway.make_key(expires_at_s=expires_at_s)
    client.key = secret.reveal()
    return record


async def revoke(scene: Stage, key: ClientKey) -> None:
    """As ``codex-relay keys revoke`` does."""
    await scene.gateway.gateway.store.put_key(replace(key, revoked_at_s=1.0), key.version)


@pytest.mark.parametrize("how", ["revoked", "expired", "tenant disabled"])
async def test_a_stream_ends_with_its_key(tmp_path: Path, how: str) -> None:
    """The client hears ``response.failed`` with the next number, the upstream is closed, no account is blamed."""
    clock = FakeClock()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, clock=clock) as scene,
        line(scene) as client,
        line(scene) as other,
    ):
        upstream.default = streams.idle(after=5)
        store = scene.gateway.gateway.store
        key = await bearer_of(scene, client, clock.now_s() + 10 if how == "expired" else None)
        if how == "tenant disabled":
            secret, _ = await scene.gateway.make_key("another")
            other.key = secret.reveal()
        await client.send(client.request())
        await other.send(other.request())
        await upstream.until(lambda: upstream.open_streams == 2)
        await client.until(b"\r\n\r\n")
        if how == "revoked":
            await revoke(scene, key)
        elif how == "tenant disabled":
            (tenant,) = [one for one in await store.tenants() if one.id == "demo"]
            await store.put_tenant(replace(tenant, enabled=False), tenant.version)
        await let_time_pass(scene, clock, LIMIT_S)
        body = await client.until(b"\r\n0\r\n\r\n")
        assert b'"invalid_api_key"' in body
        assert body.count(b"event: response.failed") == 1
        assert upstream.open_streams == 1, "the other key's stream runs on"
        assert [scene.strikes(n) for n in range(2)] == [0, 0]
        assert scene.gateway.gateway.pool.snapshot().inflight == 1


@pytest.mark.parametrize(
    ("mode", "streamed"),
    [(modes.hang_pre(), True), (modes.hang_pre(), False), (streams.idle(after=5), False)],
    ids=["before the commit", "before the headers, whole", "whole"],
)
async def test_a_request_without_an_answer_yet_gets_401(tmp_path: Path, mode: Mode, streamed: bool) -> None:
    clock = FakeClock()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, clock=clock) as scene,
        line(scene) as client,
    ):
        upstream.default = mode
        sections = b'{"model": "gpt-5.5", "input": "hello", "stream": %s}' % (b"true" if streamed else b"false")
        key = await bearer_of(scene, client)
        await client.send(client.request(sections))
        await upstream.until(lambda: upstream.open_streams == 1)
        await revoke(scene, key)
        await scene.settled()
        await scene.gateway.gateway.background.revoke()
        assert await client.error() == (401, "invalid_api_key")
        await upstream.until(lambda: upstream.aborted == 1)
        await eventually(lambda: nothing_left(scene))


async def test_a_client_that_reads_nothing_cannot_hold_its_upstream_open(tmp_path: Path) -> None:
    """Blocked on a full socket, the stream still ends with its key: the upstream is closed at once."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = streams.infinite()
        async with line(scene, receive_buffer=8192) as client:
            key = await bearer_of(scene, client)
            await client.send(client.request())
            await eventually(lambda: upstream.bytes_written > 1 << 20, within_s=5)
            await revoke(scene, key)
            await scene.settled()
            await scene.gateway.gateway.background.revoke()
            await upstream.until(lambda: upstream.aborted == 1, timeout_s=1.0)
            assert scene.gateway.gateway.pool.snapshot().inflight == 0
        await eventually(lambda: nothing_left(scene))
