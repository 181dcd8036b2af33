"""The worker for tasks as a child of ``serve``: started with it, restarted when it dies, ended with it.

    python -m ops.sandbox_child CONTROL_FD        standard input: the settings as JSON

The process that serves the web never opens the engine's socket, and never loads its client: this file imports the
worker in the child alone. Rules that hold:

* the child gets the settings through its standard input, with the address of this gateway in them; its environment
  holds none of them;
* when ``serve`` dies, the control pipe ends and the child leaves its containers to the next start;
* a child that dies is started again after a pause that doubles up to ``RESTART_MAX_S``; the gateway serves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ops.clock import Clock
from ops.log import get_logger
from ops.settings import ENV_PREFIX, Settings, from_whole_json
from ops.stop import QUICK, Stop

RESTART_S: Final = 1.0
RESTART_MAX_S: Final = 30.0
HEALTHY_AFTER_S: Final = 30.0
LOOK_EVERY_S: Final = 0.2
END_S: Final = 15.0
_ROOT: Final = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """The child's exit code: 0 after an orderly end, 1 when the start was refused."""
    settings = from_whole_json(sys.stdin.buffer.read())
    from ops.house_sandbox import run_worker  # noqa: PLC0415 - in the child alone

    def listen_for_stop(stop: Stop) -> None:
        stop.on_pipe(int(arguments[0]))

    return run_worker(settings, None, listen_for_stop)


@contextlib.asynccontextmanager
async def worker_beside(settings: Settings, sock: socket.socket, clock: Clock) -> AsyncIterator[None]:
    """A worker runs while the block does, when ``[sandbox]`` is enabled. Starts one task, which minds it."""
    if not settings.sandbox.enabled:
        yield
        return
    child = SandboxChild(with_address(settings, sock), clock)
    minding = asyncio.create_task(child.mind())
    try:
        yield
    finally:
        minding.cancel()
        await asyncio.gather(minding, return_exceptions=True)
        await child.end()


def with_address(settings: Settings, sock: socket.socket) -> Settings:
    """The settings with the address of this gateway, unless they name one."""
    if settings.sandbox.gateway_url is not None:
        return settings
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - what is listened on, not where we listen
    scheme = "https" if settings.server.tls_cert_file else "http"
    given = settings.sandbox.model_copy(update={"gateway_url": f"{scheme}://{host}:{port}"})
    return settings.model_copy(update={"sandbox": given})


class SandboxChild:
    """One child process, again and again. ``command`` is for tests."""

    def __init__(self, settings: Settings, clock: Clock, command: tuple[str, ...] | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._command = command or (sys.executable, "-P", "-m", "ops.sandbox_child")
        self._process: subprocess.Popen[bytes] | None = None
        self._control_fd = -1
        self.starts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def mind(self) -> None:
        """Starts it, and starts it again whenever it has died. Runs until cancelled."""
        pause_s = RESTART_S
        while True:
            began_s = self._clock.monotonic_s()
            self._start()
            while self._process is not None and (code := self._process.poll()) is None:
                await self._clock.sleep(LOOK_EVERY_S)
            self._forget()
            lived_s = self._clock.monotonic_s() - began_s
            pause_s = RESTART_S if lived_s >= HEALTHY_AFTER_S else min(pause_s * 2, RESTART_MAX_S)
            get_logger().error("sandbox_worker_died", exit_code=code, restart_in_s=pause_s)
            await self._clock.sleep(pause_s)

    async def end(self) -> None:
        """Tells it to leave at once and waits for it; kills it after ``END_S``. Its containers go on."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(OSError):
            os.write(self._control_fd, QUICK)
        until_s = self._clock.monotonic_s() + END_S
        while process.poll() is None and self._clock.monotonic_s() < until_s:
            await self._clock.sleep(LOOK_EVERY_S / 4)
        if process.poll() is None:
            process.kill()
            process.wait()
            get_logger().error("sandbox_worker_killed")
        self._forget()

    def _start(self) -> None:
        read, write = os.pipe()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*self._command, str(read)],
            pass_fds=(read,),
            start_new_session=True,
            stdin=subprocess.PIPE,
            env=_environment(),
        )
        os.close(read)
        self._control_fd = write
        self.starts += 1
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(self._settings.whole_json())

    def _forget(self) -> None:
        if self._process is not None:
            self._process = None
            os.close(self._control_fd)


def _environment() -> dict[str, str]:
    """Nothing of our settings; our packages, wherever the gateway was started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), kept.get("PYTHONPATH"))))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
