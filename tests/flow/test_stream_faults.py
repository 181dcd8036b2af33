"""What breaks inside a stream, seen from the client, the account and the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes import faulty_events as events
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import Event, ended, parse_events, stage, tried

HEALTHY = ["ok", "ok"]
CODEX = {"originator": "codex_cli_rs", "user_agent": "codex_cli_rs/0.169.0"}


def as_sent(blocks: list[bytes]) -> list[bytes]:
    """The data of these events, byte for byte."""
    return [block.split(b"data: ", 1)[1].rstrip(b"\r\n") for block in blocks]


async def test_a_good_stream_arrives_whole_and_unchanged(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = modes.good()
        answer = await scene.relay()
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
        assert answer.types[0] == "response.created"
        assert answer.types[-1] == "response.completed"


@pytest.mark.fault("B13")
@pytest.mark.parametrize(
    "mode",
    [
        streams.split(),
        streams.split(size=1, eol=b"\r\n"),
        streams.split(size=3, eol=b"\r"),
        streams.split(size=1, own_chunk=True),
        streams.split(size=7, own_chunk=True, eol=b"\r\n"),
        streams.drip(every_s=0.0, after=2),
    ],
    ids=str,
)
async def test_cuts_inside_characters_and_line_ends_change_no_event(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        answer = await scene.relay()
        if b"\r" in answer.body and b"\r\n" not in answer.body:
            answer.events, answer.rest = parse_cr(answer.body)
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 0], attempts=1, metric=ended("completed")
        )
        parts = events.DEFAULT_TEXT if str(mode).startswith("drip") else streams.MIXED_TEXT
        assert [event.data for event in answer.events] == as_sent(events.text_stream(parts))


def parse_cr(body: bytes) -> tuple[list[Event], bytes]:
    """A stream whose line ends are single carriage returns."""
    return parse_events(body.replace(b"\r", b"\n"))


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    "mode",
    [
        streams.rst(),
        streams.fin(),
        streams.cut(),
        streams.truncated_chunk(),
        streams.not_completed(),
        streams.rst(after=9),
        streams.cut(after=9, inside=200),
    ],
    ids=str,
)
async def test_a_stream_that_dies_after_the_commit_ends_with_one_response_failed(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, router={"commit_hold_ms": 0}) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code="upstream_stream_truncated",
            states=HEALTHY,
            strikes=[0, 1],
            attempts=1,
            metric=ended("truncated"),
        )
        assert answer.types[-1] == "response.failed"
        whole = 9 if "after=9" in str(mode) else 4 if mode.name.startswith("truncated") else 3
        assert [event.data for event in answer.events[:-1]] == as_sent(events.text_stream())[:whole]
        assert upstream.requests == 1
        assert await scene.metric("relay_attempts_total", outcome="truncated") == 1


@pytest.mark.fault("B14")
async def test_an_event_without_a_number_before_the_cut_does_not_start_the_count_anew(tmp_path: Path) -> None:
    limits = events.event("codex.rate_limits", {"rate_limits": {}})
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(modes.raw_events([*events.text_stream()[:5], limits]))
        answer = await scene.relay()
        assert answer.types[-2:] == ["codex.rate_limits", "response.failed"]
        assert answer.numbers == [0, 1, 2, 3, 4, 5]


@pytest.mark.fault("B15")
@pytest.mark.parametrize(
    "mode",
    [
        streams.rst(after=2),
        streams.rst(after=0),
        streams.fin(after=1),
        streams.cut(after=0),
        streams.cut(after=2),
        streams.truncated_chunk(after=1),
        streams.not_completed(after=0),
        streams.not_completed(after=2),
    ],
    ids=str,
)
async def test_a_stream_that_dies_before_anything_was_shown_is_another_accounts(tmp_path: Path, mode: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        await scene.prove(
            answer, status=200, code=None, states=HEALTHY, strikes=[0, 1], attempts=2, metric=tried("truncated", 1)
        )
        assert answer.types.count("response.created") == 1
        assert scene.strikes(scene.number_of(answer)) == 0


@pytest.mark.fault("B16")
@pytest.mark.parametrize(
    ("mode", "outcome", "states", "strikes"),
    [
        (streams.failed("rate_limit_exceeded", after=1), "rate_limited", ["cooling", "ok"], [0, 0]),
        (streams.failed("usage_limit_reached", after=0), "rate_limited", ["cooling", "ok"], [0, 0]),
        (streams.failed("server_is_overloaded", after=1), "overloaded", HEALTHY, [0, 1]),
        (streams.error_event("server_error", after=2), "server_error", HEALTHY, [0, 1]),
        (streams.error_event("slow_down", after=0, nested=True), "overloaded", HEALTHY, [0, 1]),
    ],
    ids=str,
)
async def test_a_failure_behind_created_that_another_account_can_better_stays_unseen(
    tmp_path: Path, mode: Mode, outcome: str, states: list[str], strikes: list[int]
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        answer = await scene.relay()
        hit = 1 - scene.number_of(answer)
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=states if hit == 0 else states[::-1],
            strikes=strikes,
            attempts=2,
            metric=tried(outcome, 1),
        )


@pytest.mark.fault("B16")
@pytest.mark.parametrize(
    ("mode", "code", "strikes"),
    [
        (streams.failed("server_error", after=5), "server_error", [0, 1]),
        (streams.failed("context_length_exceeded", after=1), "context_length_exceeded", [0, 0]),
        (streams.failed("invalid_prompt", after=5), "invalid_prompt", [0, 0]),
        (streams.failed("a_code_of_tomorrow", after=1), "a_code_of_tomorrow", [0, 0]),
    ],
    ids=str,
)
async def test_a_failure_that_is_the_clients_to_see_passes_unchanged(
    tmp_path: Path, mode: Mode, code: str, strikes: list[int]
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=code,
            states=HEALTHY,
            strikes=strikes,
            attempts=1,
            metric=ended("upstream_failed"),
        )
        after = len(answer.events) - 1
        assert answer.events[-1].data == as_sent([events.failed(code, number=after)])[0]
        assert upstream.requests == 1


@pytest.mark.fault("B17")
@pytest.mark.parametrize("client", [{}, CODEX], ids=["sdk", "codex"])
async def test_silence_brings_heartbeats_and_then_one_response_failed(tmp_path: Path, client: dict[str, str]) -> None:
    deadlines = {"idle_timeout_s": 0.6}
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, upstream=deadlines, server={"heartbeat_s": 0.1}) as scene,
    ):
        upstream.default = streams.idle(after=5)
        answer = await scene.relay({"input": [{"role": "user", "content": "hi"}]}, **client)
        beats = [event for event in answer.events if event.type == "keepalive"]
        comments = answer.body.count(b": keepalive\n\n")
        assert (len(beats) >= 2, comments) == (True, 0) if client else (len(beats), comments >= 2) == (0, True)
        await scene.prove(
            answer,
            status=200,
            code="upstream_idle_timeout",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=ended("idle"),
        )
        assert [event.type for event in answer.events[:5]] == [json.loads(d)["type"] for d in sent_types(5)]


def sent_types(count: int) -> list[bytes]:
    return as_sent(events.text_stream())[:count]


@pytest.mark.fault("B17")
async def test_comments_of_the_upstream_are_life_and_reach_the_client(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, upstream={"idle_timeout_s": 0.3, "total_timeout_s": 1.2}) as scene,
    ):
        upstream.default = streams.comments(after=5)
        answer = await scene.relay()
        await scene.prove(
            answer, status=200, code="stream_budget_exceeded", states=HEALTHY, strikes=[0, 0], metric=ended("budget")
        )
        assert answer.body.count(b": keep-alive\n\n") > 20


@pytest.mark.fault("B18")
@pytest.mark.parametrize("limit", [{"max_stream_mib": 1}, {"total_timeout_s": 0.5}], ids=str)
async def test_a_stream_without_end_is_ended_by_its_budget(tmp_path: Path, limit: dict[str, float]) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, upstream=limit) as scene:
        upstream.default = streams.infinite(every_s=0.0 if "max_stream_mib" in limit else 0.01)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code="stream_budget_exceeded",
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=ended("budget"),
        )
        assert len(answer.body) < (1 << 20) + 4096
        await upstream.until(lambda: upstream.open_streams == 0)


@pytest.mark.fault("B18c")
async def test_sequence_numbers_out_of_order_pass_through_and_are_counted(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        assert (await scene.relay()).status == 200
        upstream.default = streams.sequence((0, 1, 1, 5, 3))
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            in_order=False,
            metric=("relay_upstream_seq_anomaly_total", {}, 1),
        )
        assert answer.numbers == [0, 1, 1, 5, 3, 5, 6, 7, 8, 9]
