"""The same faults for a client that asked for one Response object: always a whole answer or a plain error."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import ended, stage

HEALTHY = ["ok", "ok"]
WHOLE = {"stream": False}


@pytest.mark.parametrize(
    ("mode", "status", "code", "end", "strikes"),
    [
        pytest.param(streams.rst(after=5), 502, "upstream_error", "truncated", 1, marks=pytest.mark.fault("B14")),
        pytest.param(streams.cut(after=5), 502, "upstream_error", "truncated", 1, marks=pytest.mark.fault("B14")),
        pytest.param(
            streams.not_completed(after=9), 502, "upstream_error", "truncated", 1, marks=pytest.mark.fault("B14")
        ),
        pytest.param(streams.idle(after=5), 504, "upstream_timeout", "idle", 0, marks=pytest.mark.fault("B17")),
        pytest.param(streams.infinite(), 502, "upstream_error", "budget", 0, marks=pytest.mark.fault("B18")),
        pytest.param(
            streams.endless_line(after=5),
            502,
            "upstream_error",
            "event_too_large",
            0,
            marks=pytest.mark.fault("B18b"),
        ),
        pytest.param(
            modes.bad_chunk(after=5), 502, "upstream_error", "protocol_error", 0, marks=pytest.mark.fault("B9")
        ),
    ],
    ids=str,
)
async def test_a_stream_that_breaks_behind_the_commit_is_a_plain_error(
    tmp_path: Path, mode: Mode, status: int, code: str, end: str, strikes: int
) -> None:
    limits = {"idle_timeout_s": 0.3, "max_stream_mib": 2, "max_event_mib": 1}
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, upstream=limits) as scene:
        upstream.default = mode
        answer = await scene.relay(WHOLE)
        await scene.prove(
            answer,
            status=status,
            code=code,
            states=HEALTHY,
            strikes=[0, strikes],
            attempts=1,
            metric=ended(end),
        )
        assert await scene.metric("relay_attempts_total", outcome=end) == 1
        assert upstream.requests == 1
        await upstream.until(lambda: upstream.open_streams == 0)


@pytest.mark.parametrize(
    ("mode", "outcome", "strikes"),
    [
        pytest.param(modes.close_pre(), "conn_lost_pre", 1, marks=pytest.mark.fault("B5")),
        pytest.param(streams.rst(after=2), "truncated", 1, marks=pytest.mark.fault("B15")),
        pytest.param(streams.failed("server_is_overloaded", after=1), "overloaded", 1, marks=pytest.mark.fault("B16")),
        pytest.param(statuses.server_error(), "server_error", 1, marks=pytest.mark.fault("B24")),
        pytest.param(modes.garbage(), "protocol_error", 0, marks=pytest.mark.fault("B9")),
    ],
    ids=str,
)
async def test_an_attempt_that_breaks_before_the_commit_is_another_accounts_answer(
    tmp_path: Path, mode: Mode, outcome: str, strikes: int
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.next(mode)
        response = await scene.client.post("/v1/responses", json={"model": "gpt-5.5", "input": "hi", **WHOLE})
        assert response.status_code == 200
        body = response.json()
        assert (body["object"], body["status"]) == ("response", "completed")
        assert body["output"][0]["content"][0]["text"] == "Hello"
        assert response.headers["x-relay-attempts"] == "2"
        assert await scene.metric("relay_attempts_total", outcome=outcome) == 1
        assert await scene.metric("relay_stream_end_total", reason="completed") == 1
        assert sorted(scene.strikes(n) for n in (0, 1)) == [0, strikes]


@pytest.mark.fault("B16")
@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        (streams.failed("context_length_exceeded", after=1), 400, "context_length_exceeded"),
        (streams.failed("server_error", after=5), 502, "upstream_error"),
        (streams.error_event("server_is_overloaded", after=5), 503, "overloaded"),
        (streams.failed("rate_limit_exceeded", after=5, message="try again in 2s"), 429, "rate_limited"),
    ],
    ids=str,
)
async def test_a_response_that_failed_is_an_error_with_its_own_status(
    tmp_path: Path, mode: Mode, status: int, code: str
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = mode
        answer = await scene.relay(WHOLE)
        assert (answer.status, answer.code, answer.attempts) == (status, code, 1)
        assert await scene.metric("relay_stream_end_total", reason="upstream_failed") == 1
        assert upstream.requests == 1


@pytest.mark.fault("B16")
async def test_an_incomplete_response_is_whole_and_says_why(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = streams.incomplete()
        response = await scene.client.post("/v1/responses", json={"model": "gpt-5.5", "input": "hi", **WHOLE})
        assert response.status_code == 200
        assert response.json()["status"] == "incomplete"
        assert response.json()["incomplete_details"] == {"reason": "max_output_tokens"}
        assert await scene.metric("relay_stream_end_total", reason="incomplete") == 1
