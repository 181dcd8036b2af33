"""Strange and huge things inside a stream, and bytes that are nobody's answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import TEXT, Stage, ended, parse_events, stage, tried

HEALTHY = ["ok", "ok"]
MIB = 1 << 20


def resident_bytes() -> int:
    """This process's resident set now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.fault("B18b")
async def test_an_event_of_four_megabytes_passes_whole(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = streams.huge_event(size=4 * MIB)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            in_order=False,
            metric=ended("completed"),
        )
        assert answer.text == "x" * (4 * MIB)


@pytest.mark.fault("B18b")
@pytest.mark.parametrize(
    "mode", [streams.huge_event(size=2 * MIB), streams.endless_line(after=5), streams.endless_line(after=3)], ids=str
)
async def test_an_event_beyond_the_cap_ends_the_stream_in_bounded_memory(tmp_path: Path, mode: Mode) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, upstream={"max_event_mib": 1}) as scene,
    ):
        upstream.default = mode
        before = resident_bytes()
        answer = await scene.relay()
        assert resident_bytes() - before < 64 * MIB
        await scene.prove(
            answer,
            status=200,
            code="event_too_large",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=ended("event_too_large"),
        )
        assert len(answer.body) < 16_384
        await upstream.until(lambda: upstream.open_connections == 0)


@pytest.mark.fault("B18b")
@pytest.mark.parametrize(("mode", "raw"), [(streams.nul(), b"\x00"), (streams.bad_utf8(), b"\xff\xfe\xc3")], ids=str)
async def test_bytes_that_are_no_text_pass_as_they_are(tmp_path: Path, mode: Mode, raw: bytes) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        async with scene.client.stream("POST", "/v1/responses", json=TEXT) as response:
            body = b"".join([piece async for piece in response.aiter_raw()])
        assert response.status_code == 200
        assert raw in body
        assert body.endswith(b"\n\n")
        assert body.count(b"event: response.completed\n") == 1
        await scene.settled()
        assert [scene.state(n) for n in (0, 1)] == HEALTHY
        assert await scene.metric("relay_stream_end_total", reason="completed") == 1


@pytest.mark.fault("B18b")
@pytest.mark.parametrize("mode", [streams.gzipped(), streams.gzip_bomb(mib=64)], ids=str)
async def test_a_compressed_stream_is_refused_without_unpacking_it(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        before = resident_bytes()
        answer = await scene.relay()
        assert resident_bytes() - before < 32 * MIB
        await scene.prove(
            answer,
            status=502,
            code="upstream_error",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=2,
            metric=tried("protocol_error", 2),
        )
        assert all(seen.header("accept-encoding") == "identity" for seen in upstream.seen)


@pytest.mark.fault("B12")
async def test_bytes_behind_the_end_of_an_answer_are_read_by_nobody(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(modes.leftover())
        first = await scene.relay()
        second = await scene.relay()
        for answer in (first, second):
            await scene.prove(
                answer, status=200, code=None, states=HEALTHY, attempts=1, metric=("relay_desync_total", {}, 1)
            )
            assert answer.text == "Hello"
            assert b"evil" not in answer.body
        assert upstream.connections == 2


@pytest.mark.fault("B12")
async def test_bytes_on_an_idle_pooled_connection_end_it(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(modes.leftover(gate="late"))
        first = await scene.relay()
        upstream.open_gate("late")
        await upstream.until(lambda: upstream.open_connections == 0)
        second = await scene.relay()
        await scene.prove(
            second, status=200, code=None, states=HEALTHY, attempts=1, metric=("relay_desync_total", {}, 1)
        )
        assert first.text == second.text == "Hello"
        assert b"evil" not in first.body + second.body


async def leave_early(scene: Stage, upstream: FaultyUpstream, nonce: str) -> bytes:
    """Reads the first bytes of one answer, then leaves."""
    async with scene.client.stream("POST", "/v1/responses", json={**TEXT, "prompt_cache_key": nonce}) as response:
        async for piece in response.aiter_raw():
            return piece
    return b""


@pytest.mark.fault("B12")
async def test_interleaved_cancelled_and_retried_streams_never_see_a_strangers_bytes(tmp_path: Path) -> None:
    """Each answer echoes its request's own nonce; connections are reused, lost, poisoned and left in between."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=8) as scene:
        upstream.default = modes.echo()
        faults = [modes.close_pre(), modes.leftover(b"x" * 9), streams.cut(after=0), streams.rst(after=1)]
        nonces = [f"nonce-{n:03d}-" for n in range(60)]

        async def one(nonce: str) -> None:
            number = int(nonce[6:9])
            if number % 6 == 5:
                seen = await leave_early(scene, upstream, nonce)
            else:
                response = await scene.client.post("/v1/responses", json={**TEXT, "prompt_cache_key": nonce})
                seen = response.content
                assert response.status_code == 200, seen
                events, rest = parse_events(seen)
                assert rest == b""
                told = [event.json["delta"] for event in events if event.type == "response.output_text.delta"]
                assert told in ([nonce], ["Hel", "lo"])
            assert not any(other.encode() in seen for other in nonces if other != nonce)

        for start in range(0, len(nonces), 12):
            upstream.next(*faults)
            await asyncio.gather(*(one(nonce) for nonce in nonces[start : start + 12]))
        await scene.settled()
        assert {scene.state(n) for n in range(8)} == {"ok"}
        assert await scene.metric("relay_pool_accounts", state="ready") == 8
        assert await scene.metric("relay_inflight") == 0


@pytest.mark.fault("B18b")
async def test_a_client_that_wants_compression_gets_the_events_as_they_are(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        answer: httpx.Response = await scene.client.post(
            "/v1/responses", json=TEXT, headers={"accept-encoding": "gzip, br"}
        )
        assert answer.status_code == 200
        assert "content-encoding" not in answer.headers
