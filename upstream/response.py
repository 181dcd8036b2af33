"""What does a reader of one event stream see?

Whole events only, in order, as the upstream wrote them; then either the clean end or one UpstreamError. The response
owns its exchange: ``close`` gives the connection back or tears it down, and forgetting to close is a leak.

Rules that hold: the first-event deadline runs until the first whole event, so that a dripping upstream cannot
stretch it; the bytes of a stream are bounded; after ``expect_end`` nobody waits for the upstream any more.

The short way (``pour``): while the reader waits in ``next_block``, a read that is nothing but whole events may go
straight to a sink, from the callback that brought it, and the reader sleeps on. Whatever the sink does not take, and
everything that is not plain (half events, the end, faults, limits), goes the long way, in the same order.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from ops.clock import Clock
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.headers import safe_response_headers
from upstream.pool import ConnectionPool
from upstream.sse import EventFramer
from upstream.types import RateLimitWindow, RawHeaders
from upstream.usage import WINDOW_LEAD, windows_from_headers

SHORT_WAIT_S: Final = 1.0


class UpstreamResponse:
    """An open event stream with a 2xx status."""

    __slots__ = (
        "_begun", "_clock", "_closed", "_ending", "_exchange", "_framer", "_headers", "_left", "_pool", "_sink",
        "status",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        pool: ConnectionPool,
        clock: Clock,
        max_event_bytes: int,
        max_stream_bytes: int,
    ) -> None:
        self.status = exchange.status
        self._exchange = exchange
        self._pool = pool
        self._clock = clock
        self._framer = EventFramer(max_event_bytes)
        self._left = max_stream_bytes
        self._sink: Callable[[bytes], bool] | None = None
        self._headers: RawHeaders | None = None
        self._begun = False
        self._ending = False
        self._closed = False

    @property
    def headers(self) -> RawHeaders:
        """The fields that a client may see, names in lower case, values free of control characters."""
        if self._headers is None:
            self._headers = safe_response_headers(self._exchange.headers)
        return self._headers

    @property
    def windows(self) -> list[RateLimitWindow]:
        """The account's rate-limit windows as the answer's header tells them; empty when it does not."""
        return windows_from_headers(self._exchange.headers, self._clock.now_s())

    @property
    def window_fields(self) -> tuple[bytes, ...]:
        """The values of the rate-limit fields as they came, for telling whether they have changed."""
        return tuple([value for name, value in self._exchange.headers if name.startswith(WINDOW_LEAD)])

    def forget_head(self) -> None:
        """The header has been read for good: it need not be kept for as long as the stream runs."""
        self._headers = []
        self._exchange.headers = []

    async def next_block(self, wait_s: float | None = None) -> bytes | None:
        """The whole events that have come since the last call; b"" when the upstream has ended at an event boundary.

        None: nothing came within ``wait_s`` (kept to a quarter of a second for waits of a second and more, and to
        half of one after something was poured). Whether
        a terminal event was among the events is for the caller to know. Raises UpstreamError (TRUNCATED, IDLE,
        BUDGET, EVENT_TOO_LARGE, PROTOCOL, FIRST_EVENT_TIMEOUT), after all events that came before; the response is
        closed then. Cancel: nothing is lost, call again or ``close``.
        """
        exchange = self._exchange
        timer: asyncio.TimerHandle | None = None
        armed = False
        try:
            while True:
                data: bytes | None = exchange.take()
                if not data:
                    if self._ending:
                        self.close()
                        return b""
                    if not armed:
                        armed = True
                        timer = self._arm(wait_s)
                    data = await exchange.read()
                    if data is None:
                        return None
                    if not data:
                        return self._end()
                block = self._frame(data)
                if block:
                    return block
        except UpstreamError:
            self.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _arm(self, wait_s: float | None) -> asyncio.TimerHandle | None:
        """Long waits are the sweep's business and cost nothing; short ones get a timer of their own."""
        exchange = self._exchange
        if wait_s is None or wait_s >= SHORT_WAIT_S:
            exchange.tap = self._pour if self._sink is not None else None
            exchange.nudge_at(math.inf if wait_s is None else self._clock.monotonic_s() + wait_s, wait_s or math.inf)
            return None
        exchange.tap = None  # a timer of its own cannot be put off by what is poured
        exchange.nudge_at(math.inf)
        return asyncio.get_running_loop().call_later(wait_s, exchange.nudge)

    def pour(self, sink: Callable[[bytes], bool] | None) -> None:
        """From the next wait on, blocks may go straight to ``sink``, which takes one whole (True) or leaves it whole
        for ``next_block`` (False), never waits and never raises. None: no longer; to be said before the stream is
        left, because the two hold each other."""
        self._sink = sink
        if sink is None:
            self._exchange.tap = None

    def _pour(self, data: bytes) -> bool:
        """The tap of the exchange: only what would pass the framer and the limit untouched is offered."""
        sink = self._sink
        if sink is None or len(data) > self._left or not self._framer.passes(data) or not sink(data):
            return False
        self._left -= len(data)
        return True

    def _frame(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamError(FaultKind.BUDGET, "the stream is larger than allowed", status=self.status)
        block = self._framer.feed(data)
        if block and not self._begun:
            self._begun = True
            self._exchange.first_event_seen()
        return block

    def _end(self) -> bytes:
        self._closed = True
        if self._framer.held:
            raise UpstreamError(FaultKind.TRUNCATED, "the stream ended inside an event", status=self.status)
        return b""

    def expect_end(self) -> None:
        """The terminal event has been seen: from now on ``next_block`` gives out what has arrived and never waits.

        The connection is kept for the next request if the rest of the message comes soon; nobody waits for it.
        """
        self._ending = True

    def close(self) -> None:
        """Idempotent, never waits. A connection whose message is unfinished is torn down, except after
        ``expect_end``, when the pool gives it a moment to finish."""
        if self._closed:
            return
        self._closed = True
        if self._ending:
            self._pool.linger(self._exchange)
        else:
            self._exchange.abort()
