"""``codex-relay codex`` in a terminal: the real interface comes up signed in, answers, and gives the terminal back."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import CodexCli
from tests.real.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(120)]

ASKED = {
    b"\x1b[6n": b"\x1b[1;1R",
    b"\x1b[c": b"\x1b[?62;c",
    b"\x1b]10;?": b"\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
    b"\x1b]11;?": b"\x1b]11;rgb:0000/0000/0000\x1b\\",
}
"""What a terminal is asked when a program starts, and what it says."""
CONTROL = re.compile(rb"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?>=<]*[a-zA-Z]|\x1b.")


@dataclass(slots=True)
class Terminal:
    """A pseudo terminal with one program in it. ``seen`` is all that it wrote, without control sequences."""

    fd: int
    process: asyncio.subprocess.Process
    seen: str = ""

    def read(self) -> None:
        try:
            chunk = os.read(self.fd, 65_536)
        except OSError:  # nothing there, or the other end is closed
            return
        for question, answer in ASKED.items():
            if question in chunk:
                os.write(self.fd, answer)
        self.seen += CONTROL.sub(b" ", chunk).decode("utf-8", "replace")

    async def until(self, text: str, timeout_s: float = 40.0) -> None:
        """Waits until ``text`` was written; then forgets what there was."""
        async with asyncio.timeout(timeout_s):
            while text not in self.seen:
                assert self.process.returncode is None, self.seen[-2000:]
                await asyncio.sleep(0.02)
                self.read()
        self.seen = ""

    async def ended(self, timeout_s: float = 20.0) -> int:
        """Presses ctrl-C until the program is gone; its exit code."""
        async with asyncio.timeout(timeout_s):
            while self.process.returncode is None:
                os.write(self.fd, b"\x03")
                for _ in range(25):
                    await asyncio.sleep(0.02)
                    self.read()
        return self.process.returncode


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, accounts=1) as running:
        yield running


@pytest.fixture
async def terminal(home: House, codex_cli: CodexCli) -> AsyncIterator[Terminal]:
    codex_cli.configure(f'[projects."{codex_cli.workdir}"]\ntrust_level = "trusted"\n')
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.set_blocking(ours, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli", "codex", "--url", home.gateway.url),
        cwd=codex_cli.workdir,
        env={
            "PATH": f"{codex_cli.binary.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "HOME": str(codex_cli.home.parent),
            "CODEX_HOME": str(codex_cli.home),
            "TERM": "xterm-256color",
            "CODEX_RELAY_KEY": home.key,
        },
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        os.close(ours)


async def test_the_interface_comes_up_signed_in_and_answers(home: House, terminal: Terminal) -> None:
    await terminal.until("Ask Codex to do anything")
    os.write(terminal.fd, b"say it sim:text=pineapple")
    await terminal.until("pineapple")
    os.write(terminal.fd, b"\r")
    await terminal.until("pineapple")  # what was typed, moved up
    async with asyncio.timeout(30):
        while not home.posts():
            await asyncio.sleep(0.02)
            terminal.read()
    await terminal.until("Worked for")
    assert await terminal.ended() == 0
    assert home.answered("responses", 426) >= 1
