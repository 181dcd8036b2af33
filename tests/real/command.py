"""``codex-relay`` as a user types it: a process of its own, in an environment of a user's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.conftest import CodexCli, CodexRun


@dataclass(slots=True)
class Command:
    """``codex-relay`` as a user types it, in an environment of a user's."""

    cli: CodexCli
    temp: Path

    async def run(self, *arguments: str, key: str, url: str, **environment: str) -> CodexRun:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops.cli"),
            *arguments,
            cwd=self.cli.workdir,
            env={
                "PATH": f"{self.cli.binary.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "HOME": str(self.cli.home.parent),
                "CODEX_HOME": str(self.cli.home),
                "TMPDIR": str(self.temp),
                "HTTP_PROXY": "http://127.0.0.1:9",
                "TERM": "dumb",
                "CODEX_RELAY_URL": url,
                "CODEX_RELAY_KEY": key,
                **environment,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(80):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        stdout = out.decode()
        events: list[dict[str, Any]] = [json.loads(line) for line in stdout.splitlines() if line.startswith('{"type"')]
        assert process.returncode is not None
        return CodexRun(process.returncode, stdout, err.decode(), events)


def command_of(cli: CodexCli, folder: Path) -> Command:
    """The command with an empty folder for temporary files."""
    temp = folder / "temp"
    temp.mkdir()
    return Command(cli, temp)
