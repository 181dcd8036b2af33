"""Fixtures that find real clients, install them when they are missing, and run them away from the world.

A client that cannot be had skips its tests with the line that installs it; under ``CI`` it fails them instead, so a
green run there has really run. Child processes get a small environment of their own, a home of their own, and a
proxy that refuses, so that nothing but loopback is ever reached.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.agent_image import agent_engine, agent_image

__all__ = ["agent_engine", "agent_image"]

FOLDER = Path(__file__).parent
INSTALL = f"npm ci --prefix {FOLDER.relative_to(FOLDER.parent.parent)}"
QUIET = (
    *("-c", "analytics.enabled=false"),
    *("-c", "check_for_update_on_startup=false"),
    *("--disable", "plugins"),
    *("--disable", "apps"),
)


def missing(reason: str) -> None:
    """Skip, or under CI fail, for something real that is not there."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True, slots=True)
class CodexRun:
    """What one ``codex`` process did; ``events`` are the JSON lines of its stdout."""

    returncode: int
    stdout: str
    stderr: str
    events: list[dict[str, Any]]

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("type") == kind]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Completed items of a kind, in order."""
        return [e["item"] for e in self.of_type("item.completed") if e["item"]["type"] == kind]

    def last_message(self) -> str:
        messages = self.items("agent_message")
        return str(messages[-1]["text"]) if messages else ""


@dataclass(frozen=True, slots=True)
class CodexCli:
    """The real Codex CLI with a home of its own; ``home`` is its CODEX_HOME, ``workdir`` where it works."""

    binary: Path
    home: Path
    workdir: Path

    def sign_in(self, auth: dict[str, Any]) -> None:
        path = self.home / "auth.json"
        path.write_text(json.dumps(auth))
        path.chmod(0o600)

    def auth(self) -> dict[str, Any]:
        """auth.json as the CLI left it."""
        content: dict[str, Any] = json.loads((self.home / "auth.json").read_text())
        return content

    def configure(self, toml: str) -> None:
        (self.home / "config.toml").write_text(toml)

    async def run(self, *args: str, env: dict[str, str] | None = None, timeout_s: float = 45.0) -> CodexRun:
        """Run to the end. Raises TimeoutError after ``timeout_s``; the process is killed then."""
        process = await asyncio.create_subprocess_exec(
            str(self.binary),
            *args,
            cwd=self.workdir,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home.parent),
                "CODEX_HOME": str(self.home),
                "HTTPS_PROXY": "http://127.0.0.1:9",
                "HTTP_PROXY": "http://127.0.0.1:9",
                "NO_PROXY": "127.0.0.1,localhost",
                "TERM": "dumb",
                **(env or {}),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        stdout = out.decode("utf-8", "replace")
        events = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
        assert process.returncode is not None
        return CodexRun(process.returncode, stdout, err.decode("utf-8", "replace"), events)

    async def exec(
        self, prompt: str, *args: str, env: dict[str, str] | None = None, timeout_s: float = 45.0
    ) -> CodexRun:
        """``codex exec --json`` without approvals or sandbox, quiet towards everything but the model."""
        return await self.run(
            *("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *QUIET,
            *args,
            prompt,
            env=env,
            timeout_s=timeout_s,
        )


def _install() -> Path:
    """The codex binary, installed from the lock file when it is not there; one process at a time."""
    binary = FOLDER / "node_modules" / ".bin" / "codex"
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing(f"Node.js and npm are not installed; with them: {INSTALL}")
    with (FOLDER / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            done = subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                missing(f"{INSTALL} failed: {done.stderr.strip()[-500:]}")
    return binary


@pytest.fixture(scope="session")
def codex_binary() -> Path:
    """The real Codex CLI of package-lock.json."""
    return _install()


@pytest.fixture
def codex_cli(codex_binary: Path, tmp_path: Path) -> CodexCli:
    """The CLI with an empty CODEX_HOME and an empty working folder."""
    home, workdir = tmp_path / "codex-home", tmp_path / "work"
    home.mkdir(mode=0o700)
    workdir.mkdir()
    return CodexCli(codex_binary, home, workdir)
