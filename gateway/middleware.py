"""The frames round every route, outermost first: RequestContext, ClientAuth, Inflight. Pure ASGI classes.

* RequestContext gives the request its id, turns every error into an OpenAI-shaped body, and sees to it that each
  request is observed exactly once, whatever happened.
* ClientAuth is the one place where a key is read: ``Authorization: Bearer`` and nowhere else.
* Inflight counts requests in work, sheds above the bound and refuses new work while draining, or while the audit log
  can take no more and must not lose any.

None of them wraps ``send`` or ``receive``: what they must know travels in the Exchange. A frame that has nothing to do
at the end is a plain function and hands on the awaitable of the next: a coroutine less to hold, and to wake through,
for as long as a stream runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from auth.errors import AuthError
from auth.keys import KeyDirectory
from auth.types import Caller
from gateway.departure import ClientGone
from gateway.errors import GatewayError, error_response, from_auth
from gateway.exchange import Exchange, RequestIds, exchange_of, new_exchange
from ops.clock import Clock

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
METRICS_PATH = "/metrics"
_ALWAYS = OPEN_PATHS | {METRICS_PATH}
"""Answered whatever the load and the state: an operator looks here when something is wrong."""


class RequestObserver(Protocol):
    """Hears of every finished request, and of errors that are our own fault; must not block or raise."""

    def finished(self, exchange: Exchange) -> None: ...

    def crashed(self, exchange: Exchange, error: Exception) -> None: ...


class RequestContext:
    def __init__(self, app: App, clock: Clock, observer: RequestObserver) -> None:
        self._app = app
        self._clock = clock
        self._observer = observer
        self._ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = new_exchange(scope, self._clock.monotonic_s(), self._ids())
        try:
            await self._app(scope, receive, send)
        except GatewayError as error:
            await self._refuse(exchange, error, send)
        except ClientGone:
            exchange.outcome, exchange.status = "client_gone", exchange.status or 499
        except asyncio.CancelledError:
            # only the end of the process cancels a request from outside; whoever still waits is told
            await self._refuse(exchange, GatewayError.draining(), send)
        except Exception as error:  # noqa: BLE001 - the last line of defence: a 500 in our shape, never a traceback
            self._observer.crashed(exchange, error)
            await self._refuse(exchange, GatewayError.internal(), send)
        finally:
            self._observer.finished(exchange)

    async def _refuse(self, exchange: Exchange, error: GatewayError, send: Send) -> None:
        exchange.outcome, exchange.error_code = "error", error.code
        if exchange.status:
            return  # the answer has begun; the connection is closed by the server
        exchange.status = error.status
        start, body = error_response(error, exchange)
        await send(start)
        await send(body)


class ClientAuth:
    """Refuses every request without a valid key, but for the health paths (and ``open_paths`` of the caller), and
    what is below ``own_doors``, which find out themselves who comes. ``keyed`` are paths that are neither, known
    beforehand so that they cost one look-up."""

    def __init__(
        self,
        app: App,
        keys: KeyDirectory,
        clock: Clock,
        open_paths: frozenset[str] = OPEN_PATHS,
        own_doors: tuple[str, ...] = (),
        keyed: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._keys = keys
        self._clock = clock
        self._open_paths = open_paths
        self._own_doors = own_doors
        self._keyed = keyed

    def _asks(self, path: str) -> bool:
        return path not in self._open_paths and not is_below(path, self._own_doors)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path = scope["path"]
        if path in self._keyed or self._asks(path):
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            try:
                if len(given) > 1:
                    given = []
                caller = self._keys.authenticate(given[0] if given else None, self._clock.now_s())
            except AuthError as error:
                raise from_auth(error) from error
            exchange_of(scope).caller = caller
        return self._app(scope, receive, send)


def is_below(path: str, doors: tuple[str, ...]) -> bool:
    """Whether ``path`` is one of ``doors`` or behind one."""
    return any(path == door or path.startswith(f"{door}/") for door in doors)


def caller_with(exchange: Exchange, scope: str) -> Caller:
    """Who calls, if the key may do what ``scope`` names. Raises GatewayError ``forbidden``."""
    caller = exchange.caller
    assert caller is not None
    if scope not in caller.scopes:
        raise GatewayError.forbidden(f"it lacks the scope {scope}")
    return caller


class Inflight:
    """Bounds the requests in work. ``draining`` makes new ones a 503 with Retry-After; running ones go on."""

    def __init__(
        self, app: App, limit: int, on_shed: Callable[[str], None], audit_full: Callable[[], bool] = lambda: False
    ) -> None:
        self._app = app
        self._limit = limit
        self._on_shed = on_shed
        self._audit_full = audit_full
        self.count = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in _ALWAYS:
            if self.draining:
                self._on_shed("draining")
                raise GatewayError.draining()
            if self.count >= self._limit:
                self._on_shed("inflight")
                raise GatewayError.overloaded()
            if self._audit_full():
                self._on_shed("audit_full")
                raise GatewayError.store_unavailable()
        self.count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.count -= 1
