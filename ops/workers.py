"""Several workers on one listening socket, and the one process that minds them.

The supervisor binds the socket, lets the key and the schema be made before anything is spawned, starts the workers
in sessions of their own and is the only one who listens to signals: it tells the workers through a pipe. When the
supervisor dies, the pipe ends and the workers stop too. Rules that hold:

* a worker gets the settings as they were at the start, through its standard input: what the command line changed
  reaches it, an edited file does not, and no secret stands in its arguments or its environment;
* one that dies is replaced at once; one that dies young again and again waits longer each time, up to
  ``RESTART_DELAY_MAX_S``, and holds up nobody else;
* what workers count together lies in a folder of this run alone, which goes at the end: metrics, limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.clock import Clock
from ops.log import get_logger
from ops.metrics import MULTIPROC_ENV, mark_dead
from ops.settings import ENV_PREFIX, Settings
from ops.stop import DRAIN, QUICK, Stop
from store.counters import fresh_counters

RESTART_DELAY_S: Final = 0.5
RESTART_DELAY_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 10.0
LOOK_EVERY_S: Final = 0.05
_ROOT: Final = Path(__file__).resolve().parents[1]


def counter_file(run_folder: Path) -> Path:
    """What the workers of one run count requests and streams in."""
    return run_folder / "counters.db"


def replica_of(run_folder: Path) -> str:
    """A name for this run and no other, the same in all its workers: two containers may well have equal folders."""
    seen = run_folder.stat()
    told = f"{socket.gethostname()}\0{run_folder}\0{seen.st_ino}\0{seen.st_ctime_ns}"
    return hashlib.blake2b(told.encode(), digest_size=4).hexdigest()


def metric_folder(run_folder: Path) -> Path:
    return run_folder / "metrics"


@dataclass(slots=True)
class Worker:
    """One child: its process, the write end of its control pipe, the read end of its report pipe."""

    index: int
    process: subprocess.Popen[bytes]
    control_fd: int
    report_fd: int
    started_s: float
    listening: bool = False

    def tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.control_fd, word)

    def look(self) -> None:
        """Notes whether the worker has said that it listens."""
        with contextlib.suppress(BlockingIOError):
            self.listening = self.listening or bool(os.read(self.report_fd, 1))

    def forget(self) -> None:
        os.close(self.control_fd)
        os.close(self.report_fd)


@dataclass(slots=True)
class Supervisor:
    """Runs ``settings.server.workers`` workers on ``sock`` until told to stop."""

    settings: Settings
    sock: socket.socket
    clock: Clock
    workers: dict[int, Worker] = field(default_factory=dict)
    _due_s: dict[int, float] = field(default_factory=dict)  # index -> when to start it again
    _deaths: dict[int, int] = field(default_factory=dict)  # index -> deaths in a row, young ones
    _folder: Path = Path()

    async def run(self, stop: Stop, on_listening: Callable[[], None]) -> int:
        """0 after an orderly end; 1 when the workers could not start, or had to be killed."""
        with tempfile.TemporaryDirectory(prefix="codex-relay-run-") as folder:
            self._folder = Path(folder)
            metric_folder(self._folder).mkdir(mode=0o700)
            fresh_counters(counter_file(self._folder))
            try:
                for index in range(self.settings.server.workers):
                    self._spawn(index)
                if not await self._all_listen(stop):
                    return 1
                if not stop.drain.is_set():
                    on_listening()
                while not stop.drain.is_set():
                    self._mind()
                    await self._pause(stop)
            finally:
                ended = await self._stop(stop)
            return 0 if ended else 1

    def _spawn(self, index: int) -> None:
        control_read, control_write = os.pipe()
        report_read, report_write = os.pipe()
        count = self.settings.server.workers
        numbers = (self.sock.fileno(), control_read, report_write, index, count)
        command = [sys.executable, "-P", "-m", "ops.worker", *map(str, numbers), str(self._folder)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            pass_fds=numbers[:3],
            start_new_session=True,
            stdin=subprocess.PIPE,
            env=_environment(os.environ, metric_folder(self._folder)),
        )
        os.close(control_read)
        os.close(report_write)
        os.set_blocking(report_read, False)
        self.workers[index] = Worker(index, process, control_write, report_read, self.clock.monotonic_s())
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:  # it died already: _mind will see
            stdin.write(self.settings.whole_json())

    async def _all_listen(self, stop: Stop) -> bool:
        """False when one of the first workers ended instead; it has said why."""
        while not stop.drain.is_set():
            for worker in self.workers.values():
                worker.look()
                if worker.process.poll() is not None:
                    return False
            if all(worker.listening for worker in self.workers.values()):
                return True
            await self._pause(stop)
        return True

    def _mind(self) -> None:
        """Buries the dead, and starts again whose time has come."""
        now_s = self.clock.monotonic_s()
        for worker in list(self.workers.values()):
            code = worker.process.poll()
            if code is not None:
                self._bury(worker)
                delay_s = self._delay_s(worker.index, now_s - worker.started_s)
                self._due_s[worker.index] = now_s + delay_s
                get_logger().error("worker_died", worker=worker.index, exit_code=code, restart_in_s=delay_s)
        for index, due_s in list(self._due_s.items()):
            if now_s >= due_s:
                del self._due_s[index]
                self._spawn(index)

    def _delay_s(self, index: int, lived_s: float) -> float:
        if lived_s >= HEALTHY_AFTER_S:
            self._deaths[index] = 0
            return 0.0
        deaths = self._deaths[index] = self._deaths.get(index, 0) + 1
        return min(RESTART_DELAY_S * 2.0 ** (deaths - 1), RESTART_DELAY_MAX_S)

    def _bury(self, worker: Worker) -> None:
        del self.workers[worker.index]
        worker.forget()
        mark_dead(worker.process.pid, metric_folder(self._folder))

    async def _pause(self, stop: Stop) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.drain.wait(), LOOK_EVERY_S)

    async def _stop(self, stop: Stop) -> bool:
        """Drains, then hurries, then kills. True when nobody had to be killed."""
        self.sock.close()
        server = self.settings.server
        if stop.drain.is_set():
            self._tell(DRAIN)
            await self._gone(server.drain_delay_s + server.drain_s + 5.0, stop.quick)
        self._tell(QUICK)
        await self._gone(self.settings.oauth.refresh_timeout_s + 10.0, asyncio.Event())
        killed = 0
        for worker in list(self.workers.values()):
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
                killed += 1
            self._bury(worker)
        if killed:
            get_logger().error("workers_killed", count=killed)
        return not killed

    def _tell(self, word: bytes) -> None:
        for worker in self.workers.values():
            worker.tell(word)

    async def _gone(self, timeout_s: float, hurry: asyncio.Event) -> None:
        """Waits until no worker runs, for at most ``timeout_s``, or until ``hurry``."""
        until_s = self.clock.monotonic_s() + timeout_s
        while any(worker.process.poll() is None for worker in self.workers.values()):
            if hurry.is_set() or self.clock.monotonic_s() >= until_s:
                return
            await self.clock.sleep(LOOK_EVERY_S)


def _environment(ours: Mapping[str, str], metrics: Path) -> dict[str, str]:
    """What a worker's environment holds: nothing of our settings; our packages, wherever the gateway was started."""
    kept = {name: value for name, value in ours.items() if not name.startswith(ENV_PREFIX)}
    path = os.pathsep.join(filter(None, (str(_ROOT), ours.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, MULTIPROC_ENV: str(metrics)}
