"""Accounts whose quota is used up: who rests, for how long, and what the client is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Gate, Mode, Send
from tests.flow.stage import Stage, ended, stage, tried

DAY_S = 86_400.0
NOW_S = 1_795_000_000
FULL = (("x-codex-primary-used-percent", "100"), ("x-codex-primary-reset-after-seconds", "600"))


def rest_s(scene: Stage, number: int) -> float:
    """How long account ``number`` rests from now."""
    (block,) = scene.why(number).blocks
    assert block.until_s is not None
    return block.until_s - scene.gateway.clock.now_s()


async def meet(scene: Stage, upstream: FaultyUpstream, mode: Mode, account: str = "acct-0") -> None:
    """Asks until ``account`` has answered by ``mode`` once; the client never notices."""
    upstream.next(mode, account=account)
    while upstream.queued:
        answer = await scene.relay()
        assert (answer.status, answer.code) == (200, None)


@pytest.mark.fault("B19")
@pytest.mark.parametrize(
    ("mode", "cause", "rests_s"),
    [
        (statuses.usage_limit(resets_in_s=600), "usage_limit", 600),
        (statuses.usage_limit(resets_at_s=NOW_S + 600), "usage_limit", 600),
        (statuses.usage_limit(headers=FULL), "usage_limit", 600),
        (statuses.usage_limit(retry_after="600"), "rate_limited", 600),
        (statuses.throttled(retry_after="600"), "rate_limited", 600),
        (statuses.throttled(retry_after=None, message="Please try again in 1m30s"), "rate_limited", 90),
        (statuses.usage_limit(resets_in_s=int(30 * DAY_S)), "usage_limit", 7 * DAY_S),
    ],
    ids=str,
)
async def test_a_limit_with_a_time_rests_that_account_until_then_and_over_a_restart(
    tmp_path: Path, mode: Mode, cause: str, rests_s: float
) -> None:
    clock = FakeClock(NOW_S)
    async with FaultyUpstream() as upstream:
        async with stage(tmp_path, upstream.base_url, clock=clock) as scene:
            await meet(scene, upstream, mode)
            answer = await scene.relay()
            await scene.prove(
                answer,
                status=200,
                code=None,
                states=["cooling", "ok"],
                strikes=[0, 0],
                attempts=1,
                metric=tried("rate_limited", 1),
            )
            assert scene.causes(0) == {cause}
            assert rest_s(scene, 0) == pytest.approx(rests_s, abs=1)
        before = upstream.requests_by_account["acct-0"]
        async with stage(tmp_path, upstream.base_url, clock=clock) as scene:
            assert scene.causes(0) == {cause}
            answers = [await scene.relay() for _ in range(4)]
            await scene.prove(
                answers[-1], status=200, code=None, states=["cooling", "ok"], metric=ended("completed", 4)
            )
            assert {scene.number_of(answer) for answer in answers} == {1}
            assert upstream.requests_by_account["acct-0"] == before
            clock.advance(rests_s + 6)
            assert {scene.number_of(await scene.relay()) for _ in range(4)} == {0, 1}
            assert scene.causes(0) == set()


@pytest.mark.fault("B19")
async def test_when_all_are_used_up_the_client_is_told_the_earliest_reset(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=FakeClock(NOW_S)) as scene:
        upstream.per_account["acct-0"] = statuses.usage_limit(resets_in_s=600)
        upstream.per_account["acct-1"] = statuses.usage_limit(resets_in_s=300)
        for attempts in (2, 0):
            answer = await scene.relay()
            await scene.prove(
                answer,
                status=429,
                code="usage_limit_reached",
                states=["cooling", "cooling"],
                strikes=[0, 0],
                attempts=attempts,
                metric=tried("rate_limited", 2),
            )
            assert answer.error["type"] == "usage_limit_reached"
            assert answer.error["resets_at"] == NOW_S + 300
            assert answer.error["resets_in_seconds"] == 300
            assert answer.error["plan_type"] == "pro"
            assert answer.headers["retry-after"] == "300"
        assert upstream.requests == 2


@pytest.mark.fault("B19")
async def test_a_time_that_is_not_about_the_plan_is_not_shown_as_its_reset(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=FakeClock(NOW_S)) as scene:
        upstream.default = statuses.throttled(retry_after="60")
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=429,
            code="usage_limit_reached",
            states=["cooling", "cooling"],
            attempts=2,
            metric=tried("rate_limited", 2),
        )
        assert "resets_at" not in answer.error
        assert answer.headers["retry-after"] == "60"


@pytest.mark.fault("B20")
async def test_bare_refusals_in_parallel_escalate_once_per_window(tmp_path: Path) -> None:
    clock = FakeClock(NOW_S)
    (refusal,) = statuses.bare_429().steps(None)  # type: ignore[arg-type]  # its steps do not depend on the request
    assert isinstance(refusal, Send)
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=clock) as scene:
        upstream.per_account["acct-0"] = modes.steps(Gate("go"), refusal)
        many = [asyncio.create_task(scene.relay()) for _ in range(10)]
        await upstream.until(lambda: upstream.requests_by_account["acct-0"] == 5)
        upstream.open_gate()
        answers = [await one for one in many]
        for answer in answers:
            await scene.prove(
                answer, status=200, code=None, states=["cooling", "ok"], strikes=[0, 0], metric=tried("rate_limited", 5)
            )
        assert sorted(answer.attempts for answer in answers) == [1] * 5 + [2] * 5
        assert scene.causes(0) == {"rate_limited_bare"}
        assert 5 <= rest_s(scene, 0) <= 6
        for least_s in (10, 20):
            clock.advance(rest_s(scene, 0) + 0.1)
            while scene.state(0) != "cooling":
                await scene.relay()
            assert least_s <= rest_s(scene, 0) <= least_s * 1.2


@pytest.mark.fault("B42")
async def test_when_all_are_out_every_request_gets_the_earliest_reset_and_nothing_is_sent(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, clock=FakeClock(NOW_S), accounts=3, router={"wait_max_s": 5}) as scene,
    ):
        for number, resets_in_s in enumerate((900, 400, 700)):
            upstream.per_account[f"acct-{number}"] = statuses.usage_limit(resets_in_s=resets_in_s)
        assert (await scene.relay()).attempts == 3
        answers = await asyncio.gather(*(scene.relay() for _ in range(20)))
        for answer in answers:
            await scene.prove(
                answer,
                status=429,
                code="usage_limit_reached",
                states=["cooling"] * 3,
                attempts=0,
                metric=("relay_requests_total", {"outcome": "no_account", "status_class": "4xx"}, 21),
            )
            assert answer.error["resets_at"] == NOW_S + 400
        assert upstream.requests == 3


@pytest.mark.fault("B42")
async def test_a_request_waits_when_an_account_is_back_within_moments(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, router={"wait_max_s": 2}) as scene:
        moment = statuses.throttled(retry_after=None, message="try again in 300ms")
        upstream.next(moment, moment)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=["ok", "ok"],
            strikes=[0, 0],
            attempts=3,
            metric=("relay_retries_total", {"verb": "wait"}, 1),
        )
        assert answer.took_s >= 0.25
