"""The upstream fails for everybody: few calls, quick answers, nobody benched, and a quick return."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Mode
from tests.flow.stage import Stage, ended, stage

ACCOUNTS = 4
HEALTHY = ["ok"] * ACCOUNTS
REQUESTS = 40


async def recovered(scene: Stage, clock: FakeClock) -> float:
    """Asks every quarter of a second until an answer is good; the seconds that took on the gateway's clock."""
    began_s = clock.monotonic_s()
    while (await scene.relay()).status != 200:
        clock.advance(0.25)
    return clock.monotonic_s() - began_s


@pytest.mark.fault("B25")
@pytest.mark.parametrize(
    "mode", [statuses.server_error(500), statuses.overloaded(), statuses.server_error(502), modes.close_pre()], ids=str
)
async def test_a_storm_costs_few_calls_and_leaves_every_account_usable(tmp_path: Path, mode: Mode) -> None:
    clock = FakeClock()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, accounts=ACCOUNTS, clock=clock) as scene,
    ):
        upstream.default = mode
        answers = await asyncio.gather(*(scene.relay() for _ in range(REQUESTS)))
        for answer in answers:
            await scene.prove(
                answer,
                status=502 if answer.code == "upstream_error" else 503,
                code=answer.code,
                states=HEALTHY,
                metric=("relay_requests_total", {"status_class": "5xx", "outcome": "failed"}, REQUESTS),
                within_s=10,
            )
            assert answer.code in ("upstream_error", "overloaded")
        assert upstream.requests <= 2 * REQUESTS
        assert scene.route != "closed"

        calls = upstream.requests
        for _ in range(REQUESTS):
            answer = await scene.relay()
            assert answer.status in (502, 503)
            assert answer.took_s < 10
            clock.advance(0.5)
        assert upstream.requests - calls <= REQUESTS
        assert [scene.state(n) for n in range(ACCOUNTS)] == HEALTHY

        upstream.default = modes.good()
        assert await recovered(scene, clock) <= 5
        answers = await asyncio.gather(*(scene.relay() for _ in range(2 * ACCOUNTS)))
        for answer in answers:
            await scene.prove(
                answer,
                status=200,
                code=None,
                states=HEALTHY,
                strikes=[0] * ACCOUNTS,
                attempts=1,
                metric=ended("completed", 2 * ACCOUNTS + 1),
            )
        assert {scene.number_of(answer) for answer in answers} == set(range(ACCOUNTS))
        assert scene.route == "closed"
        assert scene.gateway.gateway.pool.snapshot().usable == ACCOUNTS


@pytest.mark.fault("B25")
async def test_one_sick_account_is_no_storm(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, accounts=ACCOUNTS) as scene:
        upstream.per_account["acct-0"] = statuses.server_error()
        answers = [await scene.relay() for _ in range(REQUESTS)]
        assert {answer.status for answer in answers} == {200}
        await scene.prove(
            answers[-1],
            status=200,
            code=None,
            states=["open", *HEALTHY[1:]],
            attempts=1,
            metric=ended("completed", REQUESTS),
        )
        assert scene.route == "closed"
        assert upstream.requests_by_account["acct-0"] == 5
