"""The real ``codex cloud`` and ``codex apply`` against this gateway: list, exec, status, diff, apply, by their own
words and exit codes. The work itself is played: what containers do has tests of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.embedded import Embedded, embedded_gateway
from ops.house_tasks import results_of, task_service
from ops.simulator import running_simulator
from sandbox.types import Ended
from tests.flow.stage import settings_for
from tests.gateway.tasks.worker import DIFF, PlayedWorker
from tests.real.command import Command
from tests.real.conftest import CodexCli, CodexRun

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]

OTHER = DIFF.replace("+world", "+universe")


@dataclass
class Cloud:
    """A gateway with a sandbox, its key, one environment, and a worker that does what a test says."""

    gateway: Embedded
    key: str
    client: httpx.AsyncClient
    worker: PlayedWorker
    command: Command
    environment: str = ""

    async def codex(self, *arguments: str, **environment: str) -> CodexRun:
        return await self.command.run("codex", "--", *arguments, key=self.key, url=self.gateway.url, **environment)

    async def rest(self, method: str, path: str, body: Any = None) -> Any:
        answer = (
            await self.client.request(method, path, json=body)
            if body is not None
            else await self.client.request(method, path)
        )
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.fixture
async def cloud(codex_cli: CodexCli, tmp_path: Path) -> AsyncIterator[Cloud]:
    temp = tmp_path / "temp"
    temp.mkdir()
    async with running_simulator() as simulator:
        settings = settings_for(
            tmp_path, simulator.base_url, sandbox={"enabled": True, "folder": str(tmp_path / "sandbox")}
        )
        async with embedded_gateway(settings) as gateway:
            await gateway.import_accounts([simulator.state.new_account()])
            secret, _ = await gateway.make_key(scopes=frozenset({"tasks"}))
            store, results = gateway.gateway.store, results_of(settings)
            worker = PlayedWorker(
                store.task_store(), results, task_service(settings, store, results, gateway.clock, None)
            )
            headers = {"authorization": f"Bearer {secret.reveal()}"}
            async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as client:
                found = Cloud(gateway, secret.reveal(), client, worker, Command(codex_cli, temp))
                made = await found.rest("POST", "/v1/environments", {"label": "acme/widgets"})
                found.environment = made["id"]
                yield found


def repository(folder: Path) -> None:
    """What the diffs fit: a.txt with one line, under git."""
    (folder / "a.txt").write_text("hello\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for words in (("init", "-q", "-b", "main"), ("add", "a.txt"), (*who, "commit", "-qm", "begin")):
        subprocess.run(["git", *words], cwd=folder, check=True)


async def test_the_whole_family(cloud: Cloud) -> None:
    workdir = cloud.command.cli.workdir
    repository(workdir)

    started = await cloud.codex("cloud", "exec", "--env", cloud.environment, "--attempts", "2", "Add world")
    assert started.returncode == 0, started.stdout + started.stderr
    task = (await cloud.rest("GET", "/v1/tasks"))["items"][0]
    assert task["id"] in started.stdout
    assert (task["prompt"], len(task["attempts"])) == ("Add world", 2)

    waiting = await cloud.codex("cloud", "status", task["id"])
    assert waiting.returncode == 1
    assert "PENDING" in waiting.stdout, waiting.stdout + waiting.stderr

    await cloud.worker.lease()
    await cloud.worker.end(diff=DIFF)
    await cloud.worker.lease()
    await cloud.worker.end(diff=OTHER)

    status = await cloud.codex("cloud", "status", task["id"])
    assert status.returncode == 0, status.stdout + status.stderr
    assert "READY" in status.stdout
    assert "acme/widgets" in status.stdout

    listed = await cloud.codex("cloud", "list", "--json")
    assert listed.returncode == 0, listed.stderr
    item = json.loads(listed.stdout)["tasks"][0]
    assert (item["id"], item["status"], item["attempt_total"]) == (task["id"], "ready", 2)
    assert item["environment_label"] == "acme/widgets"
    assert item["summary"] == {"files_changed": 1, "lines_added": 1, "lines_removed": 0}

    diff = await cloud.codex("cloud", "diff", task["id"])
    assert "+world" in diff.stdout, diff.stdout + diff.stderr
    second = await cloud.codex("cloud", "diff", task["id"], "--attempt", "2")
    assert "+universe" in second.stdout, second.stdout + second.stderr

    applied = await cloud.codex("cloud", "apply", task["id"])
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert (workdir / "a.txt").read_text() == "hello\nworld\n"

    subprocess.run(["git", "reset", "-q", "--hard"], cwd=workdir, check=True)
    applied = await cloud.codex("apply", task["id"])
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert (workdir / "a.txt").read_text() == "hello\nworld\n"


async def test_an_environment_is_named_by_its_label_and_a_patch_comes_along(cloud: Cloud) -> None:
    repository(cloud.command.cli.workdir)
    started = await cloud.codex(
        *("cloud", "exec", "--env", "ACME/widgets", "--branch", "main", "go on"), CODEX_STARTING_DIFF=DIFF
    )
    assert started.returncode == 0, started.stdout + started.stderr
    store = cloud.gateway.gateway.store.task_store()
    (task,) = (await cloud.rest("GET", "/v1/tasks"))["items"]
    assert task["environment_id"] == cloud.environment
    record = await store.task(task["id"])
    assert record is not None
    assert json.dumps(DIFF)[1:-1].encode() in record.body


async def test_how_a_task_ends_is_what_the_cli_says(cloud: Cloud) -> None:
    ids = []
    for ended in (Ended.TIMED_OUT, Ended.CANCELLED):
        made = await cloud.rest("POST", "/v1/tasks", {"environment": cloud.environment, "prompt": "try"})
        ids.append(made["id"])
        await cloud.worker.lease()
        await cloud.worker.end(ended)
        status = await cloud.codex("cloud", "status", made["id"])
        assert (status.returncode, "ERROR" in status.stdout) == (1, True), status.stdout + status.stderr
    made = await cloud.rest("POST", "/v1/tasks", {"environment": cloud.environment, "prompt": "try"})
    await cloud.worker.lease()
    await cloud.worker.end()
    for act in ("approve", "applied"):
        await cloud.rest("POST", f"/v1/tasks/{made['id']}/{act}", {} if act == "approve" else None)
    status = await cloud.codex("cloud", "status", made["id"])
    assert "APPLIED" in status.stdout, status.stdout + status.stderr
    page = json.loads((await cloud.codex("cloud", "list", "--json", "--limit", "2")).stdout)
    assert [one["id"] for one in page["tasks"]] == [made["id"], ids[1]]
    rest = json.loads((await cloud.codex("cloud", "list", "--json", "--cursor", page["cursor"])).stdout)
    assert [one["id"] for one in rest["tasks"]] == [ids[0]]


async def test_a_task_of_another_tenant_is_not_found(cloud: Cloud) -> None:
    made = await cloud.rest("POST", "/v1/tasks", {"environment": cloud.environment, "prompt": "try"})
    secret, _ = await cloud.gateway.make_key("other", scopes=frozenset({"tasks"}))
    cloud.key = secret.reveal()
    status = await cloud.codex("cloud", "status", made["id"])
    assert status.returncode != 0
    assert "404" in status.stdout + status.stderr
    listed = await cloud.codex("cloud", "list", "--json")
    assert json.loads(listed.stdout)["tasks"] == []
