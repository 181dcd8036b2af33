"""The tasks' API behind the gateway's real frames: real service, store and results; a worker that plays its part.

``TaskHouse`` is the admin API's House with the tasks' door beside it: tenants ten-1 and ten-2, each with a key of
scope tasks, an environment and, by ``task``, tasks of its own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.tasks.app import tasks_app
from gateway.tasks.types import TaskValues, Workshop
from sandbox.bodies import read_attempt, write_attempt
from sandbox.results import LocalResults, pieces
from sandbox.service import Task, TaskRules, TaskService
from sandbox.share import Shares
from sandbox.types import Ended, EnvironmentSpec, GitSource, Limits, Phase, RunResult, Usage
from store.errors import Conflict
from store.task_records import AttemptState
from tests.gateway.admin.rig import House, Someone

MOST = Limits(cpus=2.0, memory_mib=1024, pids=128, disk_mib=1024, wall_s=600.0, output_mib=10)
DIFF = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n hello\n+world\n"
UPLOAD_BYTES = 64 * 1024


class Desk:
    """Environments in memory."""

    def __init__(self) -> None:
        self.specs: dict[str, EnvironmentSpec] = {}

    async def find(self, tenant_id: str | None) -> tuple[EnvironmentSpec, ...]:
        return tuple(one for one in self.specs.values() if tenant_id in (None, one.tenant_id))

    async def get(self, tenant_id: str | None, environment_id: str) -> EnvironmentSpec | None:
        return next((one for one in await self.find(tenant_id) if one.id == environment_id), None)

    async def add(self, spec: EnvironmentSpec) -> EnvironmentSpec:
        if spec.label == "refused":
            raise ValueError("the label is refused")
        self.specs[spec.id] = spec
        return spec

    async def put(self, spec: EnvironmentSpec, version: int) -> EnvironmentSpec:
        if self.specs[spec.id].version != version:
            raise Conflict("it has another version")
        self.specs[spec.id] = replace(spec, version=version + 1)
        return self.specs[spec.id]

    async def remove(self, spec: EnvironmentSpec) -> bool:
        return self.specs.pop(spec.id, None) is not None


async def plain_tar(data: AsyncIterator[bytes], kind: str) -> AsyncIterator[bytes]:
    """Passes on what begins like one of ours; refuses the rest."""
    async for piece in data:
        if piece.startswith(b"evil"):
            raise ValueError(f"the {kind} holds a path that leads out of it")
        yield piece


def https_git(url: str, ref: str | None) -> GitSource:
    if not re.fullmatch(r"https://[a-z0-9.-]+/[A-Za-z0-9._/-]+", url):
        raise ValueError("the URL must be https://host/path")
    return GitSource(url, ref)


class TaskHouse(House):
    """See the module."""

    def __init__(self, folder: Path, rules: TaskRules | None = None) -> None:
        super().__init__(sandbox=True)
        self.records = self.store.task_store()
        self.results = LocalResults(folder)
        self.told: list[str] = []
        self.drains = False
        self.desk = Desk()
        self.service = TaskService(
            self.records, self.results, self.clock, rules or TaskRules(), lambda what, task: self.told.append(what)
        )
        self.shop = Workshop(
            service=self.service,
            results=self.results,
            environments=self.desk,
            shares=Shares(self.store, bytes(32), self.clock),
            acts=self.acts,
            clock=self.clock,
            values=TaskValues("gpt-5.5", UPLOAD_BYTES, MOST),
            check_tar=plain_tar,
            check_git=https_git,
            tenant_named=self._tenant,
            draining=lambda: self.drains,
        )
        self.tasks = tasks_app(self.shop, self.directory, self.sessions)
        self.app = self.framed()

    async def _tenant(self, named: str) -> str | None:
        return next((one.id for one in await self.store.tenants() if named in (one.id, one.name)), None)

    async def open(self) -> TaskHouse:
        """Tenants, keys of scope tasks, and environments env_1 and env_2."""
        await self.furnish()
        self.workers = {name: await self.key(name, {"tasks"}) for name in ("ten-1", "ten-2")}
        self.one, self.two = self.workers["ten-1"], self.workers["ten-2"]
        for number in ("1", "2"):
            url = f"https://github.com/acme/widgets{number}.git"
            await self.desk.add(EnvironmentSpec(f"env_{number}", f"ten-{number}", f"widgets {number}", url))
        return self

    async def new(self, who: Someone | None = None, **fields: Any) -> dict[str, Any]:
        """A task of ten-1 by REST."""
        environment = "env_2" if who is self.two else "env_1"
        body = {"environment": environment, "prompt": "fix the bug", **fields}
        line = await self.ask("POST", "/v1/tasks", who or self.one, body)
        assert line.status == 201, line.body
        found = line.json
        assert isinstance(found, dict)
        return found

    async def lease(self) -> None:
        """A worker takes the next attempt, and is in its agent phase."""
        leased = await self.records.lease_attempt("worker-1", 30.0, 99)
        assert leased is not None
        self._leased = leased
        body = replace(read_attempt(leased.body), phase=Phase.AGENT)
        await self.records.put_attempt(replace(leased, body=write_attempt(body)))
        await self.service.settle(leased.task_id)

    async def end(self, ended: Ended = Ended.DONE, diff: str = DIFF, files: dict[str, bytes] | None = None) -> Task:
        """It ends what it took."""
        leased = self._leased
        named = []
        for number, (name, data) in enumerate({"diff.patch": diff.encode(), **(files or {})}.items()):
            blob = f"{leased.tenant_id}/{leased.task_id}/{leased.number}/file{number}"
            await self.results.put(blob, pieces(data), 10**7)
            named.append((name, blob))
        result = RunResult(
            ended,
            "Done.",
            0,
            "thread-1",
            Usage(100, 0, 10),
            tuple(named),
            1,
            1,
            0,
            True if ended is Ended.DONE else None,
        )
        body = replace(read_attempt(leased.body), phase=Phase.AGENT, result=result)
        await self.records.put_attempt(replace(leased, state=AttemptState.ENDED, body=write_attempt(body)))
        return await self.service.settle(leased.task_id)

    async def ready(self, who: Someone | None = None, **fields: Any) -> dict[str, Any]:
        """A task of ten-1 that is ready."""
        task = await self.new(who, **fields)
        await self.lease()
        await self.end()
        return task
