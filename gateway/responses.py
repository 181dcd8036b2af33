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
                await self._streaming.answer(request, exchange, scope, receive, send)
            else:
                await self._answer_whole(request, exchange, scope, receive, send)
        finally:
            admission.release()


def _wrong_method(scope: MutableMapping[str, Any]) -> GatewayError:
    upgrade = any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])
    if scope["method"] == "GET" and upgrade:
        return GatewayError.upgrade_required()
    return GatewayError.method_not_allowed("POST")
