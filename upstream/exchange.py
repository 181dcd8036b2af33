"""What has one request's answer brought so far, and who waits for more?

The reader pulls (``head``, ``take``, ``read``), the carrier pushes (``arrived``, ``end``). Rules that hold:

* an exchange has its own buffer, which stays readable after its connection serves somebody else;
* waiting costs a future only when nothing has arrived; one reader at a time;
* while the reader waits and nothing is kept, a ``tap`` may take what arrives at once, without waking the reader;
* a reader that is behind by more than the high-water mark pauses the carrier, taking resumes it;
* deadlines are data: the pool's sweep asks ``overdue``; nothing here looks at a clock.

Knows nothing of bytes on the wire; upstream.connection and upstream.http2 carry it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final, Protocol

from upstream.errors import FaultKind, UpstreamError
from upstream.types import RawHeaders, Timeouts

HIGH_WATER: Final = 256 * 1024


class Carrier(Protocol):
    """What an exchange travels on: a Connection, or a stream of an HTTP/2 connection."""

    def abandon(self) -> None: ...

    def resume_reading(self) -> None: ...


class Exchange:
    """One request and its answer. ``status`` is 0 until the head has come; header names are in lower case."""

    __slots__ = (
        "_again_s", "_buffered", "_chunks", "_connection", "_idle_s", "_nudged", "_tapped", "_waiter", "_write_s",
        "complete", "error", "first_deadline_s", "headers", "heard", "heard_s", "nudge_s", "paused", "received",
        "status", "tap", "total_deadline_s", "unwritten",
    )  # fmt: skip

    def __init__(self, connection: Carrier, timeouts: Timeouts, started_s: float) -> None:
        self._connection: Carrier | None = connection
        self._chunks: list[bytes] = []
        self._buffered = 0
        self.paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._idle_s = timeouts.idle_s
        self._write_s = timeouts.write_s
        self._nudged = False
        self._again_s = math.inf
        self._tapped = False  # the tap has taken something since the last sweep
        self.tap: Callable[[bytes], bool] | None = None
        self.nudge_s = math.inf
        self.status = 0
        self.headers: RawHeaders = []
        self.error: UpstreamError | None = None
        self.complete = False
        self.received = 0  # bytes of the answer, head and framing included, while the head has not come
        self.heard = False  # anything since the last sweep
        self.heard_s = started_s
        self.unwritten = 0
        self.first_deadline_s = started_s + timeouts.first_event_s
        self.total_deadline_s = started_s + timeouts.total_s

    async def head(self) -> None:
        """Returns when ``status`` and ``headers`` are there. Raises UpstreamError. Cancel: call ``abort``."""
        while not self.status:
            if self.error is not None:
                raise self.error
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take(self) -> bytes:
        """All body bytes that have arrived since the last call; b"" when there are none now."""
        chunks = self._chunks
        if not chunks:
            return b""
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self.paused:
            self.paused = False
            self.heard = True  # the silence was ours
            if self._connection is not None:
                self._connection.resume_reading()
        return data

    async def read(self) -> bytes | None:
        """The body bytes that have arrived since the last call, waiting for some; b"" is the clean end.

        None: ``nudge`` was called while nothing came. Bytes that came before a failure are given out before it is
        raised (UpstreamError). Cancelling leaves the exchange as it was: read again or ``abort``.
        """
        while True:
            data = self.take()
            if data or self.complete:
                return data
            if self.error is not None:
                raise self.error
            if self._nudged:
                self._nudged = False
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def nudge(self) -> None:
        """Makes a waiting ``read`` return None."""
        self._nudged = True
        self.wake()

    def nudge_at(self, at_s: float, again_s: float = math.inf) -> None:
        """Lets the sweep nudge at the given monotonic time (inf: never), and forgets an earlier nudge.

        When the tap takes something meanwhile, the time is put off to ``again_s`` after the sweep that sees it.
        """
        self._nudged = self._tapped = False
        self.nudge_s = at_s
        self._again_s = again_s

    def first_event_seen(self) -> None:
        """The answer has begun for good: from now on only idle and total deadlines count."""
        self.first_deadline_s = math.inf

    def abort(self) -> None:
        """Closes the connection at once unless the message is complete. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
            self._chunks = []
            self.error = UpstreamError(FaultKind.TRUNCATED, "closed by us", status=self.status or None)
            self.wake()

    def linger(self, until_s: float) -> None:
        """Nobody reads any more: the connection goes back to the pool if the message ends before ``until_s``."""
        if self._connection is not None:
            self.take()
            self._connection = None
            self.first_deadline_s = math.inf
            self.total_deadline_s = min(self.total_deadline_s, until_s)

    # what the carrier calls

    def nudge_if_due(self, now_s: float) -> None:
        if self._tapped:
            self._tapped = False
            self.nudge_s = now_s + self._again_s
        elif now_s >= self.nudge_s:
            self.nudge_s = math.inf
            self.nudge()

    def arrived(self, body: bytes) -> bool:
        """Keeps what the tap does not take; True when the reader is so far behind that reading must pause."""
        tap, waiter = self.tap, self._waiter
        if tap is not None and waiter is not None and not self._chunks and not waiter.done() and tap(body):
            self._tapped = True
            return False
        self._chunks.append(body)
        self._buffered += len(body)
        if self._buffered > HIGH_WATER and not self.paused:
            self.paused = True
            return True
        return False

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wake_reader(self) -> None:
        waiter = self._waiter
        if waiter is not None and self._chunks and not waiter.done():
            waiter.set_result(None)

    def end(self, error: UpstreamError | None) -> None:
        self._connection = None
        self.error = error
        self.complete = error is None
        self.wake()

    def overdue(self, now_s: float, unwritten: int) -> UpstreamError | None:
        """The deadline that has passed, if any. ``unwritten`` bytes of the request wait in the transport."""
        if now_s >= self.total_deadline_s:
            return UpstreamError(
                FaultKind.BUDGET, "the exchange took longer than its total time", status=self.status or None
            )
        if self.heard or self.paused or unwritten != self.unwritten:
            self.heard = False
            self.heard_s = now_s
            self.unwritten = unwritten
        silent_s = now_s - self.heard_s
        if now_s >= self.first_deadline_s:
            if self.received and not self.status:
                return UpstreamError(FaultKind.HEADER_TIMEOUT, "the answer's head did not end in time")
            return UpstreamError(FaultKind.FIRST_EVENT_TIMEOUT, "no event in time", status=self.status or None)
        if unwritten and not self.status and silent_s >= self._write_s:
            return UpstreamError(FaultKind.FIRST_EVENT_TIMEOUT, f"the request was not taken for {self._write_s:g} s")
        if self.first_deadline_s == math.inf and silent_s >= self._idle_s:
            return UpstreamError(FaultKind.IDLE, f"silent for {self._idle_s:g} s", status=self.status)
        return None
