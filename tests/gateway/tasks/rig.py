"""The tasks' API behind the gateway's real frames: real service, store and results; a worker that plays its part.

``TaskHouse`` is the admin API's House with the tasks' door beside it: tenants ten-1 and ten-2, each with a key of
scope tasks, an environment and, by ``task``, tasks of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateway.tasks.app import tasks_app
from gateway.tasks.desk import EnvironmentDesk
from gateway.tasks.types import TaskValues, Workshop
from sandbox.archives import BadArchive
from sandbox.environments import EnvironmentDraft, EnvironmentRules, Environments
from sandbox.giturl import checked_git
from sandbox.results import LocalResults
from sandbox.service import TaskRules, TaskService
from sandbox.share import Shares
from sandbox.types import GitSource, Limits
from store.records import Secret
from tests.gateway.admin.rig import House, Someone
from tests.gateway.tasks.worker import PlayedWorker

MOST = Limits(cpus=2.0, memory_mib=1024, pids=128, disk_mib=1024, wall_s=600.0, output_mib=10)
UPLOAD_BYTES = 64 * 1024


async def plain_tar(data: AsyncIterator[bytes], kind: str) -> AsyncIterator[bytes]:
    """Passes on what begins like one of ours; refuses the rest."""
    async for piece in data:
        if piece.startswith(b"evil"):
            raise BadArchive(f"the {kind} holds a path that leads out of it")
        yield piece


async def public_host(host: str, port: int) -> list[str]:
    """What the name of every repository here leads to."""
    return ["127.0.0.1" if host == "inside.example" else "93.184.216.34"]


async def git(url: str, ref: str | None, token: Secret | None) -> GitSource:
    return await checked_git(url, ref, public_host, token=token)


class TaskHouse(House):
    """See the module."""

    def __init__(self, folder: Path, rules: TaskRules | None = None) -> None:
        super().__init__(sandbox=True)
        self.records = self.store.task_store()
        self.results = LocalResults(folder)
        self.told: list[str] = []
        self.drains = False
        self.places: dict[str, str] = {}
        self.environments = Environments(self.store, self.clock, EnvironmentRules(MOST))
        self.desk = EnvironmentDesk(self.environments, self._tenants)
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
            check_git=git,
            tenant_named=self._tenant,
            draining=lambda: self.drains,
        )
        self.worker = PlayedWorker(self.records, self.results, self.service)
        self.tasks = tasks_app(self.shop, self.directory, self.sessions)
        self.app = self.framed()

    async def _tenants(self) -> list[str]:
        return [one.id for one in await self.store.tenants()]

    async def _tenant(self, named: str) -> str | None:
        return next((one.id for one in await self.store.tenants() if named in (one.id, one.name)), None)

    async def open(self) -> TaskHouse:
        """Tenants, keys of scope tasks, and environments by the labels env_1 and env_2; ``places`` has their ids."""
        await self.furnish()
        self.workers = {name: await self.key(name, {"tasks"}) for name in ("ten-1", "ten-2")}
        self.one, self.two = self.workers["ten-1"], self.workers["ten-2"]
        for number in ("1", "2"):
            url = f"https://github.com/acme/widgets{number}.git"
            made = await self.environments.create(f"ten-{number}", EnvironmentDraft(f"env_{number}", url))
            self.places[f"env_{number}"] = made.spec.id
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

    async def ready(self, who: Someone | None = None, **fields: Any) -> dict[str, Any]:
        """A task of ten-1 that is ready."""
        task = await self.new(who, **fields)
        await self.worker.lease()
        await self.worker.end()
        return task
