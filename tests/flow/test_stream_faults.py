"""What breaks inside a stream, seen from the client, the account and the metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import stage


async def test_a_good_stream_arrives_whole_and_unchanged(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.good()
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=["ok", "ok"],
            metric=("relay_stream_end_total", {"reason": "completed"}, 1),
        )
        assert answer.types[0] == "response.created"
        assert answer.types[-1] == "response.completed"


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    "mode", [streams.rst(), streams.cut(), streams.truncated_chunk(), streams.not_completed()], ids=str
)
async def test_a_stream_that_dies_after_the_commit_ends_with_one_response_failed(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, router={"commit_hold_ms": 0}) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code="upstream_stream_truncated",
            states=["ok", "ok"],
            metric=("relay_stream_end_total", {"reason": "truncated"}, 1),
        )
        assert answer.types.count("response.failed") == 1
        numbers = [event.json["sequence_number"] for event in answer.events]
        assert numbers == list(range(len(numbers)))
        assert sorted([scene.strikes(0), scene.strikes(1)]) == [0, 1]
        assert upstream.requests == 1
