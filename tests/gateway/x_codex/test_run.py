"""A wish is queued, followed and answered; whatever ends it early ends the run too. A worker is played by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from auth.keys import KeyDirectory, KeyRing
from auth.types import Caller
from gateway.adapt import Terms, adapt
from gateway.departure import ClientGone
from gateway.errors import CODES, GatewayError
from gateway.exchange import Exchange
from gateway.jsongate import parse_object
from gateway.models import ModelTable
from gateway.revocation import RunningRequests
from gateway.types import Dialect, RelayRequest
from gateway.x_codex.queued import RunQueue
from gateway.x_codex.run import MESSAGE_MAX, RunRules, SynchronousRuns, fault_of
from gateway.x_codex.wish import Wish, WishRules
from sandbox.bodies import AttemptBody, read_task, write_attempt
from sandbox.environments import EnvironmentEntry
from sandbox.types import Ended, EnvironmentSpec, RunEvent, RunLevel, RunMode, RunResult, Usage
from store.errors import StoreError
from store.memory_tasks import MemoryTaskStore
from store.records import Limits
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter
from tests.fakes.clock import FakeClock

READ = Wish(RunLevel.READ_ONLY, "env_1")
CALLER = Caller("tenant", "tenant", "key1", frozenset({"relay", "tasks"}), (), (), Limits(), Limits())
RULES = RunRules(WishRules(), most=1, queue_s=10.0, run_s=60.0, heartbeat_s=5.0)
Play = Callable[["House"], Coroutine[Any, Any, None]]


class Hurried(FakeClock):
    """Whoever sleeps lets the time pass."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


class Desk:
    def __init__(self) -> None:
        self.all = (
            EnvironmentSpec("env_0", "tenant", "env_1"),
            EnvironmentSpec("env_1", "tenant", "one"),
            EnvironmentSpec("env_9", "other", "nine"),
        )

    async def list(self, tenant_id: str) -> tuple[EnvironmentEntry, ...]:
        return tuple(EnvironmentEntry(one, (), 1.0, 1.0) for one in self.all if one.tenant_id == tenant_id)


class Flaky(MemoryTaskStore):
    away = 0

    async def log(self, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]:
        if self.away:
            self.away -= 1
            raise StoreError("the store does not answer")
        return await super().log(task_id, after, limit)


@dataclass
class House:
    rules: RunRules = RULES
    clock: Hurried = field(default_factory=Hurried)
    sent: list[MutableMapping[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.tasks = Flaky(self.clock)
        results: Any = None
        self.keys = KeyDirectory(KeyRing(bytes(32)), Limits(), Limits())
        self.running = RunningRequests(self.keys, self.clock)
        queue = RunQueue(self.tasks, lambda: results, self.clock)
        self.runs = SynchronousRuns(queue, Desk(), self.running, self.clock, self.rules)
        self.exchange = Exchange("req_1", "POST", "/v1/responses", 0.0, caller=CALLER)
        self.leased: AttemptRecord | None = None

    async def ask(self, wish: Wish = READ, *, dialect: Dialect = Dialect.SDK, **members: Any) -> None:
        """One call, answered into ``sent``."""
        body = json.dumps({"model": "gpt-5.5", "input": "Fix it.", "x_codex": {}, **members}).encode()
        adapted = adapt(parse_object(body), Terms(ModelTable({})), False, lambda _: b"")
        self.exchange.adaptations = adapted.adaptations
        request = RelayRequest(
            "req_1", CALLER, adapted.model, adapted.model, adapted, [], None, (), adapted.stream, dialect, 0.0,
            echo=adapted.echo,
        )  # fmt: skip
        await self.runs.answer(wish, request, self.exchange, {}, self.receive, self.send)

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    # the worker's side

    async def lease(self) -> AttemptRecord:
        while True:
            self.leased = await self.tasks.lease_attempt("w", 1e9, 4)
            if self.leased is not None:
                return self.leased
            await asyncio.sleep(0)

    async def say(self, text: str) -> None:
        assert self.leased is not None
        event = RunEvent(1, 1.0, "codex", "codex.item.completed", {"item": {"type": "agent_message", "text": text}})
        await self.tasks.append_log([LogLine(self.leased.task_id, 1, msgspec.json.encode(event))])

    async def end(self, result: RunResult) -> None:
        assert self.leased is not None
        body = write_attempt(AttemptBody(result=result))
        await self.tasks.put_attempt(replace(self.leased, state=AttemptState.ENDED, body=body))

    async def cancelled(self) -> bool:
        assert self.leased is not None
        return (await self.tasks.attempts(self.leased.task_id))[0].cancel


@pytest.fixture
def house() -> House:
    return House()


async def good(house: House) -> None:
    await house.lease()
    await house.say("Half")
    await asyncio.sleep(0)
    await house.say("Done.")
    await house.end(RunResult(Ended.DONE, usage=Usage(10, 2, 3)))


async def both(house: House, play: Play, **members: Any) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(play(house))
        await house.ask(**members)


async def test_a_stream(house: House) -> None:
    await both(house, good, stream=True, temperature=0.5)
    assert [event["sequence_number"] for event in house.events] == list(range(len(house.events)))
    last = house.events[-1]
    assert last["type"] == "response.completed"
    assert [item["content"][0]["text"] for item in last["response"]["output"]] == ["Half", "Done."]
    assert last["response"]["usage"]["total_tokens"] == 13
    assert house.exchange.status == 200
    assert house.sent[-1]["more_body"] is False
    headers = dict(house.sent[0]["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert headers[b"x-relay-adapted"] == b"dropped:temperature"


async def test_a_whole_answer_repeats_what_was_asked(house: House) -> None:
    await both(house, good, metadata={"a": "b"}, instructions="Be brief.")
    answer = json.loads(house.body)
    assert (answer["status"], answer["metadata"], answer["instructions"]) == ("completed", {"a": "b"}, "Be brief.")
    assert (answer["id"], answer["model"]) == ("resp_1", "gpt-5.5")
    assert len(answer["output"]) == 2


async def test_the_worker_is_told_everything(house: House) -> None:
    async def play(house: House) -> None:
        leased = await house.lease()
        task = await house.tasks.task(leased.task_id)
        assert task is not None
        spec = read_task(task.body).spec
        assert (spec.prompt, spec.model, spec.environment_id, spec.effort) == ("Fix it.", "gpt-5.5", "env_1", "low")
        assert spec.mode == RunMode(RunLevel.READ_ONLY, False, 60.0)
        await house.end(RunResult(Ended.DONE))

    await both(house, play, wish=Wish(RunLevel.READ_ONLY, "one", "low"))


@pytest.mark.parametrize("name", ["env_9", "nine", "no"])
async def test_an_environment_that_is_not_the_tenants_is_none(house: House, name: str) -> None:
    with pytest.raises(GatewayError) as refused:
        await house.ask(Wish(RunLevel.READ_ONLY, name))
    assert (refused.value.status, refused.value.param) == (400, "x_codex.environment")
    assert await house.tasks.tasks(TaskFilter(archived=None)) == ()


@pytest.mark.parametrize("stream", [True, False])
async def test_without_a_worker_it_is_a_503_and_nothing_waits_on(house: House, stream: bool) -> None:
    with pytest.raises(GatewayError) as refused:
        await house.ask(stream=stream)
    assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "overloaded", 5.0)
    assert house.sent == []
    assert await house.tasks.lease_attempt("w", 30, 4) is None


async def test_too_long_a_run_is_stopped(house: House) -> None:
    async def idle(house: House) -> None:
        await house.lease()

    with pytest.raises(ExceptionGroup) as refused:
        await both(house, idle)
    error = refused.value.exceptions[0]
    assert isinstance(error, GatewayError)
    assert (error.status, error.code) == (504, "upstream_timeout")
    assert await house.cancelled()


async def test_a_stream_says_that_it_took_too_long_after_heartbeats(house: House) -> None:
    async def idle(house: House) -> None:
        await house.lease()
        await house.say("Half")

    await both(house, idle, stream=True, dialect=Dialect.CODEX)
    assert 5 <= house.body.count(b'data: {"type":"keepalive"}') <= 12
    events = [event for event in house.events if event["type"] != "keepalive"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["error"]["code"] == "upstream_timeout"
    assert len(events[-1]["response"]["output"]) == 1
    assert house.exchange.error_code == "upstream_timeout"
    assert await house.cancelled()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_cancels_the_run(house: House, stream: bool) -> None:
    async def leave(house: House) -> None:
        await house.lease()
        await house.say("Half")
        house.gone.set()

    with pytest.raises(ExceptionGroup) as left:
        await both(house, leave, stream=stream)
    assert left.group_contains(ClientGone)
    assert await house.cancelled()


async def test_our_own_drain_cancels_the_run_and_tells_the_client(house: House) -> None:
    call = asyncio.create_task(house.ask(stream=True))
    await house.lease()
    while not house.sent:
        await asyncio.sleep(0)
    call.cancel()
    await call
    assert house.events[-1]["response"]["error"]["code"] == "draining"
    assert await house.cancelled()


async def test_a_revoked_key_ends_the_run(house: House) -> None:
    async def ask() -> None:
        house.running.enter("key1")
        await house.ask(stream=True)

    call = asyncio.create_task(ask())
    await house.lease()
    while not house.sent:
        await asyncio.sleep(0)
    assert house.running.look() == 1
    await call
    assert house.events[-1]["response"]["error"]["code"] == "invalid_api_key"
    assert await house.cancelled()


async def test_one_place_serves_one_after_the_other(house: House) -> None:
    async def second() -> None:
        with pytest.raises(GatewayError, match="place"):
            await house.ask()

    async def first(house: House) -> None:
        await house.lease()
        await second()
        await house.end(RunResult(Ended.DONE))

    await both(house, first, stream=True)
    assert house.events[-1]["type"] == "response.completed"


async def test_a_store_that_is_away_for_a_moment_costs_nothing(house: House) -> None:
    async def play(house: House) -> None:
        await house.lease()
        while not house.sent:
            await asyncio.sleep(0)
        house.tasks.away = 3
        await house.say("Done.")
        await house.end(RunResult(Ended.DONE))

    await both(house, play, stream=True)
    assert house.tasks.away == 0
    assert house.events[-1]["response"]["output"][0]["content"][0]["text"] == "Done."


@pytest.mark.parametrize("ended", [one for one in Ended if one is not Ended.DONE])
def test_every_bad_end_has_an_error_of_the_table(ended: Ended) -> None:
    error = fault_of(RunResult(ended, "why\n" + "x" * 9000))
    assert error.code in CODES
    assert error.status >= 400
    assert "\n" not in error.message
    assert len(error.message) < MESSAGE_MAX + 100
    assert fault_of(RunResult(ended)).message.endswith((".", "again", "soon"))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_bad_end_is_told(house: House, stream: bool) -> None:
    async def play(house: House) -> None:
        await house.lease()
        await house.end(RunResult(Ended.BUDGET))

    if stream:
        await both(house, play, stream=True)
        assert house.events[-1]["response"]["error"]["code"] == "budget_exhausted"
        return
    with pytest.raises(ExceptionGroup) as refused:
        await both(house, play)
    assert isinstance(refused.value.exceptions[0], GatewayError)
    assert refused.value.exceptions[0].status == 429
