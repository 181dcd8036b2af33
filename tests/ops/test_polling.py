"""Idle accounts are asked how full they are: one at a time, by one worker, and never more often than they should be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.polling import WindowPoll
from ops.simulator import running_simulator
from ops.simulator.server import RunningSimulator
from tests.fakes.clock import FakeClock
from tests.flow.stage import Stage, stage

PATH = "/backend-api/wham/usage"


@asynccontextmanager
async def scene_of(folder: Path) -> AsyncIterator[tuple[RunningSimulator, Stage]]:
    async with running_simulator() as simulator:
        documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(2)]
        async with stage(folder, simulator.base_url, documents=documents, router={"usage_poll_s": 86_400.0}) as scene:
            yield simulator, scene


def poll_of(scene: Stage, clock: FakeClock, worker: str) -> WindowPoll:
    gateway = scene.gateway.gateway
    codex = gateway.background.codex
    return WindowPoll(gateway.pool, codex, gateway.tokens, gateway.store, clock, worker, 300.0)


async def test_each_account_is_asked_once_and_again_only_after_the_interval(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as (simulator, scene):
        clock = FakeClock()
        poll = poll_of(scene, clock, "w1")
        clock.advance(10 * 365 * 86_400)
        before = len(simulator.state.requests_to(PATH))
        for _ in range(4):
            await poll.step()
        asked = simulator.state.requests_to(PATH)[before:]
        assert len(asked) == 2
        assert {window.name for number in range(2) for window in scene.why(number).windows} >= {"primary"}
        clock.advance(301)
        await poll.step()
        assert len(simulator.state.requests_to(PATH)) == before + 3


async def test_while_one_worker_asks_the_other_does_not(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as (simulator, scene):
        clock = FakeClock()
        clock.advance(10 * 365 * 86_400)
        held = [await scene.gateway.gateway.store.claim(f"usage:{one.id}", "other", 20.0) for one in scene.accounts]
        assert all(held)
        before = len(simulator.state.requests_to(PATH))
        poll = poll_of(scene, clock, "w1")
        await poll.step()
        await poll.step()
        assert len(simulator.state.requests_to(PATH)) == before


async def test_a_question_that_fails_says_nothing_about_the_account(tmp_path: Path) -> None:
    async with scene_of(tmp_path) as (simulator, scene):
        clock = FakeClock()
        clock.advance(10 * 365 * 86_400)
        simulator.state.refuse_access("acct-0")
        simulator.state.refuse_access("acct-1")
        poll = poll_of(scene, clock, "w1")
        await poll.step()
        await poll.step()
        assert [scene.state(0), scene.state(1)] == ["ok", "ok"]
        assert [scene.strikes(0), scene.strikes(1)] == [0, 0]
