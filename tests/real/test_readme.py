"""What the README tells people to type is typed here, against a running ``codex-relay demo``.

Every fenced block between ``<!-- tested -->`` and ``<!-- /tested -->`` counts: shell and Python are run, TOML is the
Codex CLI's configuration. The only liberties: the demo's address stands in for port 8080, and its key for the reader's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import CodexCli, missing

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(90)]

ROOT = Path(__file__).parent.parent.parent
MARKED = re.compile(r"<!-- tested -->\n(.*?)<!-- /tested -->", re.DOTALL)
FENCED = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
ADDRESS = "127.0.0.1:8080"


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every marked block, in order."""
    text = (ROOT / "README.md").read_text()
    return [block for marked in MARKED.findall(text) for block in FENCED.findall(marked)]


@dataclass(frozen=True, slots=True)
class Demo:
    address: str
    key: str

    async def run(self, *command: str) -> str:
        """Standard output of a command that must succeed."""
        process = await asyncio.create_subprocess_exec(
            *command,
            env={"PATH": os.environ["PATH"], "RELAY_KEY": self.key, "NO_PROXY": "*"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(40):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    """``codex-relay demo``, until the test is over; what it prints is what a reader would copy."""
    command = Path(sys.executable).with_name("codex-relay")
    process = await asyncio.create_subprocess_exec(
        str(command),
        *("demo", "--port", "0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(30):
            while "key" not in said:
                line = (await process.stdout.readline()).decode()
                assert line, "the demo ended before it printed a key"
                name, _, value = line.strip().partition(" ")
                said[name] = value.strip()
        yield Demo(said["base_url"].removeprefix("http://").removesuffix("/v1"), said["key"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.wait()
    assert process.returncode == 0


def test_the_readme_shows_a_shell_a_program_and_the_codex_cli() -> None:
    """Without marked blocks the tests below would prove nothing."""
    assert {"sh", "python", "toml"} <= {language for language, _ in blocks()}


async def test_the_shell_lines_stream_an_answer(demo: Demo) -> None:
    for language, text in blocks():
        if language in ("sh", "bash"):
            if shutil.which("curl") is None:
                missing("curl is not installed; with it: apt-get install curl")
            out = await demo.run("bash", "-euo", "pipefail", "-c", text.replace(ADDRESS, demo.address))
            assert "response.completed" in out, out


async def test_the_python_lines_print_an_answer(demo: Demo) -> None:
    for language, text in blocks():
        if language == "python":
            program = "import os\nRELAY_KEY = os.environ['RELAY_KEY']\n" + text.replace(ADDRESS, demo.address)
            assert (await demo.run(sys.executable, "-c", program)).strip()


async def test_the_codex_configuration_serves_a_turn(demo: Demo, codex_cli: CodexCli) -> None:
    for language, text in blocks():
        if language == "toml":
            codex_cli.configure('model = "gpt-5.5"\n' + text.replace(ADDRESS, demo.address))
            done = await codex_cli.exec("Say hello.", env={"RELAY_KEY": demo.key})
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.last_message()
