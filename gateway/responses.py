"""``POST /v1/responses``: read, parse, admit, relay. Also what the Codex CLI asks of the same path.

A WebSocket upgrade is answered 426 by the gateway itself: the one answer that the CLI takes silently, falling back
to HTTP for the session. ``stream: false`` runs through the same loop and is put together at the end.

From admission to the end a request holds what it must give back whatever happens: its place under the caller's
limits, its idempotency key, its entry among the running requests of its key.

A call whose ``x_codex`` object wishes for a sandbox is answered by a run instead (gateway.x_codex); its place under
the limits is given back when the run begins, because each of the run's own model calls takes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from auth.errors import LimitExceeded
from auth.fleet_limits import FleetLimits
from auth.keys import TASK_SCOPE
from auth.limits import Admission, CallerLimits
from auth.types import Caller
from gateway import idempotency
from gateway.budget import TaskBudgets
from gateway.departure import ClientGone, Receive
from gateway.errors import GatewayError, from_limit
from gateway.exchange import Exchange, exchange_of
from gateway.fleet import FleetGate
from gateway.guard import values_of
from gateway.idempotency import Claim, IdempotencyGate
from gateway.middleware import Scope, Send, caller_with
from gateway.parse import RequestParser
from gateway.protocol import CUT_KEY
from gateway.revocation import RunningRequests
from gateway.streaming import StreamingRelay
from gateway.types import RelayRequest
from gateway.whole import WholeRelay
from gateway.x_codex.wish import Wish, switched_off, wish_of

TASK_PATH: Final = "/v1/responses"


@dataclass(frozen=True, slots=True)
class Gates:
    """What a call passes before it is relayed. ``fleet``: what other hosts must agree to; None: there are none.
    ``budgets``: those of tasks; None: a task's key opens nothing."""

    limits: CallerLimits | FleetLimits
    idempotency: IdempotencyGate
    running: RunningRequests
    on_shed: Callable[[str], None]
    fleet: FleetGate | None = None
    budgets: TaskBudgets | None = None


class Runs(Protocol):
    """What answers a wish (gateway.x_codex.run)."""

    def check(self, wish: Wish, caller: Caller) -> None: ...

    async def answer(
        self, wish: Wish, request: RelayRequest, exchange: Exchange, scope: Scope, receive: Receive, send: Send
    ) -> None: ...


class ResponsesEndpoint:
    """The ASGI endpoint of every path that takes a model call. Without ``runs`` every wish for a sandbox is refused."""

    def __init__(
        self,
        parser: RequestParser,
        gates: Gates,
        streaming: StreamingRelay,
        whole: WholeRelay,
        runs: Runs | None = None,
    ) -> None:
        self._runs = runs
        self._parser = parser
        self._gates = gates
        self._streaming = streaming
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "responses"
        if scope["method"] != "POST":
            raise _wrong_method(scope)
        caller = self._caller(exchange)
        request = await self._parser.parse(scope, receive, exchange)
        exchange.model, exchange.stream, exchange.adaptations = request.model, request.stream, request.adaptations
        wish = None if request.adapted.extension is None else self._wish(request.adapted.extension, caller)
        claim = self._claim(caller, scope)
        if self._gates.fleet is not None:
            await self._gates.fleet.agree(caller, claim)
        admission = self._admit(caller, exchange, claim)
        running = self._gates.running
        task = running.enter(caller.key_id)
        try:
            answerer = self._streaming if request.stream else self._whole
            if wish is not None and self._runs is not None:
                admission.release()
                await self._runs.answer(wish, request, exchange, scope, receive, send)
            elif TASK_SCOPE not in caller.scopes:
                await answerer.answer(request, exchange, scope, receive, send)
            elif (budgets := self._gates.budgets) is not None:
                async with budgets.held(caller.key_id, request, exchange):
                    await answerer.answer(request, exchange, scope, receive, send)
        except ClientGone:
            if CUT_KEY in scope and exchange.end is not None:
                exchange.end = scope[CUT_KEY]
            raise
        except asyncio.CancelledError:
            if exchange.status or not running.revoked():
                raise
            raise GatewayError.key_revoked() from None
        finally:
            running.leave(task)
            admission.release()
            if claim is not None:
                claim.end(answered=exchange.status == 200)

    def _caller(self, exchange: Exchange) -> Caller:
        """Who calls. A task's key is for one path alone. Raises GatewayError ``forbidden``."""
        caller = exchange.caller
        if caller is None or TASK_SCOPE not in caller.scopes:
            return caller_with(exchange, "relay")
        if exchange.path != TASK_PATH or self._gates.budgets is None:
            raise GatewayError.forbidden("a task's key is for POST /v1/responses alone")
        return caller

    def _wish(self, extension: bytes, caller: Caller) -> Wish | None:
        """What the caller wants instead of a relayed call, if anything. Raises GatewayError for what it cannot have."""
        wish = wish_of(extension)
        if wish is None:
            return None
        if self._runs is None:
            raise switched_off()
        self._runs.check(wish, caller)
        return wish

    def _claim(self, caller: Caller, scope: Scope) -> Claim | None:
        given = values_of(scope["headers"], idempotency.HEADER)
        return self._gates.idempotency.claim(caller, b" ".join(given)) if given else None

    def _admit(self, caller: Caller, exchange: Exchange, claim: Claim | None) -> Admission:
        """Counts the request in, or raises the refusal; both tell how the caller stands with its limits."""
        limits = self._gates.limits
        try:
            admission = limits.admit(caller)
        except LimitExceeded as error:
            if claim is not None:
                claim.end(answered=False)
            self._gates.on_shed("rate_limited" if error.limit_name == "requests" else "too_many_streams")
            raise from_limit(error) from error
        finally:
            exchange.extra_headers = limits.headers(caller)
        return admission


def _wrong_method(scope: MutableMapping[str, Any]) -> GatewayError:
    upgrade = any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])
    if scope["method"] == "GET" and upgrade:
        return GatewayError.upgrade_required()
    return GatewayError.method_not_allowed("POST")
