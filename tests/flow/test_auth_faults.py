"""The upstream refuses a token: one refresh, the same account, else another; with the simulator's real rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ops.simulator import running_simulator
from ops.simulator.script import Fail, Refresh
from ops.simulator.server import RunningSimulator
from tests.flow.stage import Stage, ended, stage, tried

FIRST, SECOND = "acct-0", "acct-1"
HEALTHY = ["ok", "ok"]


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    """A backend with its issuer and no account yet."""
    async with running_simulator() as running:
        yield running


def documents(simulator: RunningSimulator, *, first_lives_s: float | None = None) -> list[dict[str, object]]:
    """Two accounts; the first one's access token may be dead from the start."""
    first = simulator.state.new_account(account_id=FIRST, access_token_lifetime_s=first_lives_s)
    return [first, simulator.state.new_account(account_id=SECOND)]


async def first_by(scene: Stage, number: int) -> None:
    """Lets the turn come to account ``number``."""
    while scene.number_of(await scene.relay()) == number:
        pass


@pytest.mark.fault("B21")
async def test_a_refused_token_is_refreshed_once_and_the_same_account_serves(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        await first_by(scene, 0)
        served = await scene.metric("relay_stream_end_total", reason="completed")
        simulator.state.refuse_access(FIRST)
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=2,
            metric=("relay_refresh_total", {"result": "refreshed"}, 1),
        )
        assert scene.number_of(answer) == 0
        assert await scene.metric("relay_retries_total", verb="refresh_same") == 1
        assert [(await scene.relay()).attempts for _ in range(4)] == [1] * 4
        assert await scene.metric("relay_stream_end_total", reason="completed") == served + 5


@pytest.mark.fault("B21")
async def test_an_account_whose_fresh_token_is_refused_too_needs_a_new_login(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        await first_by(scene, 0)
        simulator.state.set_mode(FIRST, "http=token_invalidated")
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=["needs_reauth", "ok"],
            attempts=3,
            metric=tried("auth", 2),
        )
        assert scene.number_of(answer) == 1
        assert await scene.metric("relay_refresh_total", result="refreshed") == 1
        refused = simulator.state.accounts[FIRST].counts["status_401"]
        assert {scene.number_of(await scene.relay()) for _ in range(4)} == {1}
        assert simulator.state.accounts[FIRST].counts["status_401"] == refused
        assert await scene.metric("relay_pool_accounts", state="needs_reauth") == 1


@pytest.mark.fault("B21")
async def test_an_upstream_that_refuses_everybody_costs_no_login_and_the_client_gets_no_401(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """A 401 would be about the client's own key; and that nobody is let in says nothing about one account."""
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator), router={"max_attempts": 5}) as scene:
        simulator.state.set_mode(None, "http=token_invalidated")
        answer = await scene.relay()
        assert answer.status == 503
        await scene.relay()
        answer = await scene.relay()
        await scene.prove(
            answer,
            status=503,
            code="no_accounts",
            states=["open", "open"],
            attempts=0,
            metric=("relay_refresh_total", {"result": "refreshed"}, 2),
        )


@pytest.mark.fault("B21")
async def test_a_401_about_the_model_is_not_about_the_login(tmp_path: Path, simulator: RunningSimulator) -> None:
    no_model = Fail(401, {"error": {"code": "model_not_available", "message": "no"}})
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        simulator.state.script(FIRST, [no_model])
        simulator.state.script(SECOND, [no_model])
        answer = await scene.relay()
        await scene.prove(
            answer, status=400, code="model_not_found", states=HEALTHY, attempts=2, metric=tried("model", 2)
        )
        assert await scene.metric("relay_refresh_total") == 0


@pytest.mark.fault("B31")
async def test_many_calls_that_meet_a_refused_token_share_one_exchange(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    lone = [simulator.state.new_account(account_id=FIRST)]
    async with stage(tmp_path, simulator.base_url, documents=lone) as scene:
        assert (await scene.relay()).status == 200
        simulator.state.expire_access(FIRST)
        simulator.state.script_oauth([Refresh(gate="issuer")])
        many = [asyncio.create_task(scene.relay()) for _ in range(20)]
        await simulator.state.until(lambda: simulator.state.accounts[FIRST].counts["status_401"] == 0)
        await simulator.state.until(lambda: simulator.state.refreshing == 1)
        simulator.state.open_gate("issuer")
        for answer in await asyncio.gather(*many):
            await scene.prove(answer, status=200, code=None, states=["ok"], strikes=[0], metric=ended("completed", 21))
        assert await scene.metric("relay_refresh_total", result="refreshed") == 1
        assert sum(token["exchanges"] for token in simulator.state.counters()["refresh_tokens"]) == 1


@pytest.mark.parametrize(
    "issuer",
    [
        pytest.param(Refresh("hang"), marks=pytest.mark.fault("B33"), id="hangs"),
        pytest.param(Fail(503, "busy"), marks=pytest.mark.fault("B32"), id="503"),
        pytest.param(Fail(429, ""), marks=pytest.mark.fault("B32"), id="429"),
    ],
)
async def test_a_dead_token_that_cannot_be_renewed_leaves_the_turn_to_another_account(
    tmp_path: Path, simulator: RunningSimulator, issuer: Refresh | Fail
) -> None:
    """Nothing is sent by the account without tokens, it is asked once, and no new login is called for."""
    oauth = {"refresh_wait_s": 0.3, "refresh_timeout_s": 0.5}
    simulator.state.set_oauth_mode(issuer)
    async with stage(
        tmp_path, simulator.base_url, documents=documents(simulator, first_lives_s=-60), oauth=oauth
    ) as scene:
        answers = [await scene.relay() for _ in range(3)]
        assert {scene.number_of(answer) for answer in answers} == {1}
        assert sum(answer.attempts for answer in answers) == 4
        await scene.prove(
            answers[-1], status=200, code=None, states=["open", "ok"], attempts=1, metric=tried("auth", 1)
        )
        assert scene.causes(0) == {"auth"}
        assert simulator.state.accounts[FIRST].counts["requests"] == 0
