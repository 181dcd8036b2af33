"""One client connection: uvicorn's httptools protocol with the deadlines and the strictness that it lacks.

Rules that hold:

* a whole request head arrives within ``header_timeout_s`` of the connection or of its first byte, or it is cut;
* a body makes progress (idle time, and an average rate once it is ``RATE_GRACE_S`` old) while we are ready to read;
* a client that takes no byte of what we wrote for ``write_stall_s`` is cut;
* one request is in work at a time: what comes behind an unanswered one is not read, and the connection ends with
  the answer, so that nobody can hide a second request behind the first;
* a FIN is a departure: the application hears of it at once;
* a refusal of the parser is JSON like every other; into an answer that has begun nothing is ever written;
* an answer given before the body was read is followed by a short read of the rest, so that the client sees it
  instead of a reset; then the connection ends.

Deadlines cost nothing per request: one sweep per process looks at all connections once a tick. Trailer fields are
dropped: they would arrive behind the application's back. An Upgrade is passed on as a plain request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.cycle import Bell, LeanFlow, RelayCycle
from gateway.departure import CONNECTION_KEY
from gateway.errors import GatewayError, body, headers
from gateway.intake import WORTH_BYTES, Intake, reuse_freed_memory
from gateway.outlet import Outlet
from gateway.sweep import Sweep
from ops.clock import Clock

ProtocolClass = type[HttpToolsProtocol]

RATE_GRACE_S: Final = 20.0
LONGEST_URL_BYTES: Final = 65_535
CUT_KEY: Final = "codex_relay.cut"
"""In the scope of a request whose connection was cut: ``body_timeout`` or ``client_stalled``."""


@dataclass(frozen=True, slots=True)
class ConnectionValues:
    """Bounds of one client connection; ``tick_s`` is how often they are looked at."""

    header_timeout_s: float
    max_header_bytes: int
    body_idle_timeout_s: float
    body_min_bytes_per_s: int
    write_stall_s: float
    keep_alive_s: float = 75.0
    linger_s: float = 2.0
    linger_bytes: int = 2 * 1024 * 1024
    tick_s: float = 0.5


class Phase(IntEnum):
    IDLE = 0  # between requests: the keep-alive timer holds
    HEAD = 1  # a head is awaited (fresh connection) or arriving
    BODY = 2  # the head is complete, the body is not
    SERVING = 3  # the whole request is here
    DEAF = 4  # nothing more is read as a request; the connection ends with the answer
    LINGERING = 5  # answered; the rest of the body is read and thrown away for a moment


class RelayConnection(HttpToolsProtocol):
    """See the module. ``values``, ``clock`` and ``sweep`` are set by ``make_protocol``."""

    values: ConnectionValues
    clock: Clock
    sweep: Sweep

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.pipeline = ()  # type: ignore[assignment]  # nothing is ever queued behind a request
        self._phase = Phase.HEAD
        self._since_s = self.clock.monotonic_s()
        self._progress_s = self._since_s
        self._arrived = 0  # bytes of the head, the body or the lingering rest
        self._seen = 0  # of them, at the last look
        self._taken = 0  # bytes that the client had taken at the last look
        self._taken_s = self._since_s
        self._stuck = False  # something was unsent at the last look
        self.on_departure: Callable[[], None] | None = None
        self._socket: asyncio.Transport | None = None
        self._outlet: Outlet | None = None
        self._intake: Intake | None = None

    # -- the transport's side ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the base has it
        super().connection_made(transport)
        self.flow = LeanFlow(transport)
        self._socket = transport
        self._outlet = Outlet(transport, self)
        self.transport = self._outlet  # type: ignore[assignment]  # the part that the base uses
        self.sweep.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.sweep.discard(self)
        self._phase = Phase.DEAF
        self._tell_departure()
        super().connection_lost(exc)
        # what holds each other is parted here: its memory is free at once, not at the next collection
        if self._outlet is not None:
            self._outlet.part()
        self._intake = None
        self.cycle = self.scope = None  # type: ignore[assignment]  # nothing asks for them any more

    def eof_received(self) -> None:
        """The client is gone, or says that it will not listen to us for long; both are a departure."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.drop()

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase >= Phase.DEAF:
            self._discard(data)
            return
        if phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        if self._phase is Phase.HEAD:
            self._arrived += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._go_deaf()
        except httptools.HttpParserError:
            if self._phase < Phase.DEAF:
                self._refuse(GatewayError("invalid_request", "This is not a valid HTTP/1.1 request.", close=True))
        else:
            if self._phase is Phase.HEAD and self._arrived > self.values.max_header_bytes:
                limit = self.values.max_header_bytes
                self._refuse(GatewayError("headers_too_large", f"The header is larger than {limit} bytes.", close=True))

    # -- the parser's side ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._go_deaf()
            raise ValueError("a request behind an unanswered one")
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is not Phase.BODY:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) > LONGEST_URL_BYTES:
            self._refuse(
                GatewayError("uri_too_long", f"The path is longer than {LONGEST_URL_BYTES} bytes.", close=True)
            )
            raise ValueError("a path that the parser cannot take apart")
        self._enter(Phase.BODY)
        if self._outlet is not None:
            self._outlet.expects_head = True
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """Completes the scope and starts the application; the base's work without what is turned off here."""
        parser = self.parser
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # with a key of our own
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        version = parser.get_http_version()
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope[CONNECTION_KEY] = self
        self.cycle = RelayCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=Bell(),  # type: ignore[arg-type]  # the part of an Event that a cycle uses
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def on_body(self, body: bytes) -> None:
        self._arrived += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._phase = Phase.SERVING
        super().on_message_complete()

    # -- long bodies ------------------------------------------------------------------------------------------

    def take_body(self, length: int) -> bool:
        """Reads the rest of the body, which has ``length`` bytes in all, past the parser; False when that does not pay.

        The cycle's ``body`` is whole when ``more_body`` is no longer set.
        """
        if self._intake is not None:
            return True
        left = length - self._arrived
        if self._phase is not Phase.BODY or self._socket is None or left < WORTH_BYTES:
            return False
        self._intake = Intake(self, self.cycle.body, left + len(self.cycle.body))
        self._socket.set_protocol(self._intake)
        self.flow.resume_reading()
        return True

    def body_progress(self, size: int) -> None:
        self._arrived += size

    def body_taken(self, body: bytearray) -> None:
        self._end_intake()
        self.parser = httptools.HttpRequestParser(self)  # the old one still waits for the body
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the base does
        self._phase = Phase.SERVING
        self.cycle.body = body
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _end_intake(self) -> None:
        if self._intake is not None and self._socket is not None:
            self._intake = None
            self._socket.set_protocol(self)

    def on_response_complete(self) -> None:
        """The sweep ends idle connections, so no timer is set; nothing is ever queued behind a request."""
        self.server_state.total_requests += 1
        if self._outlet is not None:
            self._outlet.flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._phase is Phase.SERVING:
            self._enter(Phase.IDLE)
        elif self._phase is Phase.BODY:
            self.finish()  # answered without the body: never kept alive

    def send_400_response(self, msg: str) -> None:
        self._refuse(GatewayError("invalid_request", msg, close=True))

    # -- deadlines --------------------------------------------------------------------------------------------

    def check(self, now_s: float) -> None:
        """Cuts the connection when it is past a deadline; called by the sweep."""
        values = self.values
        age_s = now_s - self._since_s + values.tick_s
        if self._phase is Phase.HEAD:
            if age_s >= values.header_timeout_s:
                self._refuse(_timeout("The request's header did not arrive in time."), quiet=not self._arrived)
                return
        elif self._phase is Phase.BODY:
            if self._body_is_late(now_s):
                self._cut("body_timeout", _timeout("The request's body stopped arriving."))
                return
        elif self._phase is Phase.LINGERING and age_s >= values.linger_s:
            self._abort()
            return
        elif self._phase is Phase.IDLE and age_s >= values.keep_alive_s:
            self.finish()
            return
        self._check_writes(now_s)

    def _body_is_late(self, now_s: float) -> bool:
        if self._arrived != self._seen or self.flow.read_paused:
            if self.flow.read_paused:
                self._since_s += self.values.tick_s  # we make it wait, so the time does not count
            self._seen, self._progress_s = self._arrived, now_s
        if now_s - self._progress_s + self.values.tick_s >= self.values.body_idle_timeout_s:
            return True
        age_s = now_s - self._since_s
        return age_s > RATE_GRACE_S and self._arrived < age_s * self.values.body_min_bytes_per_s

    def _check_writes(self, now_s: float) -> None:
        assert self._socket is not None
        assert self._outlet is not None
        unsent = self._socket.get_write_buffer_size()
        taken = self._outlet.written - unsent
        if not unsent or taken != self._taken or not self._stuck:
            self._taken, self._taken_s, self._stuck = taken, now_s, bool(unsent)
        elif now_s - self._taken_s + self.values.tick_s >= self.values.write_stall_s:
            self._cut("client_stalled", None)

    # -- endings ----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Ends the connection after what is written has gone out; reads the rest of a body for a moment first."""
        assert self._socket is not None
        if self._socket.is_closing() or self._phase is Phase.LINGERING:
            return
        if self._phase is not Phase.BODY:
            self._socket.close()
            return
        self._enter(Phase.LINGERING)
        self.flow.resume_reading()
        if self._socket.can_write_eof():
            self._socket.write_eof()

    def _discard(self, data: bytes) -> None:
        self._arrived += len(data)
        if self._arrived > self.values.linger_bytes:
            self._abort()

    def _refuse(self, error: GatewayError, *, quiet: bool = False) -> None:
        """Answers for the parser, unless an answer has begun or nobody has asked anything."""
        cycle = self.cycle
        busy = cycle is not None and not cycle.response_complete
        if (busy and cycle.response_started) or quiet:
            self.drop()
            return
        if busy:
            self._depart()
        assert self._socket is not None
        content = body(error)
        fields = b"".join(b"%s: %s\r\n" % field for field in headers(error, len(content)))
        self._socket.write(STATUS_LINE[error.status] + fields + b"\r\n" + content)
        self._phase = Phase.BODY  # whatever comes is the rest of what was refused
        self.finish()

    def _cut(self, why: str, error: GatewayError | None) -> None:
        if self.scope is not None:
            self.scope[CUT_KEY] = why  # type: ignore[typeddict-unknown-key]  # our own key
        if error is None:
            self.drop()
        else:
            self._refuse(error)

    def drop(self) -> None:
        """Drops the connection at once; the application hears of a disconnect."""
        self._depart()
        self._abort()

    def push(self, piece: bytes) -> bool:
        """Writes a piece of the streamed answer at once. False, nothing written: ``send`` is the way, it may wait."""
        cycle = self.cycle
        if self.flow.write_paused or not cycle.chunked_encoding or cycle.response_complete or cycle.disconnected:
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True

    def _depart(self) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            self._tell_departure()
            self.flow.resume_writing()

    @property
    def departed(self) -> bool:
        """Whether the client of the request in work is gone."""
        return self.cycle is None or self.cycle.disconnected or (self._socket is not None and self._socket.is_closing())

    def _tell_departure(self) -> None:
        told, self.on_departure = self.on_departure, None
        if told is not None:
            told()

    def _abort(self) -> None:
        if self._socket is not None:
            self._socket.abort()

    def _go_deaf(self) -> None:
        self._enter(Phase.DEAF)
        self.cycle.keep_alive = False

    def _enter(self, phase: Phase) -> None:
        if self._intake is not None:
            self._end_intake()
        self._phase = phase
        self._arrived = self._seen = 0
        self._since_s = self._progress_s = self.clock.monotonic_s()


def _timeout(message: str) -> GatewayError:
    return GatewayError("request_timeout", message, close=True)


def make_protocol(values: ConnectionValues, clock: Clock) -> ProtocolClass:
    """The protocol class for ``uvicorn.Config(http=...)``; all its connections share one sweep."""
    reuse_freed_memory()
    bound = {"values": values, "clock": clock, "sweep": Sweep(values.tick_s, clock)}
    return type("BoundRelayConnection", (RelayConnection,), bound)
