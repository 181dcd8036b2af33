"""``codex-relay`` as processes on loopback, in front of a simulator that the test holds in its hand.

``serving(...)`` makes a folder with a configuration, imports accounts and makes a key by the command line, and starts
``codex-relay serve``. Whatever happens, nothing of it runs when the block ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ops.simulator import RunningSimulator
from tests.flow.stage import TEXT, Answer, parse_events

T = TypeVar("T")
COMMAND = (sys.executable, "-m", "ops.cli")
STREAM = {**TEXT, "stream": True}


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Signals every process that is still there: one that was just killed needs no stopping."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What was said on standard error, log lines left out."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


async def command(folder: Path, *words: str, env: Mapping[str, str] | None = None, timeout_s: float = 30.0) -> Ran:
    """Runs ``codex-relay`` with ``words`` in ``folder`` to its end."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *words,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def write_config(folder: Path, base_url: str, **sections: Mapping[str, Any]) -> None:
    """``config.toml`` with short times, in front of ``base_url``; ``sections`` add to it or change it."""
    origin = base_url.partition("/backend-api")[0]
    values: dict[str, dict[str, Any]] = {
        "server": {"port": 0, "drain_delay_s": 0},
        "upstream": {"base_url": base_url, "chatgpt_base_url": f"{origin}/backend-api", "connect_timeout_s": 1.0},
        "oauth": {"issuer": origin, "refresh_spacing_s": 0.0, "refresh_timeout_s": 5.0, "refresh_wait_s": 3.0},
        "store": {"busy_timeout_s": 0.5},
        "router": {"wait_max_s": 0.0},
    }
    for name, changes in sections.items():
        values.setdefault(name, {}).update(changes)
    lines = []
    for name, section in values.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    (folder / "config.toml").write_text("\n".join(lines) + "\n")


@dataclass(slots=True)
class Serving:
    """A running ``codex-relay serve``."""

    folder: Path
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    key: str = ""
    accounts: list[str] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was logged so far; a line that does not parse fails the test."""
        try:
            return [json.loads(line) for line in self.lines]
        except ValueError:
            raise AssertionError("not a log line:\n" + "\n".join(self.lines)) from None

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["event"] == event]

    @property
    def url(self) -> str:
        return str(self.logged("listening")[-1]["url"])

    @property
    def worker_pids(self) -> dict[int, int]:
        """Worker -> process id of its newest incarnation."""
        prefix = "Started server process ["
        return {
            record["worker"]: int(record["event"].removeprefix(prefix).rstrip("]"))
            for record in self.records
            if record["event"].startswith(prefix) and "worker" in record
        }

    @contextlib.asynccontextmanager
    async def client(self, key: str | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        """A client with one connection to the gateway."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=20, trust_env=False, limits=limits, **options
        ) as client:
            yield client

    @contextlib.asynccontextmanager
    async def client_of(self, worker: int, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client whose one connection is served by ``worker``: nobody else can accept it."""
        others = [pid for index, pid in self.worker_pids.items() if index != worker]
        async with self.client(key) as client:
            signal_all(others, signal.SIGSTOP)
            try:
                assert (await client.get("/healthz")).status_code == 200
            finally:
                signal_all(others, signal.SIGCONT)
            yield client

    async def cli(self, *words: str) -> Ran:
        return await command(self.folder, *words)

    async def ended(self, timeout_s: float = 15.0) -> int:
        """Waits for the end of the process; its exit code."""
        code = await asyncio.wait_for(self.process.wait(), timeout_s)
        if self._reading is not None:
            await self._reading
        return code

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the series of ``name`` with these labels, as /metrics says now."""
        async with self.client() as client:
            text = (await client.get("/metrics")).text
        return metric(text, name, **labels)

    async def read_log(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self.lines.append(line.decode().rstrip("\n"))


def metric(text: str, name: str, **labels: str) -> float:
    wanted = {f'{key}="{value}"' for key, value in labels.items()}
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        found, _, inside = series.partition("{")
        if found == name and wanted <= set(inside.rstrip("}").split(",")):
            total += float(value)
    return total


async def relay(client: httpx.AsyncClient, text: str = "hello", **more: Any) -> Answer:
    """One streamed model call, read to its end."""
    response = await client.post("/v1/responses", json={**STREAM, "input": text, **more})
    answer = Answer(response.status_code, response.headers, response.content)
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        answer.events, answer.rest = parse_events(response.content)
    return answer


async def until(holds: Callable[[], T], within_s: float = 5.0) -> T:
    """Waits until ``holds`` is true of processes that tell nobody when they are ready; what it was."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + within_s
    while not (found := holds()):
        assert loop.time() < end_s, "it did not come about in time"
        await asyncio.sleep(0.02)
    return found


async def start(folder: Path, *words: str, wait: bool = True, **options: Any) -> Serving:
    """``codex-relay serve`` in ``folder``, in a session of its own; returns when it listens."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "serve",
        *words,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(folder)},
        **options,
    )
    one = Serving(folder, process)
    assert process.stderr is not None
    one._reading = asyncio.create_task(one.read_log(process.stderr))
    if wait:
        try:
            await until(lambda: one.logged("listening") or process.returncode is not None, 20)
            assert process.returncode is None, one.lines
        except BaseException:
            await kill(one)
            raise
    return one


async def kill(one: Serving) -> None:
    """Ends the process and its workers at once."""
    pids: list[int] = []
    with contextlib.suppress(AssertionError):
        pids += one.worker_pids.values()
    if one.process.returncode is None:
        one.process.kill()
        await one.process.wait()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGKILL)
    if one._reading is not None:
        await one._reading


async def furnish(folder: Path, simulator: RunningSimulator, accounts: int, *key_words: str) -> tuple[str, list[str]]:
    """Imports made-up accounts and makes a key, both by the command line; the key and the accounts' ids."""
    documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(accounts)]
    for number, document in enumerate(documents):
        (folder / f"auth-{number}.json").write_text(json.dumps(document))
        (folder / f"auth-{number}.json").chmod(0o600)
    files = [f"auth-{number}.json" for number in range(accounts)]
    imported = await command(folder, "accounts", "import", *files, "--no-check", "--json")
    assert imported.code == 0, imported.err
    made = await command(folder, "keys", "create", "--tenant", "team", "--json", *key_words)
    assert made.code == 0, made.err
    return json.loads(made.out)["key"], [one["account_id"] for one in json.loads(imported.out)]


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    simulator: RunningSimulator,
    *words: str,
    accounts: int = 2,
    key_words: tuple[str, ...] = (),
    **sections: Mapping[str, Any],
) -> AsyncIterator[Serving]:
    """A gateway with accounts and a key, serving."""
    write_config(folder, simulator.base_url, **sections)
    key, ids = await furnish(folder, simulator, accounts, *key_words)
    one = await start(folder, *words)
    one.key, one.accounts = key, ids
    try:
        yield one
    finally:
        await kill(one)
