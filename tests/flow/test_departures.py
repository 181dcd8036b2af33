"""A client that leaves, whenever and however, frees everything within a second, and nobody is blamed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.simulator import Refresh, SimulatorConfig, running_simulator
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.raw import Line, eventually, line, nothing_left
from tests.flow.stage import Stage, stage

WAYS = {"half_close": Line.half_close, "close": Line.close, "reset": Line.reset}
SECTIONS: Any = {"limits": {"key_concurrent_streams": 1}, "router": {"commit_hold_ms": 5000, "wait_max_s": 10}}

pytestmark = pytest.mark.fault("B44")


async def gone_without_trace(scene: Stage, upstream: FaultyUpstream) -> None:
    """The lease, the admission and the upstream are given back in a second; the next request is served."""
    await eventually(lambda: nothing_left(scene), within_s=1.0)
    assert [scene.strikes(n) for n in range(len(scene.accounts))] == [0] * len(scene.accounts)
    upstream.default = modes.good()
    answer = await scene.relay()
    assert (answer.status, answer.code) == (200, None)


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "mode",
    [modes.hang_pre(), modes.head_then_hang(), streams.idle(after=1), streams.idle(after=0)],
    ids=["before the headers", "inside the headers", "while the handshake is held", "before the first event"],
)
async def test_a_client_that_leaves_before_anything_went_down(
    tmp_path: Path, mode: Mode, leave: Callable[[Line], None]
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, **SECTIONS) as scene:
        upstream.default = mode
        async with line(scene) as client:
            await client.send(client.request())
            await upstream.until(lambda: upstream.open_streams == 1)
            leave(client)
            await upstream.until(lambda: upstream.aborted == 1, timeout_s=1.0)
            await gone_without_trace(scene, upstream)
        assert upstream.requests == 2


@pytest.mark.parametrize("leave", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("mode", [streams.infinite(every_s=0.01), streams.idle(after=5)], ids=str)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_in_mid_stream(
    tmp_path: Path, mode: Mode, leave: Callable[[Line], None], streamed: bool
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, **SECTIONS) as scene:
        upstream.default = mode
        async with line(scene) as client:
            body = b'{"model": "gpt-5.5", "input": "hello", "stream": %s}' % (b"true" if streamed else b"false")
            await client.send(client.request(body))
            if streamed:
                await client.until(b"event: response.output_text.delta")
            else:
                await upstream.until(lambda: upstream.bytes_written > 1500)
            leave(client)
            await upstream.until(lambda: upstream.aborted == 1, timeout_s=1.0)
            await eventually(lambda: nothing_left(scene), within_s=1.0)
        assert await scene.metric("relay_stream_end_total", reason="client_gone") == 1
        await gone_without_trace(scene, upstream)


async def test_a_client_that_leaves_while_it_waits_for_an_account(tmp_path: Path) -> None:
    """Every account rests for a few seconds; the waiting ends with the client."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, **SECTIONS) as scene:
        upstream.default = statuses.usage_limit(resets_in_s=4)
        async with line(scene) as client:
            await client.send(client.request())
            await upstream.until(lambda: upstream.requests == 2)
            await asyncio.sleep(0.05)
            assert scene.gateway.gateway.inflight.count == 1
            client.half_close()
            await eventually(lambda: nothing_left(scene), within_s=1.0)
        assert upstream.requests == 2


async def test_a_client_that_leaves_while_a_token_is_refreshed(tmp_path: Path) -> None:
    """The request ends; the refresh goes on in its own task, and the rotated token is stored and used."""
    async with running_simulator(SimulatorConfig()) as simulator:
        state = simulator.state
        document = state.new_account(access_token_lifetime_s=-60)
        async with stage(tmp_path, simulator.base_url, documents=[document], **SECTIONS) as scene:
            state.set_oauth_mode(Refresh(gate="refresh"))
            async with line(scene) as client:
                await client.send(client.request())
                await state.until(lambda: state.counts["refreshes"] == 1)
                client.half_close()
                await eventually(lambda: nothing_left(scene), within_s=1.0)
            state.set_oauth_mode(None)
            state.open_gate("refresh")
            answer = await scene.relay()
            assert (answer.status, answer.code) == (200, None)
            assert state.counts["rotations"] == 1
            assert state.counts["reuses"] == 0


async def test_a_departure_counts_as_the_clients_own(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, **SECTIONS) as scene:
        upstream.default = modes.hang_pre()
        async with line(scene) as client:
            await client.send(client.request())
            await upstream.until(lambda: upstream.open_streams == 1)
            client.close()
            await eventually(lambda: nothing_left(scene))
        assert await scene.metric("relay_requests_total", route="responses", outcome="cancelled") == 1
