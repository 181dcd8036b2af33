"""Places of a container below a temporary folder, and a repository there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.runner.order import Places, read_places
from sandbox.runner.runner import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The command line that puts every place below ``tmp_path``."""
    words = ["--socket", str(tmp_path / "gw.sock"), "--codex", "/bin/false"]
    for name in ("workspace", "task", "out", "home"):
        (tmp_path / name).mkdir()
        words += [f"--{name}", str(tmp_path / name)]
    return [*words, "--model-port", "0", "--proxy-port", "0", "--agent-uid", "0"]


@pytest.fixture
def places(arguments: list[str]) -> Places:
    return read_places(arguments)


@pytest.fixture
def run_git(places: Places) -> Callable[..., str]:
    def git(*words: str, folder: Path | None = None) -> str:
        named = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ["git", *named, *words], cwd=folder or places.workspace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return git


@pytest.fixture
def repository(places: Places, run_git: Callable[..., str]) -> str:
    """One commit with two files in the workspace; the commit."""
    (places.workspace / "a.txt").write_text("one\ntwo\n")
    (places.workspace / ".gitignore").write_text("*.o\n")
    run_git("init", "-q")
    run_git("add", "-A")
    run_git("commit", "-q", "-m", "first")
    return run_git("rev-parse", "HEAD")


@pytest.fixture
def perform(
    arguments: list[str], places: Places, capfdbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., tuple[int, list[dict[str, Any]], dict[str, Any]]]:
    """Runs the runner in this process; its code, its lines and its result."""

    def run(
        spec: Mapping[str, Any] | bytes, secrets: Mapping[str, Any] | bytes | None = None
    ) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
        for name, data in (("spec.json", spec), ("secrets.json", secrets)):
            if data is not None:
                (places.task / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        code = main(arguments)
        said = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
        return code, said, said[-1]["data"]

    return run
