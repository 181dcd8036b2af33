"""Several workers on one listening socket, and the one process that minds them.

The supervisor binds the socket, lets the key and the schema be made before anything is spawned, starts the workers
in sessions of their own, restarts one that dies, and is the only one who listens to signals: it tells the workers
through a pipe. When the supervisor dies, the pipe ends and the workers stop too. Nothing but the command line and
an inherited descriptor goes to a worker; secrets are read again from where they rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.clock import Clock, SystemClock
from ops.log import get_logger
from ops.server import BACKLOG
from ops.settings import Settings
from ops.stop import DRAIN, QUICK, Stop

RESTART_DELAY_S: Final = 0.5
RESTART_DELAY_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 10.0
MULTIPROC_ENV: Final = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(slots=True)
class Worker:
    """One child: its process, the write end of its control pipe, the read end of its report pipe."""

    index: int
    process: subprocess.Popen[bytes]
    control_fd: int
    report_fd: int
    started_s: float

    def tell(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self.control_fd, word)

    def forget(self) -> None:
        os.close(self.control_fd)
        os.close(self.report_fd)


async def supervise(settings: Settings, config_path: Path | None, sock: socket.socket) -> int:
    """Runs the workers of ``settings`` on ``sock`` until a signal; the exit code."""
    clock = SystemClock()
    stop = Stop(clock)
    stop.on_signals()
    sock.listen(BACKLOG)
    server = settings.server
    grace_s = server.drain_delay_s + server.drain_s + 5.0
    host, port = sock.getsockname()[:2]

    def announce() -> None:
        scheme = "https" if server.tls_cert_file else "http"
        get_logger().info("listening", url=f"{scheme}://{host}:{port}", workers=server.workers)

    supervisor = Supervisor(sock, server.workers, config_path, clock, grace_s)
    return await supervisor.run(stop, announce)


@dataclass(slots=True)
class Supervisor:
    """Runs ``count`` workers on ``sock`` until told to stop."""

    sock: socket.socket
    count: int
    config_path: Path | None
    clock: Clock
    grace_s: float
    workers: dict[int, Worker] = field(default_factory=dict)
    failures: int = 0

    async def run(self, stop: Stop, on_listening: Callable[[], None]) -> int:
        """0 after an orderly end; 1 when the workers could not start."""
        with tempfile.TemporaryDirectory(prefix="codex-relay-metrics-") as directory:
            os.environ[MULTIPROC_ENV] = directory
            for index in range(self.count):
                self._spawn(index)
            for worker in list(self.workers.values()):
                if not await self._reported(worker):
                    await self._end(QUICK)
                    return 1
            on_listening()
            while not stop.drain.is_set():
                await self._mind(stop)
            return await self._stop(stop)

    def _spawn(self, index: int) -> None:
        control_read, control_write = os.pipe()
        report_read, report_write = os.pipe()
        command = [sys.executable, "-m", "ops.worker", str(self.sock.fileno()), str(control_read), str(report_write)]
        command += [str(index), str(self.count)]
        if self.config_path is not None:
            command.append(str(self.config_path))
        fds = (self.sock.fileno(), control_read, report_write)
        process = subprocess.Popen(command, pass_fds=fds, start_new_session=True, stdin=subprocess.DEVNULL)  # noqa: S603
        os.close(control_read)
        os.close(report_write)
        self.workers[index] = Worker(index, process, control_write, report_read, self.clock.monotonic_s())

    async def _reported(self, worker: Worker) -> bool:
        """True when the worker says that it listens; False when it ended before."""
        return bool(await asyncio.to_thread(os.read, worker.report_fd, 1))

    async def _mind(self, stop: Stop) -> None:
        """Restarts what has died; a worker that dies young waits longer each time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.drain.wait(), 0.1)
        for worker in list(self.workers.values()):
            code = worker.process.poll()
            if code is None or stop.drain.is_set():
                continue
            self._bury(worker)
            young = self.clock.monotonic_s() - worker.started_s < HEALTHY_AFTER_S
            self.failures = self.failures + 1 if young else 1
            delay_s = min(RESTART_DELAY_S * 2 ** (self.failures - 1), RESTART_DELAY_MAX_S)
            get_logger().error("worker_died", worker=worker.index, exit_code=code, restart_in_s=delay_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.drain.wait(), delay_s)
            if not stop.drain.is_set():
                self._spawn(worker.index)

    def _bury(self, worker: Worker) -> None:
        del self.workers[worker.index]
        worker.forget()
        forget_gauges(worker.process.pid, Path(os.environ[MULTIPROC_ENV]))

    async def _stop(self, stop: Stop) -> int:
        self.sock.close()
        for worker in self.workers.values():
            worker.tell(DRAIN)
        waiting = asyncio.create_task(stop.quick.wait())
        gone = asyncio.create_task(self._gone())
        await asyncio.wait({waiting, gone}, timeout=self.grace_s, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        gone.cancel()
        await self._end(QUICK)
        return 0

    async def _gone(self) -> None:
        while any(worker.process.poll() is None for worker in self.workers.values()):
            await self.clock.sleep(0.05)

    async def _end(self, word: bytes) -> None:
        """Everybody out: ``word``, then ten seconds, then SIGKILL."""
        for worker in self.workers.values():
            worker.tell(word)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._gone(), 35.0)
        for worker in list(self.workers.values()):
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
            self._bury(worker)


def forget_gauges(pid: int, directory: Path) -> None:
    """What a dead worker counted stays in the sum; what it measured does not."""
    for path in directory.glob(f"gauge_live*_{pid}.db"):
        path.unlink(missing_ok=True)
