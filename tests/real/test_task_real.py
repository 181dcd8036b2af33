"""Whole tasks: gateway with its worker, real engine, real Codex CLI, and the simulator that plays a model which edits.

The test asks by the service of tasks over the gateway's own store; everything else is processes.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from ops.cli.session import settings_of
from ops.clock import SystemClock
from ops.house_store import keys_of
from ops.house_tasks import results_of, task_service
from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from sandbox.engine import LABEL_TASK
from sandbox.environment_rules import EnvironmentDraft
from sandbox.environments import Environments
from sandbox.results import ResultStore, pieces, whole
from sandbox.service import Actor, Task, TaskService
from sandbox.types import ArchiveSource, Ended, Limits, RunEvent, TaskSpec
from store.open import open_store
from store.task_records import TaskState
from tests.ops.processes import Serving, serving
from tests.real.agent_image import AgentImage, left

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(600), pytest.mark.xdist_group("docker")]
LIMITS = Limits(cpus=2.0, memory_mib=1024, pids=256, disk_mib=512, wall_s=120.0, output_mib=8)
EDIT = "sim:edit-file=notes.txt"


@dataclass
class House:
    gateway: Serving
    service: TaskService
    environments: Environments
    results: ResultStore
    by: Actor
    agent: AgentImage

    async def task(self, prompt: str, *, attempts: int = 1, test_command: str = "", setup_script: str = "") -> Task:
        label = f"env-{os.urandom(4).hex()}"
        assert self.by.tenant_id is not None
        made = await self.environments.create(
            self.by.tenant_id,
            EnvironmentDraft(label, test_command=test_command, setup_script=setup_script, limits=LIMITS),
        )
        blob = f"{self.by.tenant_id}/uploads/{label}"
        await self.results.put(blob, pieces(tree(README=b"hello\n")), 1 << 20)
        spec = TaskSpec(prompt, "gpt-5.5", made.spec.id, ArchiveSource(blob, "a.tar"), attempts)
        return await self.service.create(self.by, spec)

    async def until(self, task: Task, *states: TaskState) -> Task:
        async with asyncio.timeout(150):
            while (found := await self.service.get(self.by, task.record.id)).record.state not in states:
                await asyncio.sleep(0.05)
        return found

    async def events(self, task: Task) -> list[RunEvent]:
        lines = await self.service.log(self.by, task.record.id, 0, 10_000)
        return [msgspec.json.decode(one.body, type=RunEvent) for one in lines]

    async def told(self, task: Task) -> str:
        kinds = [(one.kind, one.data) for one in await self.events(task)]
        return f"{task.body.ended} {[one.body.result for one in task.attempts]} {kinds[-12:]}"

    async def first(self, task: Task, kind: str) -> RunEvent:
        async with asyncio.timeout(60):
            while True:
                for one in await self.events(task):
                    if one.kind == kind:
                        return one
                await asyncio.sleep(0.05)

    async def nothing_left(self) -> None:
        async with asyncio.timeout(30):
            while self.agent.docker.run("ps", "-aq", "--filter", f"label={LABEL_TASK}"):
                await asyncio.sleep(0.2)


def tree(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid, info.mode = len(data), 10001, 10001, 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


@pytest.fixture
async def house(
    tmp_path: Path, simulator: RunningSimulator, agent_image: AgentImage, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    before = left(agent_image.docker)
    monkeypatch.chdir(tmp_path)
    sandbox = {"enabled": True, "engine_url": agent_image.socket_url, "image": agent_image.tag, "lease_s": 6.0}
    short = tempfile.mkdtemp(prefix="relay-sb-", dir="/tmp")  # it holds a Unix socket, whose path may have 108 bytes
    async with serving(tmp_path, simulator, sandbox={**sandbox, "folder": short}) as gateway:
        settings = settings_of(tmp_path / "config.toml")
        clock = SystemClock()
        store = await open_store(settings.store.url, keys=keys_of(settings), busy_timeout_s=5.0, create=False)
        results = results_of(settings)
        (tenant,) = [one.id for one in await store.tenants() if one.name == "team"]
        service = task_service(settings, store, results, clock, None)
        one = House(gateway, service, Environments(store, clock), results, Actor("ann", tenant), agent_image)
        yield one
        await one.nothing_left()
        await store.close()
    assert left(agent_image.docker) == before
    shutil.rmtree(short)


async def test_a_whole_task_edits_a_file_and_leaves_a_diff(house: House) -> None:
    task = await house.until(await house.task(EDIT), TaskState.READY, TaskState.FAILED)
    assert task.record.state is TaskState.READY, await house.told(task)
    result = task.attempts[0].body.result
    assert result is not None
    assert result.thread_id is not None
    diff = await whole(house.results, dict(result.files)["diff.patch"], 1 << 20)
    assert diff is not None
    assert b"+++ b/notes.txt" in diff
    pid = house.gateway.process.pid
    opened = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "aiohttp" not in maps
    assert not [one for one in opened if "d.sock" in one or "docker.sock" in one]


async def test_a_cancelled_task_stops_and_says_so(house: House) -> None:
    task = await house.task("sim:hang")
    await house.first(task, "codex.turn.started")
    await house.service.cancel(house.by, task.record.id)
    task = await house.until(task, TaskState.CANCELLED, TaskState.FAILED)
    result = task.attempts[0].body.result
    assert result is not None
    assert result.ended is Ended.CANCELLED, await house.told(task)


async def test_three_attempts_are_judged_by_the_environments_own_tests(house: House) -> None:
    task = await house.task(EDIT, attempts=3, test_command="test -s notes.txt")
    task = await house.until(task, TaskState.READY, TaskState.FAILED)
    assert task.record.state is TaskState.READY, await house.told(task)
    passed = [one.body.result.tests_passed for one in task.attempts if one.body.result is not None]
    assert passed == [True, True, True], await house.told(task)
    assert sorted(one.verdict.rank for one in task.attempts if one.verdict is not None) == [1, 2, 3]


async def test_what_a_set_up_installs_is_there_and_kept(house: House) -> None:
    task = await house.task(
        EDIT,
        setup_script="echo made > /opt/tool; echo here > built.txt",
        test_command="test -s /opt/tool -a -s built.txt",
    )
    task = await house.until(task, TaskState.READY, TaskState.FAILED)
    try:
        assert task.record.state is TaskState.READY, await house.told(task)
        (attempt,) = task.attempts
        assert attempt.body.result is not None
        assert attempt.body.result.tests_passed, await house.told(task)
        assert attempt.body.base is not None
        assert attempt.body.base.startswith("codex-relay/env:")
    finally:
        for tag in house.agent.docker.run("images", "-q", "codex-relay/env").split():
            house.agent.docker.run("rmi", "-f", tag, check=False)
