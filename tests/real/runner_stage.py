"""The runner as the image has it (a copied folder ``runner``, its own process), between a gateway and temp folders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.codex import line_of, result_of
from sandbox.types import RunEvent, RunResult

ROOT = Path(__file__).resolve().parent.parent.parent


@contextlib.asynccontextmanager
async def bridge(socket: Path, port: int) -> AsyncIterator[None]:
    """A Unix socket that leads to a TCP port, as the worker's server does for everything that is no proxy request."""
    serving: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        out_reader, out_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, out_writer), copy(out_reader, writer))
        serving.discard(task)

    server = await asyncio.start_unix_server(serve, socket)
    try:
        yield
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Done:
    """What one run of the runner did."""

    code: int
    events: list[RunEvent]
    raw: bytes
    errors: str
    result: RunResult

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@dataclass(frozen=True, slots=True)
class RunnerStage:
    """The volumes of one container below ``folder``; ``home`` may outlive it, as the kept volume does."""

    folder: Path
    codex: str
    socket: Path

    @classmethod
    def made(cls, folder: Path, codex: str, socket: Path) -> RunnerStage:
        for name in ("workspace", "task", "out", "home"):
            (folder / name).mkdir(parents=True)
        shutil.copytree(ROOT / "sandbox" / "runner", folder / "agent" / "runner")
        return cls(folder, codex, socket)

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def git(self, *words: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *words], cwd=folder or self.workspace, capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def repository(self, files: Mapping[str, str]) -> str:
        """A repository with one commit in the workspace; the commit."""
        self.git("init", "-q", "-b", "main")
        for name, content in files.items():
            (self.workspace / name).parent.mkdir(parents=True, exist_ok=True)
            (self.workspace / name).write_text(content)
        self.git("add", "-A")
        self.git("-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-q", "-m", "first")
        return self.git("rev-parse", "HEAD")

    def orders(self, spec: bytes, secrets: bytes) -> None:
        for left in self.out.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        (self.folder / "task" / "spec.json").write_bytes(spec)
        (self.folder / "task" / "secrets.json").write_bytes(secrets)

    async def start(self, *more: str) -> asyncio.subprocess.Process:
        words = {name: self.folder / name for name in ("workspace", "task", "out", "home")}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(self.folder / "agent" / "runner")),
            *(word for name, path in words.items() for word in (f"--{name}", str(path))),
            *("--socket", str(self.socket), "--codex", self.codex),
            *("--model-port", "0", "--proxy-port", "0", "--agent-uid", "0"),
            *more,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=4 << 20,
        )

    async def ended(self, process: asyncio.subprocess.Process, before: bytes = b"", timeout_s: float = 60) -> Done:
        """Waits; every line must be one that sandbox.codex reads."""
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        raw = before + out
        events = [line_of(line) for line in raw.splitlines()]
        read = [event for event in events if event is not None]
        assert len(read) == len(events), raw[-3000:]
        assert read, err
        assert read[-1].kind == "runner.ended"
        assert (self.out / "events.jsonl").read_bytes() == raw
        assert json.loads((self.out / "result.json").read_text()) == read[-1].data
        return Done(process.returncode, read, raw, err.decode(), result_of(read[-1].data))

    async def run(self, spec: bytes, secrets: bytes = b"{}", *more: str) -> Done:
        self.orders(spec, secrets)
        done = await self.ended(await self.start(*more))
        assert not (self.folder / "task" / "secrets.json").exists()
        return done

    async def until(self, process: asyncio.subprocess.Process, kind: str, timeout_s: float = 30) -> bytes:
        """Reads to the first event of a kind; what was read."""
        assert process.stdout is not None
        read = b""
        async with asyncio.timeout(timeout_s):
            while line := await process.stdout.readline():
                read += line
                event: Any = line_of(line.rstrip(b"\n"))
                if event is not None and event.kind == kind:
                    return read
        raise AssertionError(read)
