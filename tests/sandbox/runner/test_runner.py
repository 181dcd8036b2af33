"""Whole phases without the CLI: set-up, judge, what is refused, and what is written whatever happens."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.runner import runner
from sandbox.runner.order import Places

Perform = Callable[..., tuple[int, list[dict[str, Any]], dict[str, Any]]]
SECRET = "s3cret-value-of-the-registry"


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The runner listens for TERM and INT; tests give them back."""
    kept = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    yield
    for one, handler in kept.items():
        signal.signal(one, handler)


def test_it_imports_the_standard_library_and_itself_alone() -> None:
    folder = Path(runner.__file__).parent
    foreign = []
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            foreign += [(path.name, name) for name in names if name.split(".")[0] not in sys.stdlib_module_names]
    assert foreign == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["-m", "runner"], ["-I", "runner"], ["-I", "{agent}/runner"]])
def test_a_copy_of_the_folder_is_started_as_a_module_or_by_its_path(
    arguments: list[str], places: Places, tmp_path: Path, words: list[str]
) -> None:
    shutil.copytree(Path(runner.__file__).parent, tmp_path / "agent" / "runner")
    (places.task / "spec.json").write_text('{"phase": "setup", "commands": [["setup", "echo hello"]]}')
    command = [sys.executable, *(word.replace("{agent}", str(tmp_path / "agent")) for word in words), *arguments]
    done = subprocess.run(command, cwd=tmp_path / "agent", capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (places.out / "setup.log").read_text() == "hello\n"


def test_setup_wraps_an_upload_runs_scripts_in_order_and_keeps_secrets_out_of_its_files(
    perform: Perform, places: Places, run_git: Callable[..., str]
) -> None:
    (places.workspace / "given.txt").write_text("given")
    spec = {
        "phase": "setup",
        "commands": [["setup", "echo first $PLAIN; echo $TOKEN; echo $TOKEN > used"], ["maintenance", "echo second"]],
        "environment": {"PLAIN": "plain"},
    }
    code, said, result = perform(spec, {"environment": {"TOKEN": SECRET}})
    assert (code, result["ended"]) == (0, "done")
    assert result["base"] == run_git("rev-parse", "HEAD")
    assert run_git("ls-files") == "given.txt"
    assert (places.workspace / "used").read_text() == SECRET + "\n", "the script had the secret"
    assert (places.out / "setup.log").read_text() == "first plain\n***\nsecond\n"
    assert [one["kind"] for one in said][:4] == ["runner.started", "runner.source", "setup.started", "setup.output"]
    for path in [*places.out.rglob("*"), *places.task.rglob("*")]:
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert not (places.task / "secrets.json").exists()
    assert [one["seq"] for one in said] == list(range(1, len(said) + 1))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_as_root_the_source_and_what_scripts_made_become_the_agents(
    perform: Perform, places: Places, arguments: list[str], tmp_path: Path
) -> None:
    uid = 54321
    arguments[arguments.index("--agent-uid") + 1] = str(uid)
    top = Path(tempfile.gettempdir())
    for folder in (tmp_path, *tmp_path.parents):  # git runs as the agent and has to get there
        if folder != top and folder.is_relative_to(top):
            folder.chmod(0o755)
    os.chown(places.workspace, uid, uid)
    (tmp_path / "outside").write_text("x")
    script = f"id -u; git status --short; mkdir sub; echo y > sub/made; ln -s {tmp_path}/outside link; echo z > ~/tool"
    _, _, result = perform({"phase": "setup", "commands": [["setup", script]]})
    assert result["ended"] == "done", result
    assert (places.out / "setup.log").read_text() == "0\n"
    made = [places.home / "tool", places.workspace / ".git" / "HEAD", places.workspace / "sub" / "made"]
    assert {path.lstat().st_uid for path in (*made, places.workspace / "link")} == {uid}
    assert (tmp_path / "outside").stat().st_uid == 0


def test_a_script_that_fails_ends_the_set_up_with_its_last_words(perform: Perform) -> None:
    spec = {"phase": "setup", "commands": [["setup", "echo before; false; echo after"], ["next", "echo never"]]}
    code, said, result = perform(spec, {"environment": {}})
    assert (code, result["ended"], result["exit_code"]) == (1, "failed", 1)
    assert result["message"] == "setup ended with 1\nbefore\n"
    assert "never" not in json.dumps(said)


@pytest.mark.parametrize(("test", "passed"), [("grep -q ONE a.txt", True), ("grep -q NEVER a.txt", False)])
def test_the_judge_applies_an_attempt_and_runs_its_tests(
    perform: Perform, repository: str, test: str, passed: bool
) -> None:
    patch = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n"
    code, said, result = perform({"phase": "judge", "commands": [["test", test]], "starting_diff": patch})
    assert (code, result["ended"], result["tests_passed"]) == (0, "done", passed)
    assert [one["kind"] for one in said if one["src"] == "judge"] == ["judge.started", "judge.ended"]


def test_a_judge_that_is_late_says_nothing_about_the_tests(perform: Perform, repository: str) -> None:
    spec = {"phase": "judge", "commands": [["test", "trap '' TERM; sleep 60 & sleep 60"]], "deadline_s": 0.3}
    code, _, result = perform(spec)
    assert (code, result["ended"], result["tests_passed"]) == (124, "timed_out", None)


@pytest.mark.parametrize(
    ("spec", "secrets"),
    [
        (b"", None),
        (b"[]", None),
        (b"\xff", None),
        ({"phase": "root"}, None),
        ({"phase": "setup", "commands": ["x"]}, None),
        ({"phase": "setup", "environment": {"A=B": "c"}}, None),
        ({"phase": "setup", "environment": {"A": "\0"}}, None),
        ({"phase": "setup"}, b"{"),
        ({"phase": "setup"}, {"git_token": 7}),
        ({"phase": "agent"}, None),
        ({"phase": "agent", "model": "m", "thread_id": "--last"}, None),
        ({"phase": "agent", "model": "m; rm"}, None),
        ({"phase": "agent", "model": "m", "effort": "-x"}, None),
        ({"phase": "judge"}, None),
    ],
)
def test_orders_that_are_none_are_refused_and_said(perform: Perform, places: Places, spec: Any, secrets: Any) -> None:
    code, said, result = perform(spec, secrets)
    assert (code, result["ended"]) == (2, "input_refused")
    assert result["message"]
    assert json.loads((places.out / "result.json").read_text()) == result
    assert not (places.task / "secrets.json").exists()
    assert said[-1]["kind"] == "runner.ended"


def test_a_cli_that_fails_without_a_word_still_leaves_diff_and_result(
    perform: Perform, places: Places, repository: str
) -> None:
    (places.workspace / "new").write_text("x")
    (places.out / "diff.patch").symlink_to(places.home / "elsewhere")
    (places.out / "artifacts").mkdir()
    (places.out / "artifacts" / "planted").write_text("x")
    (places.out / "result.json").mkdir()
    code, _, result = perform({"phase": "agent", "model": "m", "artifacts": ["new"]}, {"task_key": "k"})
    assert (code, result["ended"], result["message"]) == (1, "failed", "the CLI ended with 1")
    assert result["artifacts"] == ["new"]
    assert not (places.home / "elsewhere").exists()
    assert not (places.out / "artifacts" / "planted").exists()
    assert "+x" in (places.out / "diff.patch").read_text()


def test_a_workspace_whose_history_was_destroyed_says_so(
    perform: Perform, places: Places, repository: str, tmp_path: Path, arguments: list[str]
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\nrm -rf {places.workspace}/.git\n")
    tool.chmod(0o755)
    arguments[arguments.index("--codex") + 1] = str(tool)
    code, _, result = perform({"phase": "agent", "model": "m"})
    assert (code, result["ended"]) == (1, "failed")
    assert "The diff could not be made" in result["message"]
