"""``stream: false`` learns and blames as a stream does, and every failure is a status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import faulty_events as events
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream, Mode
from tests.flow.stage import Stage, ended, stage

WHOLE = {"stream": False}


def strikes(scene: Stage) -> list[int]:
    return sorted(scene.strikes(number) for number in range(len(scene.accounts)))


async def test_a_whole_answer_counts_as_completed_and_says_what_it_used(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        answer = await scene.relay(WHOLE)
        assert answer.status == 200
        assert answer.headers["content-length"] == str(len(answer.body))
        name, labels, value = ended("completed")
        assert await scene.metric(name, **labels) == value
        assert await scene.metric("relay_tokens_total", kind="input") == 100


@pytest.mark.fault("B14")
@pytest.mark.parametrize("mode", [streams.rst(), streams.cut(), streams.not_completed()], ids=str)
async def test_a_stream_that_dies_is_a_502_and_a_strike(tmp_path: Path, mode: Mode) -> None:
    """Nothing went down, but the upstream had begun to answer: no second run, and the account is blamed."""
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, router={"commit_hold_ms": 0}) as scene,
    ):
        upstream.next(mode)
        answer = await scene.relay(WHOLE)
        assert (answer.status, answer.code) == (502, "upstream_error")
        assert strikes(scene) == [0, 1]
        assert upstream.requests == 1
        name, labels, value = ended("truncated")
        assert await scene.metric(name, **labels) == value


@pytest.mark.fault("B16")
async def test_a_failed_response_is_judged_by_its_code(tmp_path: Path) -> None:
    """``server_error`` after text is the account's; ``context_length_exceeded`` is the request's."""
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, router={"commit_hold_ms": 0}) as scene,
    ):
        upstream.next(streams.failed("context_length_exceeded", after=5))
        refused = await scene.relay(WHOLE)
        assert (refused.status, refused.code) == (400, "context_length_exceeded")
        assert strikes(scene) == [0, 0]
        upstream.next(streams.failed("server_error", after=5))
        assert (await scene.relay(WHOLE)).status >= 500
        assert strikes(scene) == [0, 1]


@pytest.mark.fault("B17")
async def test_silence_is_a_504_and_blames_nobody(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, upstream={"idle_timeout_s": 0.3}) as scene,
    ):
        upstream.default = streams.idle(after=5)
        answer = await scene.relay(WHOLE)
        assert (answer.status, answer.code) == (504, "upstream_timeout")
        assert strikes(scene) == [0, 0]


async def test_the_maker_of_sealed_parts_is_remembered(tmp_path: Path) -> None:
    """The next turn goes to the same account of three, because no other could open them."""
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA-sealed"}
    sealed = events.event("response.output_item.done", {"sequence_number": 1, "output_index": 0, "item": item})
    blocks = events.text_stream()
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=3) as scene:
        upstream.next(modes.raw_events([blocks[0], sealed, *blocks[1:]]))
        first = await scene.relay(WHOLE)
        assert first.status == 200
        for _ in range(4):
            turn = [item, {"role": "user", "content": "go on"}]
            assert (await scene.relay({**WHOLE, "input": turn})).account == first.account
