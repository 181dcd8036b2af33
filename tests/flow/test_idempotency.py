"""The same Idempotency-Key twice is never two upstream runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import eventually, line, nothing_left
from tests.flow.stage import TEXT, stage

pytestmark = pytest.mark.fault("B52")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_repetition_after_the_answer_is_a_conflict(tmp_path: Path, streamed: bool) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        body = {"stream": streamed}
        assert (await scene.relay(body, idempotency_key="order-17")).status == 200
        again = await scene.relay(body, idempotency_key="order-17")
        assert (again.status, again.code) == (409, "conflict")
        assert upstream.requests == 1
        assert (await scene.relay(body, idempotency_key="order-18")).status == 200
        assert (await scene.relay(body)).status == 200


async def test_of_two_at_once_one_runs(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.good(gate_after=3)
        calls = [asyncio.create_task(scene.relay(idempotency_key="same")) for _ in range(10)]
        await eventually(lambda: sum(call.done() for call in calls) == 9)
        upstream.open_gate()
        answers = await asyncio.gather(*calls)
        assert sorted(answer.status for answer in answers) == [200] + [409] * 9
        assert upstream.requests == 1


async def test_a_run_that_failed_before_its_answer_leaves_the_key_free(tmp_path: Path) -> None:
    """Upstream refusals, limits of accounts, bad bodies, departures before the commit: the repetition runs."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(statuses.refused())
        assert (await scene.relay(idempotency_key="k")).status == 400
        assert (await scene.post(b"{", idempotency_key="k")).status == 400
        upstream.next(modes.hang_pre())
        async with line(scene) as client:
            await client.send(client.request(idempotency_key="k"))
            await upstream.until(lambda: upstream.open_streams == 1)
        await eventually(lambda: nothing_left(scene))
        assert (await scene.relay(idempotency_key="k")).status == 200
        assert (await scene.relay(idempotency_key="k")).status == 409


async def test_a_stream_that_was_left_after_its_begin_keeps_the_key(tmp_path: Path) -> None:
    """The upstream run has been seen by somebody: the same key does not start another one."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(streams.infinite(every_s=0.01))
        async with line(scene) as client:
            await client.send(client.request(idempotency_key="k"))
            await client.until(b"response.output_text.delta")
        await eventually(lambda: nothing_left(scene))
        assert (await scene.relay(idempotency_key="k")).status == 409
        assert upstream.requests == 1


@pytest.mark.parametrize("key", ["", "a" * 256, "zwölf", "a b"])
async def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        sent = {"content-type": "application/json", "idempotency-key": key.encode("latin-1")}
        answer = await scene.client.post("/v1/responses", json=TEXT, headers=sent)  # type: ignore[arg-type]  # bytes are taken
        assert answer.status_code == 400
        assert upstream.requests == 0


async def test_equal_keys_of_two_callers_are_strangers(tmp_path: Path) -> None:
    """Another key of the same tenant, and a key of another tenant: independent."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        assert (await scene.relay(idempotency_key="k")).status == 200
        for tenant in ("demo", "other"):
            secret, _ = await scene.gateway.make_key(tenant)
            answer = await scene.relay(idempotency_key="k", authorization=f"Bearer {secret.reveal()}")
            assert answer.status == 200
        assert upstream.requests == 3
