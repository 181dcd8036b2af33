"""``x_codex`` through the front door of a whole gateway; a worker is played on the queue that real ones lease from."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import msgspec
import openai
import pytest
from openai.types.responses import Response

from sandbox.bodies import AttemptBody, read_task, write_attempt
from sandbox.environments import EnvironmentDraft, Environments
from sandbox.types import Ended, RunEvent, RunLevel, RunMode, RunResult, TaskSpec, Usage
from store.base import TaskStore
from store.task_records import AttemptState, LogLine, TaskFilter
from tests.fakes.faulty import FaultyUpstream
from tests.flow.stage import Stage, stage

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "openresponses-2026-04-24.json").read_text())
SCHEMA = {"$ref": "#/components/schemas/ResponseResource", "components": DOCUMENT["components"]}
ON = {"enabled": True, "synchronous": True, "synchronous_queue_s": 5.0, "synchronous_run_s": 5.0}
READ = {"sandbox": "read-only", "environment": "one"}
BOTH = frozenset({"relay", "tasks"})
USAGE = Usage(10, 4, 3)


def item(**members: Any) -> tuple[str, dict[str, Any]]:
    return "codex.item.completed", {"item": members}


COMMAND = item(type="command_execution", command="pytest -q", exit_code=1, aggregated_output="words of the output")
MESSAGE = item(type="agent_message", text="Two tests fail.")


@dataclass
class Worker:
    """Leases what comes, logs ``lines``, and ends it with ``ended``; None: it works until it is cancelled."""

    tasks: TaskStore
    lines: tuple[tuple[str, dict[str, Any]], ...] = (COMMAND, MESSAGE)
    ended: Ended | None = Ended.DONE
    specs: list[TaskSpec] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self) -> None:
        while True:
            leased = await self.tasks.lease_attempt("played", 60, 9)
            if leased is None:
                await asyncio.sleep(0.01)
                continue
            task = await self.tasks.task(leased.task_id)
            assert task is not None
            self.specs.append(read_task(task.body).spec)
            events = [RunEvent(n, 1.0, "codex", kind, data) for n, (kind, data) in enumerate(self.lines, 1)]
            await self.tasks.append_log([LogLine(leased.task_id, 1, msgspec.json.encode(one)) for one in events])
            self.begun.set()
            ended = self.ended
            while ended is None:
                renewed = await self.tasks.renew_lease(leased, 60)
                if renewed is None or renewed.cancel:
                    ended = Ended.CANCELLED
                    self.cancelled.set()
                await asyncio.sleep(0.01)
            body = write_attempt(AttemptBody(result=RunResult(ended, "of its own", usage=USAGE)))
            await self.tasks.put_attempt(replace(leased, state=AttemptState.ENDED, body=body))


@dataclass
class Scene:
    stage: Stage
    upstream: FaultyUpstream
    worker: Worker
    key: str
    environment_id: str

    async def ask(self, extension: object = None, *, key: str | None = None, **body: Any) -> httpx.Response:
        call = {"model": "gpt-5.5", "input": "Which tests fail?", "x_codex": extension or READ, **body}
        headers = {"authorization": f"Bearer {key or self.key}"}
        return await self.stage.client.post("/v1/responses", json=call, headers=headers)

    async def refused(self, status: int, code: str, param: str | None, *args: Any, **named: Any) -> str:
        """Asks, demands that refusal in the OpenAI shape; its message."""
        answer = await self.ask(*args, **named)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert (error["code"], error["param"]) == (code, param)
        return str(error["message"])

    def sdk(self) -> openai.AsyncOpenAI:
        url = f"{self.stage.gateway.url}/v1"
        client: Any = self.client  # the stage's own: it needs no public authorities
        return openai.AsyncOpenAI(base_url=url, api_key=self.key, max_retries=0, http_client=client)

    @property
    def client(self) -> httpx.AsyncClient:
        return self.stage.client

    async def all_tasks(self) -> int:
        return len(await self.worker.tasks.tasks(TaskFilter(archived=None)))


@contextlib.asynccontextmanager
async def scene(folder: Path, *, working: bool = True, upstream: Any = None, **sandbox: Any) -> AsyncIterator[Scene]:
    settings = {**ON, "folder": str(folder / "sandbox"), **sandbox}
    async with (
        FaultyUpstream() as backend,
        stage(folder, backend.base_url, sandbox=settings, upstream=upstream or {}, limits={}) as scene_stage,
    ):
        store = scene_stage.gateway.gateway.store
        environments = Environments(store, scene_stage.gateway.clock)
        mine = await environments.create("demo", EnvironmentDraft("one"))
        await environments.create("other", EnvironmentDraft("two"))
        secret, _ = await scene_stage.gateway.make_key(scopes=BOTH)
        worker = Worker(store.task_store())
        playing = asyncio.create_task(worker.work()) if working else None
        try:
            yield Scene(scene_stage, backend, worker, secret.reveal(), mine.spec.id)
        finally:
            if playing is not None:
                playing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await playing


async def test_the_sdk_reads_a_run_as_an_ordinary_stream(tmp_path: Path) -> None:
    async with scene(tmp_path) as on, on.sdk() as client:
        kinds, numbers = [], []
        async with client.responses.stream(
            model="gpt-5.5", input="Which tests fail?", extra_body={"x_codex": READ}
        ) as events:
            async for event in events:
                kinds.append(event.type)
                numbers.append(event.sequence_number)
            final = await events.get_final_response()
        assert final.output_text == "Two tests fail."
        assert [one.type for one in final.output] == ["reasoning", "message"]
        assert final.usage is not None
        assert final.usage.total_tokens == 13
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert numbers == list(range(len(numbers)))
        assert on.upstream.requests == 0
        spec = on.worker.specs[0]
        assert (spec.prompt, spec.environment_id) == ("Which tests fail?", on.environment_id)
        assert spec.mode == RunMode(RunLevel.READ_ONLY, False, 5.0)


async def test_a_whole_answer_satisfies_the_schema_and_nothing_is_left(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        answer = await on.ask({**READ, "environment": on.environment_id, "reasoning_effort": "low"})
        assert answer.status_code == 200
        jsonschema.Draft202012Validator(SCHEMA).validate(answer.json())
        assert Response.model_validate(answer.json()).output_text == "Two tests fail."
        assert "words of the output" not in answer.text
        assert on.worker.specs[0].effort == "low"
        assert await on.worker.tasks.tasks(TaskFilter()) == ()


async def test_without_a_sandbox_the_object_is_stripped_and_the_call_relayed(tmp_path: Path) -> None:
    async with scene(tmp_path, working=False) as on:
        answer = await on.ask({"environment": "secret-name", "reasoning_effort": "low"}, stream=True)
        assert answer.status_code == 200
        assert "dropped:x_codex" in answer.headers["x-relay-adapted"]
        assert on.upstream.requests == 1
        assert b"x_codex" not in on.upstream.seen[-1].body
        assert b"secret-name" not in on.upstream.seen[-1].body
        plain = await on.stage.relay()
        assert "x_codex" not in plain.headers.get("x-relay-adapted", "")
        assert await on.all_tasks() == 0


@pytest.mark.parametrize("off", [{"enabled": False}, {"synchronous": False}], ids=str)
async def test_it_is_off_until_both_settings_are_on(tmp_path: Path, off: dict[str, Any]) -> None:
    async with scene(tmp_path, working=False, **off) as on:
        message = await on.refused(400, "invalid_request", "x_codex.sandbox")
        assert "sandbox.synchronous" in message
        assert on.upstream.requests == 0


async def test_key_environment_and_switches_are_asked(tmp_path: Path) -> None:
    async with scene(tmp_path, working=False) as on:
        relay_only, _ = await on.stage.gateway.make_key()
        await on.refused(403, "forbidden", None, key=relay_only.reveal())
        for name in ("two", "none"):
            await on.refused(400, "invalid_request", "x_codex.environment", {**READ, "environment": name})
        full = {**READ, "sandbox": "danger-full-access"}
        assert "sandbox.full_access" in await on.refused(400, "invalid_request", "x_codex.sandbox", full)
        await on.refused(400, "invalid_request", "x_codex.network_access", {**READ, "network_access": True})
        await on.refused(400, "invalid_request", "x_codex", "read-only")
        assert await on.all_tasks() == 0
        assert on.upstream.requests == 0


async def test_both_switches_give_full_access(tmp_path: Path) -> None:
    async with scene(tmp_path, full_access=True) as on:
        answer = await on.ask({**READ, "sandbox": "danger-full-access"})
        assert answer.status_code == 200
        assert on.worker.specs[0].mode == RunMode(RunLevel.FULL_ACCESS, True, 5.0)


async def test_local_only_takes_an_upstream_on_loopback_and_no_other(tmp_path: Path) -> None:
    async with scene(tmp_path, local_only=True) as on:
        assert (await on.ask()).status_code == 200
    away = {"base_url": "https://8.8.8.8/backend-api/codex"}
    async with scene(tmp_path / "away", working=False, local_only=True, upstream=away) as on:
        assert "sandbox.local_only" in await on.refused(400, "invalid_request", "x_codex.sandbox")


async def test_a_client_that_leaves_cancels_the_run(tmp_path: Path) -> None:
    async with scene(tmp_path) as on:
        on.worker.ended = None
        headers = {"authorization": f"Bearer {on.key}"}
        call = {"model": "gpt-5.5", "input": "x", "x_codex": READ, "stream": True}
        async with on.client.stream("POST", "/v1/responses", json=call, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if "output_text.done" in line:
                    break
        async with asyncio.timeout(5):
            await on.worker.cancelled.wait()


async def test_the_next_waits_for_a_place_and_not_for_ever(tmp_path: Path) -> None:
    async with scene(tmp_path, synchronous_max=1, synchronous_queue_s=0.3, synchronous_run_s=1.5) as on:
        on.worker.ended = None
        first = asyncio.create_task(on.ask())
        await on.worker.begun.wait()
        answer = await on.ask(stream=True)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        late = await first
        assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
        await on.worker.cancelled.wait()
        assert len(on.worker.specs) == 1


@pytest.mark.parametrize("ended", [Ended.FAILED, None])
async def test_a_stream_that_has_begun_ends_honestly(tmp_path: Path, ended: Ended | None) -> None:
    async with scene(tmp_path, synchronous_run_s=0.5) as on:
        on.worker.ended = ended
        async with on.sdk() as client:
            stream = await client.responses.create(
                model="gpt-5.5", input="x", stream=True, extra_body={"x_codex": READ}
            )
            events = [event async for event in stream]
        last = events[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        code: str = last.response.error.code
        assert code == ("upstream_timeout" if ended is None else "upstream_error")
        assert last.response.output_text == "Two tests fail."
