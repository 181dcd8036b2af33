"""Accounts that have different models, or cannot say which: the list that clients see, and who serves what."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.fakes.faulty_wire import Gate, Mode, Seen, Step
from tests.flow.stage import Stage, ended, stage

HEALTHY = ["ok", "ok"]
LISTS = "/backend-api/codex/models"
CACHE_S = 300.0
BOTH, ONE = "gpt-5.5", "gpt-5.9-pro"


def scripted(upstream: FaultyUpstream, lists: dict[str, Mode]) -> None:
    """Answers each account's question for its models by that account's mode."""
    upstream.routes[LISTS] = Mode("lists", lambda seen: lists[seen.account].steps(seen))


def listed(*slugs: str) -> Mode:
    """A right list of models."""
    return statuses.status(200, {"models": [{"slug": slug, "visibility": "list"} for slug in slugs]})


def gated(mode: Mode) -> Mode:
    """The same answer, held back until ``upstream.open_gate("list")``."""

    def play(seen: Seen) -> list[Step]:
        return [Gate("list"), *mode.steps(seen)]

    return Mode("gated", play)


def stale(scene: Stage) -> bool:
    """Whether some account could not say at the last look."""
    return scene.gateway.gateway.background.catalog.stale


async def names(scene: Stage) -> list[str]:
    """What ``GET /v1/models`` lists."""
    answer = await scene.client.get("/v1/models")
    assert answer.status_code == 200
    return [entry["id"] for entry in answer.json()["data"]]


@pytest.mark.fault("B30")
async def test_the_list_is_the_union_and_a_model_goes_to_those_who_have_it(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        scripted(upstream, {"acct-0": listed(BOTH), "acct-1": listed(BOTH, ONE)})
        assert await names(scene) == [BOTH, ONE]
        answers = [await scene.relay({"model": ONE}) for _ in range(4)]
        for answer in answers:
            await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed", 4))
        assert {scene.number_of(answer) for answer in answers} == {1}
        assert {scene.number_of(await scene.relay({"model": BOTH})) for _ in range(4)} == {0, 1}


@pytest.mark.fault("B30")
async def test_a_model_that_nobody_has_is_a_400_and_nothing_is_sent(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        scripted(upstream, {"acct-0": listed(BOTH), "acct-1": listed(BOTH)})
        await names(scene)
        answer = await scene.relay({"model": ONE})
        await scene.prove(
            answer,
            status=400,
            code="model_not_found",
            states=HEALTHY,
            attempts=0,
            metric=("relay_requests_total", {"status_class": "4xx", "outcome": "client_error"}, 1),
        )
        assert upstream.requests == 0


@pytest.mark.fault("B30")
@pytest.mark.parametrize(
    "broken",
    [
        listed(),
        statuses.server_error(),
        statuses.cloudflare(),
        statuses.html_200(),
        statuses.json_200(),
        statuses.bare_429(),
        modes.rst_pre(),
        modes.garbage(),
    ],
    ids=str,
)
async def test_an_account_that_cannot_say_keeps_what_it_said_last(tmp_path: Path, broken: Mode) -> None:
    clock = FakeClock()
    cache = {"cache_s": CACHE_S}
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=clock, models=cache) as scene:
        lists = {"acct-0": listed(BOTH), "acct-1": listed(BOTH, ONE)}
        scripted(upstream, lists)
        await names(scene)
        assert not stale(scene)
        lists["acct-1"] = broken
        clock.advance(CACHE_S + 1)
        assert await names(scene) == [BOTH, ONE]
        assert stale(scene)
        answers = [await scene.relay({"model": ONE}) for _ in range(4)]
        await scene.prove(
            answers[-1],
            status=200,
            code=None,
            states=HEALTHY,
            strikes=[0, 0],
            attempts=1,
            metric=ended("completed", 4),
        )
        assert {scene.number_of(answer) for answer in answers} == {1}
        lists["acct-1"] = listed(BOTH)
        clock.advance(16)
        assert await names(scene) == [BOTH]
        assert not stale(scene)


@pytest.mark.fault("B30")
@pytest.mark.parametrize("broken", [listed(), statuses.server_error()], ids=str)
async def test_an_account_that_never_said_is_taken_to_have_every_model(tmp_path: Path, broken: Mode) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        scripted(upstream, {"acct-0": listed(BOTH), "acct-1": broken})
        assert await names(scene) == [BOTH]
        answer = await scene.relay({"model": ONE})
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed"))
        assert scene.number_of(answer) == 1


@pytest.mark.fault("B30")
async def test_when_no_account_can_say_calls_go_on(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        scripted(upstream, {"acct-0": statuses.server_error(), "acct-1": statuses.server_error()})
        assert await names(scene) == []
        answers = [await scene.relay({"model": ONE}) for _ in range(2)]
        await scene.prove(answers[1], status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed", 2))
        assert {scene.number_of(answer) for answer in answers} == {0, 1}


@pytest.mark.fault("B30")
async def test_an_account_that_comes_during_a_look_is_asked_at_the_next(tmp_path: Path) -> None:
    """The look that was under way must not make the list fresh without it."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=FakeClock()) as scene:
        slow = gated(listed(BOTH))
        scripted(upstream, {"acct-0": slow, "acct-1": listed(ONE)})
        store = scene.gateway.gateway.store
        second = scene.accounts[1]
        await store.put_account(replace(second, enabled=False), second.version)
        await scene.settled()
        first_look = asyncio.create_task(names(scene))
        await upstream.until(lambda: upstream.other_requests[LISTS] >= 1)
        disabled = await store.account(second.id)
        assert disabled is not None
        await store.put_account(replace(disabled, enabled=True), disabled.version)
        await scene.settled()
        upstream.open_gate("list")
        await first_look
        assert await names(scene) == [BOTH, ONE]
