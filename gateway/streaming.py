"""Down to the client: COMMIT, then whole events only, in order, bytes unchanged, until the end.

Rules that hold:

* the first byte goes down after the relay loop has found the first events good; from then on nothing is retried;
* blocks are whole events as the upstream wrote them; a heartbeat goes between blocks, never inside an event;
* a stream that dies upstream gets one ``response.failed`` with the next sequence number, and the end: SDKs take a
  silent end for success, the Codex CLI ignores a bare ``error``;
* ``send`` is awaited before the next block is read, so a slow reader slows the upstream and memory stays bounded;
* the account is released, and the exchange filled in, exactly once, by code that cannot be interrupted.

Two ways lead down. The long way is the loop of :meth:`Pump.run`: it wakes for every block and awaits ``send``. The
short way is :meth:`Pump.pour`: while that loop waits, a block of plain events is looked at and written by the very
callback that read it, as long as the client takes what is written. Everything else (a slow reader, the terminal
event, sealed parts, silence, faults, departures) finds the loop waiting and is its business. Only the connection of
our own server offers the short way.

Heartbeats: a comment for SDK clients; for Codex clients a data event of a type that they skip, because a comment
does not reset their idle timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Protocol

from gateway.attribution import end_of, outcome_of, verdict_of
from gateway.departure import CONNECTION_KEY, Departure, Receive
from gateway.errors import GatewayError, failed_event, stream_failure
from gateway.exchange import Exchange
from gateway.ownership import Ownership
from gateway.relay import OpenedStream, Relay
from gateway.revocation import RunningRequests
from gateway.types import Dialect, RelayRequest
from ops.clock import Clock
from router.types import CANCELLED, Outcome
from upstream.errors import FaultKind, UpstreamError
from upstream.sse import Terminal, count_numbered, find_terminal, is_plain, last_sequence_number, sequence_numbers
from upstream.usage import usage_of

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEARTBEAT: Final = {
    Dialect.SDK: b": keepalive\n\n",
    Dialect.CODEX: b'event: keepalive\ndata: {"type":"keepalive"}\n\n',
}
_OUR_ENDS: Final = {"revoked": GatewayError.key_revoked, "draining": GatewayError.draining}
CLOSELY: Final = 16
"""Blocks of up to so many events are read number by number."""
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-store"),
    (b"x-accel-buffering", b"no"),
]


class StreamingRelay:
    """Answers one request as a stream of server-sent events."""

    def __init__(
        self, relay: Relay, ownership: Ownership, running: RunningRequests, heartbeat_s: float, clock: Clock
    ) -> None:
        self._relay = relay
        self._ownership = ownership
        self._running = running
        self._heartbeat_s = heartbeat_s
        self._clock = clock

    async def answer(
        self, request: RelayRequest, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Opens, commits, pumps, ends.

        Raises GatewayError while nothing has gone down, ClientGone when the client has left. Cancel: the upstream
        is closed at once and nobody is blamed; the client is told by ``response.failed`` if it still listens.
        """
        with Departure(scope, receive) as departure:
            opened = await self._relay.open(request, exchange)
            request.let_go()
            scope.get("headers", []).clear()
            pump = Pump(opened, exchange, self._ownership, self._clock, scope.get(CONNECTION_KEY))
            try:
                await pump.run(send, self._heartbeat_s)
            except asyncio.CancelledError:
                end = "revoked" if self._running.revoked() else "client_gone" if departure.gone else "draining"
                pump.cut(end)
                if end not in _OUR_ENDS or pump.ended:
                    raise
                await pump.say(send, _OUR_ENDS[end]())
            finally:
                pump.settle()


class Spout(Protocol):
    """The client's connection, where it is our own server's."""

    def push(self, piece: bytes) -> bool: ...


class Pump:
    """One committed stream. ``settle`` is synchronous, idempotent, and always runs last."""

    __slots__ = (
        "_clock", "_end", "_exchange", "_number", "_opened", "_outcome", "_ownership", "_push", "_response",
        "_terminal",
    )  # fmt: skip

    def __init__(
        self, opened: OpenedStream, exchange: Exchange, ownership: Ownership, clock: Clock, spout: Spout | None = None
    ) -> None:
        self._opened = opened
        self._response = opened.response
        self._exchange = exchange
        self._ownership = ownership
        self._clock = clock
        self._number = -1
        self._terminal: Terminal | None = None
        self._outcome: Outcome = CANCELLED
        self._end = "client_gone"
        self._push = None if spout is None else spout.push

    async def run(self, send: Send, heartbeat_s: float) -> None:
        exchange, response = self._exchange, self._response
        exchange.status = 200
        exchange.first_event_s = self._clock.monotonic_s()
        await send({"type": "http.response.start", "status": 200, "headers": self._headers()})
        response.forget_head()
        block: bytes | None = self._opened.held
        self._opened.held = b""
        heartbeat = HEARTBEAT[self._opened.request.dialect]
        if self._push is not None:
            response.pour(self.pour)
        try:
            while block != b"":
                if block is None:
                    await send({"type": "http.response.body", "body": heartbeat, "more_body": True})
                else:
                    self._look_at(block)
                    if self._terminal is not None:
                        await self._finish(send, block)
                        return
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                block = await response.next_block(heartbeat_s)
            error = UpstreamError(FaultKind.TRUNCATED, "the stream ended without a terminal event")
        except UpstreamError as fault:
            error = fault
        await self._fail(send, error)

    async def _finish(self, send: Send, block: bytes) -> None:
        """The block with the terminal event, whatever has come behind it by now, and the end: in one message."""
        try:
            while more := await self._response.next_block():
                self._exchange.bytes_out += len(more)
                block += more
        except UpstreamError:
            pass  # the response itself is whole; how its connection ended is nobody's concern
        await send({"type": "http.response.body", "body": block, "more_body": False})

    def _look_at(self, block: bytes) -> None:
        """Reads what we must know of a block that is about to go down; never changes it."""
        self._count(block)
        if block.find(b'"encrypted_content"') >= 0:
            self._ownership.learn(self._opened.request, self._opened.lease.account.id, block)
        terminal = find_terminal(block)
        if terminal is not None:
            self._terminal = terminal
            self._exchange.usage = usage_of(terminal.data)
            self._outcome, self._end = verdict_of(terminal, self._opened.request.model, self._clock.now_s())
            self._response.expect_end()

    def pour(self, block: bytes) -> bool:
        """The short way down: True when the block is written, False when nothing has happened."""
        if self._push is None or not is_plain(block) or not self._push(block):
            return False
        self._count(block)
        return True

    def _count(self, block: bytes) -> None:
        exchange = self._exchange
        exchange.bytes_out += len(block)
        count, last = count_numbered(block), last_sequence_number(block)
        exchange.events += count
        if last is not None:
            # in a large burst, whose numbers add up, a swap inside is not looked for
            if last != self._number + count or 1 < count <= CLOSELY:
                self._check_order(block)
            self._number = last

    def _check_order(self, block: bytes) -> None:
        """Whether the numbers of this block are simply the next ones; a stream may begin at any number."""
        before = self._number
        for number in sequence_numbers(block):
            if number != before + 1 and before >= 0:
                self._exchange.disordered = True
            before = number

    async def _fail(self, send: Send, error: UpstreamError) -> None:
        """Says honestly that the stream is over: one ``response.failed``, never a forged ``completed``."""
        self._outcome, self._end = outcome_of(error, self._opened.request.model), end_of(error)
        await self._say_failed(send, *stream_failure(error))

    def cut(self, end: str) -> None:
        """Says why a stream ended early; one whose terminal event has gone down has ended as that says."""
        if self._terminal is None:
            self._end = end

    @property
    def ended(self) -> bool:
        """The terminal event is here; when it could not go down any more, nothing may look like a good end."""
        return self._terminal is not None

    async def say(self, send: Send, error: GatewayError) -> None:
        """We end the stream: the upstream is closed, then the client is told."""
        self.settle()
        await self._say_failed(send, error.code, error.message)

    async def _say_failed(self, send: Send, code: str, message: str) -> None:
        self._exchange.error_code = code
        event = failed_event(code, message, self._number + 1, self._opened.request.model)
        await send({"type": "http.response.body", "body": event, "more_body": False})

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [*_STREAM_HEADERS, *self._response.headers, *relay_headers(self._exchange)]

    def settle(self) -> None:
        exchange = self._exchange
        if self._push is not None:
            self._push = None
            self._response.pour(None)
        self._response.close()
        self._opened.lease.release(self._outcome)
        exchange.end = self._end


def relay_headers(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    """What we say about ourselves on every relayed answer."""
    headers = [
        (b"x-request-id", exchange.id.encode()),
        (b"x-relay-attempts", str(exchange.attempts).encode()),
    ]
    if exchange.account_id:
        headers.append((b"x-relay-account", exchange.account_id.encode()))
    if exchange.moved:
        headers.append((b"x-relay-moved", b"1"))
    if exchange.adaptations:
        headers.append((b"x-relay-adapted", ", ".join(exchange.adaptations).encode()))
    headers += exchange.extra_headers
    return headers
