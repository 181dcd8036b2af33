"""What the gateway says of itself: ``/v1/models``, ``/healthz``, ``/readyz``, ``/metrics``.

``/healthz`` says that the process runs; ``/readyz`` that it wants traffic, with a reason when it does not: draining,
or a durable store that takes no write. An upstream that is down does not make it unready: the relay answers fast.
Without its hot store it is ``degraded``, and ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from gateway.catalog import ModelCatalog, find
from gateway.errors import GatewayError
from gateway.exchange import exchange_of
from gateway.middleware import Receive, Scope, Send, caller_with
from store.base import Store
from store.errors import StoreError

JSON = b"application/json"


async def reply(
    scope: Scope, send: Send, body: bytes, *, status: int = 200, kind: bytes = JSON, etag: bytes = b""
) -> None:
    """A whole answer; 304 without a body when the client already has ``etag``."""
    exchange = exchange_of(scope)
    headers = [(b"content-type", kind), (b"x-request-id", exchange.id.encode()), (b"cache-control", b"no-cache")]
    if etag:
        headers.append((b"etag", etag))
        if any(name == b"if-none-match" and _matches(value, etag) for name, value in scope["headers"]):
            status, body = 304, b""
    if status != 304:
        headers.append((b"content-length", str(len(body)).encode()))
    exchange.status = status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _matches(given: bytes, etag: bytes) -> bool:
    return given.strip() == b"*" or etag in (tag.strip().removeprefix(b"W/") for tag in given.split(b","))


def _only_get(scope: Scope) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        raise GatewayError.method_not_allowed("GET, HEAD")


class ModelsEndpoint:
    """``GET /v1/models`` and ``GET /v1/models/{id}``; the Codex CLI's shape when it names its ``client_version``."""

    def __init__(self, catalog: ModelCatalog, *, native: bool = False) -> None:
        self._catalog = catalog
        self._native = native

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "models"
        _only_get(scope)
        caller_with(exchange, "relay")
        await self._catalog.refresh()
        model_id = scope.get("path_params", {}).get("model_id")
        if self._native or b"client_version=" in scope["query_string"]:
            body, etag = self._catalog.native()
        else:
            body, etag = self._catalog.listing()
        if model_id is not None:
            entry = find(msgspec.json.decode(self._catalog.listing()[0])["data"], model_id)
            if entry is None:
                raise GatewayError.model_not_found(model_id)
            body, etag = msgspec.json.encode(entry), b""
        await reply(scope, send, body, etag=etag)


class HealthEndpoint:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange_of(scope).route = "healthz"
        _only_get(scope)
        await reply(scope, send, b'{"status":"ok"}')


class ReadyEndpoint:
    """``known`` says what this process knows against itself; the store is asked besides. ``away``: why the hot store
    is not used, if it is not."""

    def __init__(
        self, store: Store, known: Callable[[], str | None], away: Callable[[], str | None] | None = None
    ) -> None:
        self._store = store
        self._known = known
        self._away = away

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange_of(scope).route = "readyz"
        _only_get(scope)
        reason = await self._reason()
        body = {"status": "ready"} if reason is None else {"status": "not_ready", "reason": reason}
        if reason is None and self._away is not None and (away := self._away()) is not None:
            body = {"status": "degraded", "reason": f"hot_store_away: {away}"}
        await reply(scope, send, msgspec.json.encode(body), status=200 if reason is None else 503)

    async def _reason(self) -> str | None:
        known = self._known()
        if known == "draining":
            return known
        try:
            await self._store.check()
        except StoreError as error:
            return f"store_unavailable: {error}"
        return known


class MetricsEndpoint:
    """``render`` gives (body, content type), summed over the workers."""

    def __init__(self, render: Callable[[], tuple[bytes, str]], *, require_key: bool) -> None:
        self._render = render
        self._require_key = require_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "metrics"
        _only_get(scope)
        if self._require_key and not (exchange.caller and exchange.caller.scopes & {"metrics", "admin"}):
            raise GatewayError.forbidden("the key lacks the scope metrics")
        # with several workers this reads all their files
        body, kind = await asyncio.to_thread(self._render)
        await reply(scope, send, body, kind=kind.encode())
