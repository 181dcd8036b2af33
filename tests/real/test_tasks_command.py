"""The commands of tasks, and the real ``codex cloud``, against a gateway that takes tasks; no worker runs here."""

from __future__ import annotations

import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.command import Command, command_of
from tests.real.conftest import CodexCli
from tests.real.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(120)]

SCOPES = {"scopes": frozenset({"relay", "tasks"})}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    sandbox = {"enabled": True, "folder": tmp_path / "sandbox"}
    async with house(tmp_path, accounts=1, key=SCOPES, sandbox=sandbox) as running:
        yield running


class Desk:
    """Both doors to the tasks of one gateway."""

    def __init__(self, home: House, command: Command) -> None:
        self._home = home
        self._command = command

    async def say(self, *arguments: str, code: int = 0) -> str:
        done = await self._command.run(*arguments, key=self._home.key, url=self._home.gateway.url)
        assert done.returncode == code, (done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    async def ask(self, *arguments: str) -> Any:
        return json.loads(await self.say(*arguments, "--json"))

    async def environment(self) -> str:
        made = await self.ask("envs", "create", "widgets", "--var", "A=1", "--setup-domain", "pypi.org")
        return str(made["id"])


@pytest.fixture
def desk(home: House, codex_cli: CodexCli, tmp_path: Path) -> Desk:
    return Desk(home, command_of(codex_cli, tmp_path))


async def test_an_environment_is_made_changed_and_removed(desk: Desk) -> None:
    made = await desk.environment()
    changed = await desk.ask("envs", "set", "widgets", "--var", "B=2", "--pids", "64", "--agent-domain", "example.com")
    assert changed["id"] == made
    assert changed["variables"] == {"A": "1", "B": "2"}
    assert changed["network"]["setup"]["domains"] == ["pypi.org"]
    assert changed["limits"]["pids"] == 64
    assert [one["label"] for one in (await desk.ask("envs", "list"))["items"]] == ["widgets"]
    await desk.say("envs", "remove", "widgets", "--yes")
    assert (await desk.ask("envs", "list"))["items"] == []


async def test_a_task_is_made_listed_followed_and_cancelled(desk: Desk, tmp_path: Path) -> None:
    await desk.environment()
    archive = tmp_path / "work.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "old\n")
    source = ("--zip", str(archive), "--attempts", "2")
    task = await desk.ask("tasks", "create", "fix it", "--env", "widgets", *source)
    assert task["prompt"] == "fix it"
    assert len(task["attempts"]) == 2
    assert [one["id"] for one in (await desk.ask("tasks", "list"))["items"]] == [task["id"]]
    assert task["id"] in await desk.say("tasks", "show", task["id"])
    link = await desk.ask("tasks", "share", task["id"], "--expires", "1h")
    assert "/share/" in link["url"]
    await desk.say("tasks", "share", task["id"], "--revoke", link["id"])
    cancelled = await desk.ask("tasks", "cancel", task["id"])
    assert cancelled["state"] == "cancelled"
    assert "cancelled" in await desk.say("tasks", "logs", "-f", task["id"], code=1)
    assert "conflict" in await desk.say("tasks", "approve", task["id"], code=1)


async def test_what_is_not_there_is_said(desk: Desk) -> None:
    assert "404" in await desk.say("tasks", "show", "task_e_nope", code=1)
    assert "no environment" in await desk.say("envs", "show", "nope", code=1)


async def test_the_real_codex_cloud_sees_the_same_tasks(desk: Desk, home: House) -> None:
    await desk.environment()
    printed = (await desk.say("cloud", "--", "exec", "--env", "widgets", "do it")).strip()
    link, _, task_id = printed.rpartition("/")
    assert link == f"{home.gateway.url}/console/tasks"
    listed = await desk.ask("cloud", "--", "list")
    assert [(one["id"], one["url"], one["environment_label"]) for one in listed["tasks"]] == [
        (task_id, printed, "widgets")
    ]
    found = await desk.ask("tasks", "show", task_id)
    assert found["prompt"] == "do it"
