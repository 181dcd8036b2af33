"""How is one step of an attempt done: make its container, fill it, start it, watch it, take what it leaves?

Rules that hold:

* everything is put before the start: the workspace from where the step before left it, the spec, the secrets as a
  file that the runner reads and deletes; nothing secret is in the container's command, environment or labels;
* a network grant lives as long as the step and is taken back whatever happens;
* what the container leaves is read with the runner's own reader, which trusts no name and no size;
* the container stays until its attempt is over (the next step takes the workspace from it), then ``remove_all``.

Errors: EngineError and its kinds, LeaseLost, ResultsUnavailable. Cancel: the container goes on, for whoever adopts it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from ops.clock import Clock
from sandbox import codex
from sandbox.engine import (
    LABEL_ATTEMPT,
    LABEL_DEADLINE,
    LABEL_OWNER,
    LABEL_TASK,
    ContainerEngine,
    ContainerGone,
    ContainerSpec,
    EngineError,
    EngineUnavailable,
    Found,
)
from sandbox.results import ResultStore
from sandbox.run_lease import Lease
from sandbox.run_log import RunLog, stored_seq
from sandbox.run_plan import Step, container_spec, prompt_of
from sandbox.run_trees import gathered
from sandbox.run_watch import Stopped, Watch, ending_of
from sandbox.types import Ended, EnvironmentSpec, NetworkPolicy, RunResult, TaskSpec
from store.base import TaskStore
from store.records import Secret

LINE_MAX_BYTES: Final = 1 << 20
OUT_MIB: Final = 512
_MIB: Final = 1 << 20

Workspace = Callable[[], AsyncIterator[bytes]]
"""The tree a step begins with, as a tar stream relative to /workspace; called once per step."""

Keep = Callable[[str, AsyncIterator[bytes]], Awaitable[None]]
"""What is done with a file that the runner left."""


class Egress(Protocol):
    """What is asked of the server behind /run/gw."""

    def grant(self, token: Secret, name: str, policy: NetworkPolicy, deadline_s: float) -> None: ...

    def revoke(self, name: str) -> int: ...


class Keys(Protocol):
    """What is asked of auth.task_keys."""

    async def mint(
        self, task_id: str, attempt: int, tenant_id: str, models: tuple[str, ...], budget_tokens: int, ttl_s: float
    ) -> tuple[Secret, str]: ...

    async def end_task(self, task_id: str, attempt: int) -> int: ...


class EnvironmentSource(Protocol):
    """What is asked of sandbox.environments."""

    async def get(self, tenant_id: str, environment_id: str) -> EnvironmentSpec | None: ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker has, for every attempt. ``owner`` names this worker over restarts; ``token`` makes the egress
    token of (task, attempt, step), the same one after a restart. ``cache_key`` of (environment, base image, lock
    files); ``leaked`` names the secret whose value is in a tar stream."""

    engine: ContainerEngine
    tasks: TaskStore
    results: ResultStore
    environments: EnvironmentSource
    keys: Keys
    egress: Egress
    token: Callable[[str, int, str], Secret]
    cache_key: Callable[[EnvironmentSpec, str, Mapping[str, bytes]], str]
    leaked: Callable[[AsyncIterator[bytes], Sequence[tuple[str, Secret]]], Awaitable[str | None]]
    clock: Clock
    owner: str
    socket_folder: Path
    image: str
    runtime: str | None
    cache_s: float
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    """By cache key: attempts of this worker that miss together set up once."""
    logs: dict[str, RunLog] = field(default_factory=dict)
    """By a grant's name: where what the egress server decides is told."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """What came of a step."""

    container_id: str
    ended: Ended
    message: str
    told: RunResult | None
    setup_log: bytes


@dataclass(slots=True)
class Stepper:
    """Does the steps of one attempt."""

    tools: Tools
    lease: Lease
    log: RunLog
    spec: TaskSpec
    environment: EnvironmentSpec
    turn: int = 0
    key: Secret | None = None

    async def mint(self) -> None:
        """The attempt's key, made before anything else: the gateway needs a moment to hear of it."""
        record, keys = self.lease.record, self.tools.keys
        await keys.end_task(record.task_id, record.number)  # those of a try before us
        ttl_s = 4 * self.environment.limits.wall_s + 60.0
        models, budget = (self.spec.model,), self.spec.budget_tokens
        self.key, _ = await keys.mint(record.task_id, record.number, record.tenant_id, models, budget, ttl_s)

    async def begin(self, step: Step, workspace: Workspace | None, home: bytes | None = None) -> str:
        """A started container for ``step``; its id."""
        tools, record = self.tools, self.lease.record
        self.turn += 1
        wall_s = self.environment.limits.wall_s
        made = container_spec(
            step,
            record,
            self.environment,
            owner=tools.owner,
            turn=self.turn,
            deadline_at_s=tools.clock.now_s() + wall_s,
            socket_folder=tools.socket_folder,
            runtime=tools.runtime,
        )
        if made.read_only_workspace:
            container_id = await self._filled(made, workspace)
        else:
            container_id = await tools.engine.create(made)
            if workspace is not None:
                await tools.engine.put(container_id, "/workspace", workspace())
        if home is not None:
            await tools.engine.put(container_id, "/home/agent", home)
        await tools.engine.put(container_id, "/task", await self._inputs(step))
        self._grant(step, wall_s)
        await tools.engine.start(container_id)
        await self.log.begin(container_id, step.phase.value, step=step.name, image=step.image)
        return container_id

    async def _filled(self, made: ContainerSpec, workspace: Workspace | None) -> str:
        """A container whose workspace is there and cannot be written: another one, which is never started, has filled
        the volume that both name."""
        engine = self.tools.engine
        if workspace is not None:
            filler = replace(made, name=f"{made.name}-fill", read_only_workspace=False)
            await engine.put(await engine.create(filler), "/workspace", workspace())
        return await engine.create(made)

    async def finish(self, step: Step, container_id: str, keep: Keep, deadline_at_s: float | None = None) -> StepEnd:
        """Watches a started container to its end, and collects."""
        tools, limits = self.tools, self.environment.limits
        until_s = tools.clock.now_s() + limits.wall_s if deadline_at_s is None else deadline_at_s
        watch = Watch(tools.engine, tools.clock, self.lease, self.log, codex.line_of)
        try:
            stopped = await watch.watch(container_id, limits, until_s)
        finally:
            self._revoke(step)
        return await self._collected(container_id, stopped, keep)

    async def adopt(self, step: Step, found: Found, keep: Keep) -> StepEnd:
        """Goes on with a container that an earlier life of this worker started."""
        tools, record = self.tools, self.lease.record
        deadline_at_s = float(found.labels.get(LABEL_DEADLINE) or 0)
        left_s = max(0.0, deadline_at_s - tools.clock.now_s())
        self.log.last_seq = await stored_seq(tools.tasks, record.task_id, record.number, found.id)
        await self.log.say("adopted", id=found.id, step=step.name, after_seq=self.log.last_seq)
        self._grant(step, left_s)
        return await self.finish(step, found.id, keep, deadline_at_s)

    def left_by(self, container_id: str) -> Workspace:
        """The workspace as that container left it."""
        most = self.environment.limits.disk_mib * _MIB
        return lambda: self.tools.engine.collect(container_id, "/workspace/.", most)

    async def _inputs(self, step: Step) -> bytes:
        spec, body = self.spec, self.lease.body
        told = codex.spec_json(
            spec if step.git is not None else replace(spec, source=None),
            self.environment,
            step.phase,
            commands=step.commands,
            prompt=prompt_of(spec, body),
            thread_id=body.thread_id if step.with_key else None,
            starting_diff=None if step.with_key else "",  # a judge sees the agent's own tree
        )
        secrets = codex.secrets_json(
            git_token=step.git.token if step.git is not None else None,
            environment=step.secrets,
            task_key=self.key if step.with_key else None,
            egress_token=self._token(step) if step.network is not None else None,
        )
        return codex.input_tar({"spec.json": told, "secrets.json": secrets})

    def _token(self, step: Step) -> Secret:
        return self.tools.token(self.lease.record.task_id, self.lease.record.number, step.name)

    def _grant(self, step: Step, for_s: float) -> None:
        if step.network is not None:
            until_s = self.tools.clock.monotonic_s() + for_s
            self._revoke(step)  # of a try before
            self.tools.logs[self._name(step)] = self.log
            self.tools.egress.grant(self._token(step), self._name(step), step.network, until_s)

    def _revoke(self, step: Step) -> None:
        self.tools.egress.revoke(self._name(step))
        self.tools.logs.pop(self._name(step), None)

    def _name(self, step: Step) -> str:
        return f"{self.lease.record.task_id}/{self.lease.record.number}/{step.name}"

    async def _collected(self, container_id: str, stopped: Stopped, keep: Keep) -> StepEnd:
        told: RunResult | None = None
        setup_log = b""
        try:
            out = self.tools.engine.collect(container_id, "/out", OUT_MIB * _MIB)
            async for name, data in codex.read_out_tar(out):
                if name == "result.json":
                    told = codex.result_of(await gathered(data, LINE_MAX_BYTES))
                elif name == "setup.log":
                    setup_log = await gathered(data)
                else:
                    await keep(name, data)
        except (ContainerGone, EngineUnavailable):
            raise
        except (EngineError, codex.OutRefused, ValueError) as error:
            await self.log.say("not_collected", reason=str(error)[:500])
        ended, message = ending_of(stopped, told)
        return StepEnd(container_id, ended, message, told, setup_log)


async def nothing(name: str, data: AsyncIterator[bytes]) -> None:
    """Keeps no file."""


async def mine(tools: Tools, task_id: str, attempt: int) -> tuple[Found, ...]:
    """Every container of one attempt on this engine, whoever made it."""
    found = await tools.engine.containers(LABEL_TASK, task_id)
    return tuple(one for one in found if one.labels.get(LABEL_ATTEMPT) == str(attempt))


async def remove_all(tools: Tools, task_id: str, attempt: int, *, but: str | None = None) -> None:
    """Removes the attempt's containers. What an engine that is away keeps, the reaper removes later."""
    with contextlib.suppress(EngineError):
        for one in await mine(tools, task_id, attempt):
            if one.id != but:
                await tools.engine.remove(one.id)


def is_ours(tools: Tools, found: Found) -> bool:
    return found.labels.get(LABEL_OWNER) == tools.owner
