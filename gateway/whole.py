"""``stream: false``: the same loop, the same upstream stream, one Response object at the end.

Nothing goes down before the end is known, so every failure is a proper HTTP status. What is learned of a stream on
its way (usage, whose the sealed parts are, how it ended) is learned here too: the next turn of the conversation may
be routed by it.
"""

from __future__ import annotations

from gateway.aggregate import Aggregator
from gateway.attribution import end_of, outcome_of, verdict_of
from gateway.departure import Departure, Receive
from gateway.errors import GatewayError, from_upstream
from gateway.exchange import Exchange
from gateway.middleware import Scope, Send
from gateway.ownership import Ownership
from gateway.relay import OpenedStream, Relay
from gateway.streaming import relay_headers
from gateway.types import RelayRequest
from ops.clock import Clock
from router.types import CANCELLED
from upstream.errors import FaultKind, UpstreamError
from upstream.sse import Terminal, find_terminal
from upstream.usage import usage_of


class WholeRelay:
    """Answers one request with one JSON object."""

    def __init__(self, relay: Relay, ownership: Ownership, clock: Clock) -> None:
        self._relay = relay
        self._ownership = ownership
        self._clock = clock

    async def answer(
        self, request: RelayRequest, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Raises GatewayError for every failure, ClientGone when the client has left.

        Cancel: the upstream is closed at once and nobody is blamed.
        """
        with Departure(scope, receive):
            body = await self._collect(request, exchange)
        exchange.status = 200
        exchange.bytes_out = len(body)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *relay_headers(exchange),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _collect(self, request: RelayRequest, exchange: Exchange) -> bytes:
        """The Response object as JSON. The upstream is closed and the account released when it returns."""
        opened = await self._relay.open(request, exchange)
        outcome, exchange.end = CANCELLED, "client_gone"
        try:
            aggregator = Aggregator(request.echo)
            terminal = await self._read(opened, aggregator)
            exchange.usage = usage_of(terminal.data)
            outcome, exchange.end = verdict_of(terminal, request.model, self._clock.now_s())
            return aggregator.result()
        except UpstreamError as error:
            outcome, exchange.end = outcome_of(error, request.model), end_of(error)
            raise from_upstream(error, self._clock.now_s(), request.model) from error
        except GatewayError:
            if outcome is CANCELLED:  # an event that is not understood; otherwise the verdict on the end stands
                exchange.end = FaultKind.PROTOCOL.value
            raise
        finally:
            opened.response.close()
            opened.lease.release(outcome)

    async def _read(self, opened: OpenedStream, aggregator: Aggregator) -> Terminal:
        """Feeds the stream to its terminal event. Raises UpstreamError, also when there is none."""
        block: bytes | None = opened.held
        while block != b"":
            terminal = None if block is None else self._look_at(block, opened, aggregator)
            if terminal is not None:
                opened.response.expect_end()
                return terminal
            block = await opened.response.next_block()
        raise UpstreamError(FaultKind.TRUNCATED, "the stream ended without a terminal event")

    def _look_at(self, block: bytes, opened: OpenedStream, aggregator: Aggregator) -> Terminal | None:
        aggregator.feed(block)
        if b'"encrypted_content"' in block:
            self._ownership.learn(opened.request, opened.lease.account.id, block)
        return find_terminal(block)
