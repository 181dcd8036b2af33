"""Conversations whose encrypted parts one account sealed: who gets the next turn, and what happens without its owner.

The simulated backend seals reasoning and turn-states per account and refuses what another account sealed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ops.simulator import running_simulator
from ops.simulator.server import RunningSimulator
from tests.flow.stage import Answer, Stage, ended, stage, tried

HEALTHY = ["ok", "ok"]
SEALED = {"include": ["reasoning.encrypted_content"]}
Items = list[dict[str, Any]]


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    """A backend with two accounts, ``acct-0`` and ``acct-1``."""
    async with running_simulator() as running:
        for number in range(2):
            running.state.new_account(account_id=f"acct-{number}")
        yield running


def documents(simulator: RunningSimulator, *numbers: int) -> list[dict[str, Any]]:
    return [simulator.state.auth_json(f"acct-{number}") for number in numbers or (0, 1)]


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def output(answer: Answer) -> Items:
    """The items that an answer finished, as a client replays them."""
    return [event.json["item"] for event in answer.events if event.type == "response.output_item.done"]


def sent_up(simulator: RunningSimulator) -> Items:
    """The items of the last request that reached the backend."""
    items = simulator.state.requests_to("/responses")[-1].json["input"]
    assert isinstance(items, list)
    return items


async def turn(scene: Stage, history: Items, text: str, **headers: str) -> Answer:
    """One turn on top of ``history``, which grows by it."""
    history.append(user(text))
    answer = await scene.relay({"input": history, **SEALED}, **headers)
    history += output(answer)
    return answer


async def begun(scene: Stage, number: int, text: str = "sim:reasoning think") -> Items:
    """The history of a conversation whose first turn account ``number`` served."""
    while True:
        history: Items = []
        answer = await turn(scene, history, text)
        assert answer.status == 200
        if scene.number_of(answer) == number:
            assert any(item.get("encrypted_content") for item in history)
            return history


async def disable(scene: Stage, number: int) -> None:
    store = scene.gateway.gateway.store
    account = await store.account(scene.accounts[number].id)
    assert account is not None
    await store.put_account(replace(account, enabled=False), account.version)
    await scene.settled()


def kinds(items: Items) -> list[str]:
    return [item.get("type", "message") for item in items]


async def test_a_turn_with_sealed_reasoning_goes_to_its_owner_whoever_is_next(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
        for number in range(1, 5):
            answer = await turn(scene, history, f"sim:reasoning turn {number}")
            await scene.prove(
                answer,
                status=200,
                code=None,
                states=HEALTHY,
                attempts=1,
                metric=("relay_attempts_total", {"outcome": "foreign_reasoning"}, 0),
            )
            assert scene.number_of(answer) == 0
            assert "x-relay-moved" not in answer.headers
            assert kinds(sent_up(simulator)).count("reasoning") == number
        assert simulator.state.counts["foreign_content"] == 0


async def test_the_owner_is_known_after_a_restart(tmp_path: Path, simulator: RunningSimulator) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        assert scene.number_of(await scene.relay()) == 0, "the next in turn is the other one"
        answer = await turn(scene, history, "go on")
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=ended("completed", 2))
        assert scene.number_of(answer) == 0


@pytest.mark.parametrize("out", ["disabled", "cooling"])
async def test_without_its_owner_a_turn_moves_and_foreign_reasoning_stays_behind(
    tmp_path: Path, simulator: RunningSimulator, out: str
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
        if out == "disabled":
            await disable(scene, 0)
        else:
            simulator.state.exhaust("acct-0")
        answer = await turn(scene, history, "go on")
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=[out, "ok"],
            attempts=1 if out == "disabled" else 2,
            metric=("relay_retries_total", {"verb": "strip_and_move"}, 1),
        )
        assert scene.number_of(answer) == 1
        assert answer.headers["x-relay-moved"] == "1"
        assert kinds(sent_up(simulator)) == ["message", "message", "message"]
        assert simulator.state.counts["foreign_content"] == 0


async def test_a_conversation_that_has_moved_stays_with_its_new_owner(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
        await disable(scene, 0)
        moved = await turn(scene, history, "sim:reasoning go on")
        assert moved.headers["x-relay-moved"] == "1"
        store = scene.gateway.gateway.store
        account = await store.account(scene.accounts[0].id)
        assert account is not None
        await store.put_account(replace(account, enabled=True), account.version)
        for _ in range(3):
            answer = await turn(scene, history, "and on")
            await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=tried("model", 0))
            assert scene.number_of(answer) == 1
            assert kinds(sent_up(simulator)).count("reasoning") == 1


async def test_calls_and_their_outputs_stay_in_pairs_when_reasoning_is_dropped(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    ask = "sim:reasoning sim:tool=exec_command cmd=ls sim:tool=exec_command cmd=pwd"
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0, ask)
        call = history[-1]
        assert call["type"] == "function_call"
        history.append({"type": "function_call_output", "call_id": call["call_id"], "output": "a b c"})
        await disable(scene, 0)
        answer = await scene.relay({"input": history, **SEALED})
        await scene.prove(
            answer, status=200, code=None, states=["disabled", "ok"], attempts=1, metric=ended("completed", 2)
        )
        assert answer.headers["x-relay-moved"] == "1"
        up = sent_up(simulator)
        assert kinds(up) == ["message", "function_call", "function_call_output"]
        assert up[1]["call_id"] == up[2]["call_id"] == call["call_id"]
        assert up[1]["arguments"] == call["arguments"]


async def test_reasoning_of_unknown_origin_that_the_backend_refuses_is_dropped_in_one_more_attempt(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with stage(tmp_path / "one", simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
    async with stage(tmp_path / "two", simulator.base_url, documents=documents(simulator, 1)) as scene:
        answer = await turn(scene, history, "go on")
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=["ok"],
            strikes=[0],
            attempts=2,
            metric=tried("foreign_reasoning", 1),
        )
        assert answer.headers["x-relay-moved"] == "1"
        assert simulator.state.counts["foreign_content"] == 1
        assert "reasoning" not in kinds(sent_up(simulator))


async def test_reasoning_of_unknown_origin_that_the_backend_opens_goes_up_as_it_is(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with stage(tmp_path / "one", simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
    async with stage(tmp_path / "two", simulator.base_url, documents=documents(simulator, 0)) as scene:
        answer = await turn(scene, history, "go on")
        await scene.prove(answer, status=200, code=None, states=["ok"], attempts=1, metric=ended("completed"))
        assert "x-relay-moved" not in answer.headers
        assert kinds(sent_up(simulator)).count("reasoning") == 1


async def test_a_history_of_two_owners_loses_the_foreign_parts_alone(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        first, second = await begun(scene, 0), await begun(scene, 1)
        kept = next(item["encrypted_content"] for item in second if item["type"] == "reasoning")
        answer = await turn(scene, [*first, *second], "go on")
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=HEALTHY,
            attempts=1,
            metric=("relay_attempts_total", {"outcome": "foreign_reasoning"}, 0),
        )
        assert scene.number_of(answer) == 1, "the newest part decides"
        assert answer.headers["x-relay-moved"] == "1"
        assert [item["encrypted_content"] for item in sent_up(simulator) if item["type"] == "reasoning"] == [kept]
        assert simulator.state.counts["foreign_content"] == 0


async def turn_state_of(scene: Stage, number: int) -> str:
    """A turn-state that account ``number`` gave out."""
    while True:
        answer = await scene.relay()
        if scene.number_of(answer) == number:
            return str(answer.headers["x-codex-turn-state"])


async def test_a_turn_state_brings_its_turn_back_to_the_account_that_gave_it(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        state = await turn_state_of(scene, 0)
        for _ in range(4):
            answer = await scene.relay(x_codex_turn_state=state)
            await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=tried("request", 0))
            assert scene.number_of(answer) == 0
            assert simulator.state.requests_to("/responses")[-1].headers["x-codex-turn-state"] == state
        await disable(scene, 0)
        answer = await scene.relay(x_codex_turn_state=state)
        await scene.prove(
            answer, status=200, code=None, states=["disabled", "ok"], attempts=1, metric=tried("request", 0)
        )
        assert answer.headers["x-relay-moved"] == "1"
        assert "x-codex-turn-state" not in simulator.state.requests_to("/responses")[-1].headers


async def test_a_turn_state_of_unknown_origin_that_is_refused_is_dropped_in_one_more_attempt(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with stage(tmp_path / "one", simulator.base_url, documents=documents(simulator)) as scene:
        state = await turn_state_of(scene, 0)
    async with stage(tmp_path / "two", simulator.base_url, documents=documents(simulator, 1)) as scene:
        answer = await scene.relay(x_codex_turn_state=state)
        await scene.prove(
            answer,
            status=200,
            code=None,
            states=["ok"],
            strikes=[0],
            attempts=2,
            metric=tried("foreign_reasoning", 1),
        )
        assert answer.headers["x-relay-moved"] == "1"


async def test_a_turn_state_stays_with_its_account_when_older_foreign_reasoning_is_dropped(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    async with stage(tmp_path, simulator.base_url, documents=documents(simulator)) as scene:
        history = await begun(scene, 0)
        state = await turn_state_of(scene, 1)
        answer = await turn(scene, history, "go on", x_codex_turn_state=state)
        await scene.prove(answer, status=200, code=None, states=HEALTHY, attempts=1, metric=tried("request", 0))
        assert scene.number_of(answer) == 1
        assert answer.headers["x-relay-moved"] == "1"
        last = simulator.state.requests_to("/responses")[-1]
        assert last.headers["x-codex-turn-state"] == state
        assert "reasoning" not in json.dumps(kinds(sent_up(simulator)))
