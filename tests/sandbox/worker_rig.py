"""A worker over the fake engine, a store in memory, and a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from sandbox.results import pieces, whole
from sandbox.run_step import Tools
from sandbox.service import Actor, Task, TaskRules, TaskService
from sandbox.types import EnvironmentSpec, Limits, NetworkPolicy, RunEvent, TaskSpec
from sandbox.worker import Worker, WorkerValues
from store.memory import MemoryStore
from store.records import Secret
from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeEngine, Inside

ANN = Actor("ann", "acme")
LIMITS = Limits(cpus=1, memory_mib=512, pids=64, disk_mib=8, wall_s=600, output_mib=1)
ENVIRONMENT = EnvironmentSpec("env_1", "acme", "plain", limits=LIMITS)
SPEC = TaskSpec("fix the bug", "gpt-5.5", "env_1")
PATCH = b"--- a/x\n+++ b/x\n"
LEASE_S = 30.0


class MemoryResults:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, key: str, data: AsyncIterator[bytes], max_bytes: int) -> int:
        self.blobs[key] = b"".join([piece async for piece in data])
        return len(self.blobs[key])

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        return pieces(self.blobs[key]) if key in self.blobs else None

    async def size(self, key: str) -> int | None:
        return len(self.blobs[key]) if key in self.blobs else None

    async def remove(self, prefix: str) -> int:
        gone = [key for key in self.blobs if key == prefix or key.startswith(prefix + "/")]
        for key in gone:
            del self.blobs[key]
        return len(gone)


class Environments:
    def __init__(self, *known: EnvironmentSpec) -> None:
        self.known = {one.id: one for one in known}

    async def get(self, tenant_id: str, environment_id: str) -> EnvironmentSpec | None:
        return self.known.get(environment_id)


class Keys:
    def __init__(self) -> None:
        self.alive: dict[tuple[str, int], str] = {}
        self.minted = 0

    async def mint(
        self, task_id: str, attempt: int, tenant_id: str, models: tuple[str, ...], budget_tokens: int, ttl_s: float
    ) -> tuple[Secret, str]:
        self.minted += 1
        key = self.alive[task_id, attempt] = f"key-{self.minted}"
        return Secret(key), f"id-{self.minted}"

    async def end_task(self, task_id: str, attempt: int) -> int:
        return int(self.alive.pop((task_id, attempt), None) is not None)


class Egress:
    def __init__(self) -> None:
        self.granted: dict[str, NetworkPolicy] = {}
        self.ever: list[tuple[str, NetworkPolicy]] = []

    def grant(self, token: Secret, name: str, policy: NetworkPolicy, deadline_s: float) -> None:
        assert name not in self.granted
        self.granted[name] = policy
        self.ever.append((token.reveal(), policy))

    def revoke(self, name: str) -> int:
        return int(self.granted.pop(name, None) is not None)


async def leaked(tar: AsyncIterator[bytes], secrets: Sequence[tuple[str, Secret]]) -> str | None:
    data = b"".join([piece async for piece in tar])
    return next((name for name, value in secrets if value.reveal().encode() in data), None)


def cache_key(environment: EnvironmentSpec, image: str, lockfiles: Mapping[str, bytes]) -> str:
    locks = "-".join(f"{name}.{len(data)}" for name, data in sorted(lockfiles.items()))
    return f"{environment.id}.{environment.version}.{locks}"


async def good(inside: Inside) -> int:
    """What a container does that works."""
    inside.say("codex.began")
    await asyncio.sleep(0)
    if inside.step == "agent":
        inside.files["/out/diff.patch"] = PATCH
        inside.files["/home/agent/.codex/sessions/a.jsonl"] = b"{}"
        return inside.end(thread_id="thread-0001", files_changed=1, lines_added=2)
    inside.files["/out/setup.log"] = b"+ " + inside.step.encode()
    return inside.end(tests_passed=True) if inside.step == "judge" else inside.end()


async def until_stopped(inside: Inside) -> int:
    """An agent that works until it is asked to stop, and then writes what it has."""
    if inside.step != "agent":
        return await good(inside)
    inside.say("codex.item.completed", text="begun")
    await inside.stopping.wait()
    inside.files["/out/diff.patch"] = PATCH
    return inside.end("cancelled", files_changed=1)


class Rig:
    def __init__(
        self,
        script: Callable[[Inside], Awaitable[int]] = good,
        *environments: EnvironmentSpec,
    ) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(script, self.clock)
        self.tasks = MemoryStore(self.clock).task_store()
        self.results = MemoryResults()
        self.environments = Environments(*(environments or (ENVIRONMENT,)))
        self.keys, self.egress = Keys(), Egress()
        self.told: list[str] = []
        self.service = TaskService(
            self.tasks, self.results, self.clock, TaskRules(), lambda what, task: self.told.append(what)
        )
        self.workers: list[asyncio.Task[None]] = []

    def tools(self, name: str = "w1", engine: FakeEngine | None = None) -> Tools:
        return Tools(
            engine=engine or self.engine,
            tasks=self.tasks,
            results=self.results,
            environments=self.environments,
            keys=self.keys,
            egress=self.egress,
            token=lambda task, attempt, step: Secret(f"{task}/{attempt}/{step}"),
            cache_key=cache_key,
            leaked=leaked,
            clock=self.clock,
            owner=name,
            socket_folder=Path("/srv/relay/gw"),
            image="codex-relay/agent:1",
            runtime=None,
            cache_s=43_200.0,
        )

    def worker(self, name: str = "w1", engine: FakeEngine | None = None, **changed: float) -> Worker:
        values = replace(
            WorkerValues(name, 4, 4, LEASE_S, drain_s=20.0, retention_s=1e9),
            **changed,  # type: ignore[arg-type]
        )
        return Worker(self.tools(name, engine), self.service, values)

    def begin(self, name: str = "w1", engine: FakeEngine | None = None, **changed: float) -> asyncio.Task[None]:
        """A worker that runs until the rig is closed or the task is cancelled (as a killed process)."""
        task = asyncio.create_task(self.worker(name, engine, **changed).run(asyncio.Event()))
        self.workers.append(task)
        return task

    @property
    def agent(self) -> Inside | None:
        """The newest agent's container."""
        return next((one for one in reversed(self.engine.made) if one.step == "agent"), None)

    async def until(self, condition: Callable[[], bool], step_s: float = 0.05, turns: int = 3000) -> None:
        for _ in range(turns):
            if condition():
                return
            for _ in range(10):
                await asyncio.sleep(0)
            self.clock.advance(step_s)
        raise AssertionError("it did not come to that")

    async def over(self, task: Task, **how: float) -> Task:
        """The task when all its attempts have ended."""
        found = task

        async def look() -> Task:
            return await self.service.get(ANN, task.record.id)

        for _ in range(3000):
            found = await look()
            left = any(one.spec.labels[0][1] == task.record.id for one in self.engine.there.values())
            if found.body.ended_at_s is not None and not left:
                return found
            for _ in range(10):
                await asyncio.sleep(0)
            self.clock.advance(how.get("step_s", 0.05))
        raise AssertionError(f"it is still {found.record.state}")

    async def events(self, task: Task) -> list[RunEvent]:
        return [msgspec.json.decode(one.body, type=RunEvent) for one in await self.tasks.log(task.record.id, 0, 9999)]

    async def kinds(self, task: Task) -> list[str]:
        return [one.kind for one in await self.events(task)]

    async def file(self, task: Task, attempt: int, name: str) -> bytes | None:
        result = task.attempts[attempt - 1].body.result
        assert result is not None
        key = dict(result.files).get(name)
        return None if key is None else await whole(self.results, key, 1 << 20)

    async def close(self) -> None:
        for task in self.workers:
            task.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self.engine.close()
