"""How does one HTTP/1.1 connection behave?

    idle --start--> head --on_headers_complete--> body --on_message_complete--> idle (clean) or closed
                      |                             |
                      +----- error, deadline, abort-+--> closed

A Connection owns the transport and the parser; the Exchange that it serves owns what the answer has brought. At the
last byte of the message the connection lets go of the exchange, so no reader ever sees a byte of the next answer.
Rules that hold:

* any doubt about framing closes the connection: leftover bytes, an unfinished request, an ambiguous length;
* bytes on an idle connection are nobody's answer: discarded with the connection, and counted;
* the parser's callbacks never raise; a fault is noted and dealt with after the feed;
* no timer here: the pool's sweep calls ``check`` with the time.

llhttp (httptools) refuses what RFC 9112 calls ambiguous (CL with TE, two CL, folded fields, bare CR or LF, control
characters); what it lets pass is refused here (other transfer codings, HTTP/2.0 status lines, limits).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol, cast

import httptools

from upstream.dial import Origin
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.types import RawHeaders, Timeouts

MAX_HEADER_FIELDS: Final = 100
MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_INTERIM: Final = 10
_JOIN_BELOW: Final = 64 * 1024


class Keeper(Protocol):
    """Who keeps connections: told once per message and once per loss."""

    def settled(self, connection: Connection, reusable: bool) -> None: ...

    def lost(self, connection: Connection) -> None: ...

    def desynced(self) -> None: ...


class Connection(asyncio.Protocol):
    """One connection to ``origin``; at most one exchange at a time."""

    __slots__ = (
        "_chunked", "_done", "_exchange", "_fault", "_fields", "_head_bytes", "_inbox", "_interim", "_keep", "_keeper",
        "_leftover", "_mine", "_parser", "_tail", "_transport", "_until_close", "idle_since_s", "on_body", "origin",
        "served",
    )  # fmt: skip

    def __init__(self, origin: Origin, keeper: Keeper) -> None:
        self.origin = origin
        self.idle_since_s = 0.0
        self.served = 0  # complete messages so far
        self._keeper = keeper
        self._transport: asyncio.Transport | None = None
        # what the parser finds goes straight into a list: a stream has many small chunks, and a call for each is dear
        self._inbox: list[bytes] = []
        self.on_body = self._inbox.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._reset()

    def _reset(self) -> None:
        self._fields = 0
        self._head_bytes = 0
        self._interim = 0
        self._done = False
        self._mine = 0  # pieces in the inbox that belong to a message that is complete
        self._leftover = False
        self._until_close = False
        self._chunked = False
        self._keep = False
        self._tail = b""
        self._fault: UpstreamError | None = None

    # what the pool calls

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    def start(self, head: bytes, body: Sequence[bytes], timeouts: Timeouts, started_s: float) -> Exchange:
        """Writes a request. The transport keeps what the peer does not take yet, and the sweep watches it."""
        transport = self._transport
        assert transport is not None
        assert self._exchange is None
        exchange = self._exchange = Exchange(self, timeouts, started_s)
        if sum(map(len, body)) <= _JOIN_BELOW:
            transport.write(b"".join((head, *body)))
        else:
            transport.writelines((head, *body))
        return exchange

    def check(self, now_s: float) -> None:
        """Ends the exchange when a deadline has passed."""
        exchange = self._exchange
        if exchange is not None and self._transport is not None:
            unwritten = 0 if exchange.status else self._transport.get_write_buffer_size()
            error = exchange.overdue(now_s, unwritten)
            if error is not None:
                self._fail(error)
            else:
                exchange.nudge_if_due(now_s)

    def close(self) -> None:
        """For idle connections: closes without ceremony."""
        if self._transport is not None:
            self._transport.abort()

    # what the exchange calls

    def abandon(self) -> None:
        self._exchange = None
        self.close()

    def resume_reading(self) -> None:
        if self.usable:
            cast("asyncio.Transport", self._transport).resume_reading()

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            self._unasked()
            return
        exchange.heard = True
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._done:
                self._leftover = True
            elif self._fault is None:
                self._fault = UpstreamError(
                    FaultKind.PROTOCOL, f"not HTTP/1.1: {error}"[:120], status=exchange.status or None
                )
        if self._inbox:
            self._deliver(exchange)
        if self._fault is not None:
            self._fail(self._fault)
        elif self._done:
            self._finish(exchange, data)
        elif exchange.status:
            exchange.wake_reader()
        else:
            exchange.received += len(data)
            if exchange.received > MAX_HEAD_BYTES:
                self._fail(UpstreamError(FaultKind.PROTOCOL, "the answer's head is too large"))

    def eof_received(self) -> None:
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc)
        self._parser = None  # the two hold each other
        self._transport = None
        self._keeper.lost(self)

    # what the parser calls

    def on_message_begin(self) -> None:
        if self._done:
            self._leftover = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._head_bytes += len(name) + len(value) + 4
        if self._fields > MAX_HEADER_FIELDS or self._head_bytes > MAX_HEAD_BYTES:
            self._fault = UpstreamError(FaultKind.PROTOCOL, "too many header fields, or too large")
        elif self._exchange is not None and not self._exchange.status and not self._done:
            self._exchange.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None or self._done or self._fault is not None:
            return
        status = parser.get_status_code()
        if status < 200:
            exchange.headers.clear()
            self._interim += 1
            if status == 101 or self._interim > _MAX_INTERIM:
                self._fault = UpstreamError(FaultKind.PROTOCOL, f"unasked status {status}", status=status)
            return
        self._fault = self._framing(parser.get_http_version(), status, exchange.headers)
        if self._fault is None:
            exchange.status = status
            exchange.wake()

    def on_message_complete(self) -> None:
        if self._exchange is not None and self._exchange.status and self._parser is not None and not self._done:
            self._done = True
            self._mine = len(self._inbox)
            self._keep = self._parser.should_keep_alive()  # llhttp forgets after this call

    # what follows from it

    def _deliver(self, exchange: Exchange) -> None:
        """Hands on what one read has brought of the body; pieces behind the end of the message are nobody's."""
        inbox = self._inbox
        mine = inbox[: self._mine] if self._done else inbox
        if mine:
            tail = mine[-1]
            if not self._chunked:  # only where the end of the message is known by nothing else
                self._tail = tail
            if exchange.arrived(tail if len(mine) == 1 else b"".join(mine)) and self._transport is not None:
                self._transport.pause_reading()
        inbox.clear()

    def _framing(self, version: str, status: int, headers: RawHeaders) -> UpstreamError | None:
        if version not in ("1.1", "1.0"):
            return UpstreamError(FaultKind.PROTOCOL, f"HTTP/{version[:5]} on an HTTP/1.1 connection", status=status)
        length, coding = False, b""
        for name, value in headers:
            if name == b"content-length":
                length = True
            elif name == b"transfer-encoding":
                coding = coding + b"," + value if coding else value
        if coding and (coding.lower() != b"chunked" or version == "1.0"):
            return UpstreamError(FaultKind.PROTOCOL, "a transfer coding other than chunked", status=status)
        self._chunked = bool(coding)
        self._until_close = not length and not coding and status not in (204, 304)
        return None

    def _finish(self, exchange: Exchange, data: bytes) -> None:
        """The message is complete. The connection is used again only when that is beyond doubt."""
        transport = self._transport
        assert transport is not None
        # the last bytes read must be the message's own: llhttp swallows empty lines behind a message in silence
        if self._chunked:
            exact = data.endswith(b"\r\n0\r\n\r\n") or data == b"0\r\n\r\n"
        else:
            exact = data.endswith(self._tail or b"\r\n\r\n")
        if self._leftover:
            self._keeper.desynced()
        reusable = (
            exact
            and not self._leftover
            and self._keep
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )
        self._exchange = None
        self._reset()
        self.served += 1
        exchange.end(None)
        if not reusable:
            transport.abort()
        elif exchange.paused:
            transport.resume_reading()
        self._keeper.settled(self, reusable)

    def _unasked(self) -> None:
        if self.usable:
            self._keeper.desynced()
            self.close()

    def _ended(self, exc: Exception | None) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.status and self._until_close and exc is None:
            self._exchange = None
            exchange.end(None)
        elif exchange.status:
            self._fail(
                UpstreamError(FaultKind.TRUNCATED, "the connection ended inside the answer", status=exchange.status)
            )
        else:
            fresh = not self.served or exchange.received or self._interim
            why = "the connection ended before an answer"
            self._fail(UpstreamError(FaultKind.LOST, why, reused=not fresh))

    def _fail(self, error: UpstreamError) -> None:
        exchange, self._exchange = self._exchange, None
        self.close()
        if exchange is not None:
            exchange.end(error)
