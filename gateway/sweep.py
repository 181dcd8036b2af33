"""Which client connection is past a deadline? One look at all of them once a tick, so that no request sets a timer.

The deadlines themselves are the connections' business (``gateway.protocol``): they compare times, the sweep only calls
them. While there is no connection, nothing runs.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ops.clock import Clock


class Watched(Protocol):
    """A connection with deadlines. ``check`` may end it, and may take it out of the sweep."""

    loop: asyncio.AbstractEventLoop

    def check(self, now_s: float) -> None: ...


class Sweep:
    """Looks at every connection of the process once in ``tick_s``; sleeps while there is none."""

    def __init__(self, tick_s: float, clock: Clock) -> None:
        self._tick_s = tick_s
        self._clock = clock
        self._connections: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def watched(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def add(self, connection: Watched) -> None:
        self._connections.add(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._tick_s, self._tick, connection.loop)

    def discard(self, connection: Watched) -> None:
        self._connections.discard(connection)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self.look()
        if self._connections:
            self._timer = loop.call_later(self._tick_s, self._tick, loop)

    def look(self) -> None:
        """Cuts every connection that is past a deadline now."""
        now_s = self._clock.monotonic_s()
        for connection in tuple(self._connections):
            connection.check(now_s)
