"""Which connection carries the next request, and when does one end its days?

One pool per process and upstream side; it owns every connection it made. Rules that hold:

* decisions are synchronous: a connection is taken from the idle ones (last in, first out) or a new one is dialled;
* there is no cap on connections unless one is asked for; with one, callers wait within their connect time;
* one timer sweeps deadlines and old idle connections; it runs only while there is something to sweep;
* after a stall of the event loop a sweep waits for one more round, so that what has arrived is read before it is
  judged late;
* cancelling ``open`` at any point closes what it had opened;
* a connection that dies idle is forgotten; one that dies as it is used again before any byte of an answer is told
  apart (``UpstreamError.reused``), and trying again is the caller's decision.

Streams are read from the Exchange that ``open`` returns. HTTP details are in upstream.connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ops.clock import Clock
from upstream.connection import Connection
from upstream.dial import Dialer, Origin
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.types import Timeouts


@dataclass(slots=True)
class PoolStats:
    """Counters since the start; folded into the metrics at scrape time."""

    opened: int = 0
    reused: int = 0
    lost_idle: int = 0
    desync_detected: int = 0


class Watched(Protocol):
    """Something with deadlines."""

    def check(self, now_s: float) -> None: ...

    def close(self) -> None: ...


class ConnectionPool:
    """Keeps HTTP/1.1 connections by origin.

    ``keep_s`` is how long an idle connection is kept, ``linger_s`` how long the end of a message is awaited after
    its reader has left satisfied, ``max_connections`` None for no cap.
    """

    def __init__(
        self,
        dialer: Dialer,
        clock: Clock,
        *,
        keep_s: float = 50.0,
        linger_s: float = 1.0,
        sweep_s: float = 0.25,
        max_connections: int | None = None,
    ) -> None:
        self._dialer = dialer
        self._clock = clock
        self._keep_s = keep_s
        self._linger_s = linger_s
        self._sweep_s = sweep_s
        self._max = max_connections
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Watched] = set()
        self._dialing = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._closed = False
        self.stats = PoolStats()

    @property
    def busy(self) -> int:
        """Connections with an exchange, lingering ones included."""
        return len(self._busy)

    @property
    def idle(self) -> int:
        return sum(map(len, self._idle.values()))

    async def open(
        self, origin: Origin, head: bytes, body: Sequence[bytes], timeouts: Timeouts, *, fresh: bool = False
    ) -> Exchange:
        """Sends a request and returns its exchange when the answer's head has come.

        Args: ``head`` is the whole request head with its closing empty line; ``body`` buffers are written as they
        are; ``fresh`` asks for a new connection, for what must not meet a stale one. Raises UpstreamError; ``sent``
        is False while no byte of the request was written. Cancel: the connection is closed at once.
        """
        started_s = self._clock.monotonic_s()
        connection = None if fresh else self._take(origin)
        if connection is None:
            connection = await self._dial(origin, timeouts, fresh)
        exchange = connection.start(head, body, timeouts, started_s)
        self.watch(connection)
        try:
            await exchange.head()
        except BaseException:
            exchange.abort()
            raise
        return exchange

    def watch(self, watched: Watched) -> None:
        """Lets the sweep check ``watched`` until ``unwatch``."""
        self._busy.add(watched)
        if self._timer is None:
            self._schedule()

    def unwatch(self, watched: Watched) -> None:
        self._busy.discard(watched)

    def linger(self, exchange: Exchange) -> None:
        """The reader has all it wants: the connection is kept if its message ends within ``linger_s``."""
        exchange.linger(self._clock.monotonic_s() + self._linger_s)

    def sweep(self) -> None:
        """Ends exchanges whose deadline has passed and closes old idle connections."""
        now_s = self._clock.monotonic_s()
        for connection in tuple(self._busy):
            connection.check(now_s)
        for connections in self._idle.values():
            # the oldest stand first: they are taken from the other end
            while connections and now_s - connections[0].idle_since_s >= self._keep_s:
                connections.pop(0).close()

    async def aclose(self) -> None:
        """Closes everything; running exchanges end with an error. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in (*self._busy, *(c for kept in self._idle.values() for c in kept)):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop tells the connections

    # what connections tell

    def settled(self, connection: Connection, reusable: bool) -> None:
        self._busy.discard(connection)
        if reusable and not self._closed:
            connection.idle_since_s = self._clock.monotonic_s()
            self._idle.setdefault(connection.origin, []).append(connection)
            self._wake_one()
        elif reusable:
            connection.close()

    def lost(self, connection: Connection) -> None:
        self._busy.discard(connection)
        kept = self._idle.get(connection.origin)
        if kept and connection in kept:
            kept.remove(connection)
            self.stats.lost_idle += 1
        self._wake_one()

    def desynced(self) -> None:
        self.stats.desync_detected += 1

    # how a connection is found

    def _take(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.usable:
                self.stats.reused += 1
                return connection
        return None

    async def _dial(self, origin: Origin, timeouts: Timeouts, fresh: bool) -> Connection:
        if self._closed:
            raise UpstreamError(FaultKind.CONNECT, "the pool is closed", sent=False)
        if self._max is not None:
            connection = await self._await_turn(origin, timeouts, self._max, fresh)
            if connection is not None:
                return connection
        self._dialing += 1
        try:
            connection = await self._dialer.dial(origin, lambda: Connection(origin, self), timeouts.connect_s)
        except BaseException:
            self._wake_one()
            raise
        finally:
            self._dialing -= 1
        self.stats.opened += 1
        return connection

    async def _await_turn(self, origin: Origin, timeouts: Timeouts, most: int, fresh: bool) -> Connection | None:
        """An idle connection to ``origin``, or None when a new one may be dialled."""
        try:
            async with asyncio.timeout(timeouts.connect_s):
                while True:
                    connection = None if fresh else self._take(origin)
                    if connection is not None:
                        return connection
                    if len(self._busy) + self._dialing + self.idle < most:
                        return None
                    if self._evict_idle():
                        continue
                    await self._wait_for_another()
        except TimeoutError as error:
            raise UpstreamError(FaultKind.CONNECT_TIMEOUT, "no free connection in time", sent=False) from error

    async def _wait_for_another(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake_one()  # the turn was ours; somebody else may use it
            raise

    def _evict_idle(self) -> bool:
        for kept in self._idle.values():
            if kept:
                kept.pop(0).close()
                return True
        return False

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    # the timer

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer_due_s = loop.time() + self._sweep_s
        self._timer = loop.call_at(self._timer_due_s, self._on_timer, loop)

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if loop.time() - self._timer_due_s < 2 * self._sweep_s:
            self.sweep()
        if self._busy or self.idle:
            self._schedule()
