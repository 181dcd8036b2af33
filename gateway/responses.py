"""``POST /v1/responses``: read, parse, admit, relay. Also what the Codex CLI asks of the same path.

A WebSocket upgrade is answered 426 by the gateway itself: the one answer that the CLI takes silently, falling back
to HTTP for the session. ``stream: false`` runs through the same loop and is put together at the end.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from auth.errors import LimitExceeded
from auth.limits import CallerLimits
from gateway.aggregate import Aggregator
from gateway.attribution import outcome_of
from gateway.departure import Departure, Receive
from gateway.errors import GatewayError, from_limit, from_upstream
from gateway.exchange import Exchange, exchange_of
from gateway.middleware import Scope, Send
from gateway.parse import RequestParser
from gateway.relay import Relay
from gateway.streaming import StreamingRelay, relay_headers
from gateway.types import RelayRequest
from router.types import CANCELLED, OK
from upstream.errors import UpstreamError
from upstream.sse import find_terminal
from upstream.usage import usage_of


class ResponsesEndpoint:
    """The ASGI endpoint of every path that takes a model call."""

    def __init__(self, parser: RequestParser, limits: CallerLimits, streaming: StreamingRelay, relay: Relay) -> None:
        self._parser = parser
        self._limits = limits
        self._streaming = streaming
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "responses"
        if scope["method"] != "POST":
            raise _wrong_method(scope)
        caller = exchange.caller
        assert caller is not None
        request = await self._parser.parse(scope, receive, exchange)
        exchange.model, exchange.stream, exchange.adaptations = request.model, request.stream, request.adaptations
        try:
            admission = self._limits.admit(caller)
        except LimitExceeded as error:
            raise from_limit(error) from error
        try:
            if request.stream:
                await self._streaming.answer(request, exchange, receive, send)
            else:
                await self._answer_whole(request, exchange, receive, send)
        finally:
            admission.release()

    async def _answer_whole(self, request: RelayRequest, exchange: Exchange, receive: Receive, send: Send) -> None:
        async with Departure(receive):
            body = await self._collect(request, exchange)
        exchange.status, exchange.end = 200, "completed"
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
        """The whole Response object as JSON. The upstream is closed and the account released when it returns."""
        opened = await self._relay.open(request, exchange)
        outcome = CANCELLED
        try:
            aggregator = Aggregator(request.echo)
            block: bytes | None = opened.held
            while block:
                aggregator.feed(block)
                terminal = find_terminal(block)
                if terminal is not None:
                    exchange.usage = usage_of(terminal.data)
                    opened.response.expect_end()
                    break
                block = await opened.response.next_block()
            outcome = OK
            return aggregator.result()
        except UpstreamError as error:
            outcome = outcome_of(error, request.model)
            raise from_upstream(error) from error
        finally:
            opened.response.close()
            opened.lease.release(outcome)


def _wrong_method(scope: MutableMapping[str, Any]) -> GatewayError:
    upgrade = any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])
    if scope["method"] == "GET" and upgrade:
        return GatewayError.upgrade_required()
    return GatewayError.method_not_allowed("POST")
