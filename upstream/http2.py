"""HTTP/2 to the upstream, for routes that need it: the same Exchange, carried by a stream of httpx's client.

Costs several times the CPU of the HTTP/1.1 path per event; off by default. httpcore resets no stream whose reader has
left (the upstream would go on, and the connection's window would leak), so each exchange has a connection to itself:
kept for the next one after a clean end, closed at once otherwise. No stream limit can queue anybody that way.

One task per exchange pumps the stream and ends with it; deadlines, back-pressure and linger are the Exchange's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import httpx

from ops.clock import Clock
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.httpx_transport import upstream_error
from upstream.pool import ConnectionPool
from upstream.types import RawHeaders, Timeouts

MAX_IDLE: Final = 64


class Http2Sender:
    """Opens exchanges. ``make`` builds an AsyncClient with ``http2=True`` for one connection."""

    def __init__(self, make: Callable[[], httpx.AsyncClient], pool: ConnectionPool, clock: Clock) -> None:
        self._make = make
        self._pool = pool
        self._clock = clock
        self._idle: list[httpx.AsyncClient] = []
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self, url: str, fields: RawHeaders, body: Sequence[bytes], timeouts: Timeouts) -> Exchange:
        """As ConnectionPool.open. Cancel: the connection is closed."""
        http = self._idle.pop() if self._idle else self._make()
        timeout = httpx.Timeout(None, connect=timeouts.connect_s, pool=timeouts.connect_s)
        request = http.build_request("POST", url, headers=fields, content=b"".join(body), timeout=timeout)
        stream = _Stream(self, self._pool, http, request, timeouts, self._clock.monotonic_s())
        exchange = stream.exchange
        self._running.add(stream.task)
        stream.task.add_done_callback(self._running.discard)
        self._pool.watch(stream)
        try:
            await exchange.head()
        except BaseException:
            exchange.abort()
            raise
        return exchange

    async def give_back(self, http: httpx.AsyncClient, clean: bool) -> None:
        """Keeps the connection after a clean end, closes it otherwise."""
        if clean and not self._closed and len(self._idle) < MAX_IDLE:
            self._idle.append(http)
        else:
            await http.aclose()

    async def aclose(self) -> None:
        """Ends what runs, closes every connection. Idempotent."""
        self._closed = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        while self._idle:
            await self._idle.pop().aclose()


class _Stream:
    """One HTTP/2 stream; the carrier of its exchange."""

    def __init__(
        self,
        sender: Http2Sender,
        pool: ConnectionPool,
        http: httpx.AsyncClient,
        request: httpx.Request,
        timeouts: Timeouts,
        started_s: float,
    ) -> None:
        self._sender = sender
        self._pool = pool
        self._room = asyncio.Event()
        self._room.set()
        self._started = False
        self.exchange = Exchange(self, timeouts, started_s)
        self._live: Exchange | None = self.exchange
        self.task = asyncio.create_task(self._pump(http, request, self.exchange))

    async def _pump(self, http: httpx.AsyncClient, request: httpx.Request, exchange: Exchange) -> None:
        self._started = True
        error: UpstreamError | None = UpstreamError(FaultKind.LOST, "the stream was given up")
        if self._live is None:  # given up before it began
            await self._sender.give_back(http, clean=False)
            return
        try:
            response = await http.send(request, stream=True, follow_redirects=False)
            try:
                exchange.headers = [(name.lower(), value) for name, value in response.headers.raw]
                exchange.status = response.status_code
                exchange.wake()
                async for chunk in response.aiter_raw():
                    exchange.heard = True
                    if exchange.arrived(chunk):
                        self._room.clear()
                    exchange.wake_reader()
                    await self._room.wait()
            finally:
                await response.aclose()
            error = None
        except httpx.HTTPError as cause:
            error = upstream_error(cause, begun=bool(exchange.status))
        finally:
            self._pool.unwatch(self)
            if self._live is not None:
                self._live = None
                exchange.end(error)
            await self._sender.give_back(http, error is None)

    def check(self, now_s: float) -> None:
        exchange = self._live
        if exchange is None:
            return
        error = exchange.overdue(now_s, 0)
        if error is not None:
            self.abandon()
            exchange.end(error)
        else:
            exchange.nudge_if_due(now_s)

    def close(self) -> None:
        exchange = self._live
        self.abandon()
        if exchange is not None:
            exchange.end(UpstreamError(FaultKind.LOST, "the pool was closed"))

    def abandon(self) -> None:
        self._live = None
        self._pool.unwatch(self)
        if self._started:  # a task that is cancelled before its first step would never give its client back
            self.task.cancel()

    def resume_reading(self) -> None:
        self._room.set()
