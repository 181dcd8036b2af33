"""When to stop: the first request drains, a second one is quick.

A signal that reaches the process twice because the whole process group got it, or because a wrapper passed it on,
counts once: repeats within ``COALESCE_S`` are one. Workers hear of it through a pipe from their supervisor and
never by signal, so that a terminal's Ctrl-C and the supervisor's word are not counted twice. SIGHUP does nothing:
settings are read at the start only, and a closed terminal is no reason to end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

from ops.clock import Clock

COALESCE_S: Final = 0.5
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
DRAIN: Final = b"d"
QUICK: Final = b"q"


class Stop:
    """``drain`` is set by the first request, ``quick`` by the second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_s = float("-inf")
        self.drain = asyncio.Event()
        self.quick = asyncio.Event()

    def request(self) -> None:
        """One wish to stop, from a signal."""
        now_s = self._clock.monotonic_s()
        if now_s - self._last_s < COALESCE_S:
            return
        self._last_s = now_s
        if self.drain.is_set():
            self.quick.set()
        self.drain.set()

    def on_signals(self) -> None:
        """Listens for SIGTERM and SIGINT in the running loop."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.request)
        loop.add_signal_handler(signal.SIGHUP, _ignore)

    def on_pipe(self, control_fd: int) -> None:
        """Obeys the supervisor: DRAIN, QUICK, and its death (end of file) as QUICK. Signals are ignored."""
        loop = asyncio.get_running_loop()
        for number in (*SIGNALS, signal.SIGHUP):
            loop.add_signal_handler(number, _ignore)
        os.set_blocking(control_fd, False)
        loop.add_reader(control_fd, self._read, control_fd)

    def _read(self, control_fd: int) -> None:
        try:
            words = os.read(control_fd, 16)
        except BlockingIOError:
            return
        self.drain.set()
        if QUICK in words or not words:
            self.quick.set()
        if not words:
            asyncio.get_running_loop().remove_reader(control_fd)


def _ignore() -> None:
    """Not SIG_IGN, which children would inherit."""
