"""HTTP/2 to the upstream, for routes that need it: the same Exchange, carried by a stream of httpx's client.

Costs several times the CPU of the HTTP/1.1 path per event and shares one connection's stream limit; off by default.
One task per exchange pumps the stream and ends with it; deadlines, back-pressure and linger are the Exchange's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from ops.clock import Clock
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.httpx_transport import upstream_error
from upstream.pool import ConnectionPool
from upstream.types import RawHeaders, Timeouts


class Http2Sender:
    """Opens exchanges over ``http``, which the caller built with ``http2=True`` and closes after us."""

    def __init__(self, http: httpx.AsyncClient, pool: ConnectionPool, clock: Clock) -> None:
        self._http = http
        self._pool = pool
        self._clock = clock

    async def open(self, url: str, fields: RawHeaders, body: Sequence[bytes], timeouts: Timeouts) -> Exchange:
        """As ConnectionPool.open. Cancel: the stream is reset."""
        timeout = httpx.Timeout(None, connect=timeouts.connect_s, pool=timeouts.connect_s)
        request = self._http.build_request("POST", url, headers=fields, content=b"".join(body), timeout=timeout)
        stream = _Stream(self._pool)
        exchange = stream.start(self._http, request, timeouts, self._clock.monotonic_s())
        self._pool.watch(stream)
        try:
            await exchange.head()
        except BaseException:
            exchange.abort()
            raise
        return exchange


class _Stream:
    """One HTTP/2 stream; the carrier of its exchange."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._room = asyncio.Event()
        self._room.set()
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, http: httpx.AsyncClient, request: httpx.Request, timeouts: Timeouts, started_s: float) -> Exchange:
        self._exchange = Exchange(self, timeouts, started_s)
        self._task = asyncio.create_task(self._pump(http, request, self._exchange))
        return self._exchange

    async def _pump(self, http: httpx.AsyncClient, request: httpx.Request, exchange: Exchange) -> None:
        error: UpstreamError | None = UpstreamError(FaultKind.LOST, "the stream was given up")
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
            if self._exchange is not None:
                self._exchange = None
                exchange.end(error)

    def check(self, now_s: float) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        error = exchange.overdue(now_s, 0)
        if error is not None:
            self.close()
            exchange.end(error)
        else:
            exchange.nudge_if_due(now_s)

    def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        self._exchange = None
        self._pool.unwatch(self)
        if self._task is not None:
            self._task.cancel()

    def resume_reading(self) -> None:
        self._room.set()
