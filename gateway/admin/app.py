"""A table of routes as one ASGI application: look the route up, see who acts, read what he says, do it, answer. The
admin API is one; the tasks of the sandbox (gateway.tasks) are another.

Rules that hold for every answer:

* it is JSON, or empty, or a redirect of a browser route, or what a handler pours; never HTML, never a traceback;
* it carries the headers of ``SECURITY`` and ``Cache-Control: no-store``, refusals included;
* there is no CORS: a foreign page can neither read an answer nor send more than a form could, which is refused;
* the order of refusals is: path, method, transport, sign-in, origin, permission, query, body, and the handler's own.

What a route asks for stands in gateway.admin.routes; nothing is decided here that the table does not say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from gateway.admin.access import Access, cookies_of, must_be_private
from gateway.admin.faults import Expected, absent, translated
from gateway.admin.reading import query_of, read
from gateway.admin.routes import BROWSER_ROUTES, ROUTES, Route, Table, allowed
from gateway.admin.types import Call, Handlers, RawHeader, Reply, Seen
from gateway.departure import ClientGone, Departure
from gateway.errors import GatewayError
from gateway.exchange import Exchange, exchange_of
from gateway.middleware import App, Receive, Scope, Send

SECURITY: Final[tuple[RawHeader, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"x-robots-tag", b"noindex, nofollow"),
)
HSTS: Final[RawHeader] = (b"strict-transport-security", b"max-age=31536000")


class TableApi:
    """``handlers`` has one for every route of the table, by its name. Raises ValueError when one is missing. ``name``
    is the route in logs and metrics; ``refusal`` gives the client's words for an error that handlers may raise, and
    None for any other."""

    def __init__(
        self,
        name: str,
        routes: Sequence[Route],
        access: Access,
        handlers: Handlers,
        refusal: Callable[[Exception], GatewayError | None],
    ) -> None:
        if missing := {route.name for route in routes} - set(handlers):
            raise ValueError(f"no handler for {', '.join(sorted(missing))}")
        self._name = name
        self._access = access
        self._handlers = handlers
        self._refusal = refusal
        self._table = Table(tuple(routes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = self._name
        exchange.extra_headers = SECURITY
        seen = self._access.seen(scope)
        if seen.https:
            exchange.extra_headers = (*SECURITY, HSTS)
        route, parts = self._find(scope["path"], scope["method"])
        try:
            call = await self._admitted(route, parts, scope, receive, seen, exchange)
            reply = await self._handlers[route.name](call)
        except Exception as error:
            if (refusal := self._refusal(error)) is None:
                raise
            raise refusal from error
        if reply.actor is not None:
            exchange.actor = reply.actor
        head = scope["method"] == "HEAD"
        if reply.pieces is None:
            await _send(exchange, reply, send, head=head)
        else:
            await _pour(exchange, reply, scope, receive, send, head=head)

    def _find(self, path: str, method: str) -> tuple[Route, dict[str, str]]:
        found = self._table.find(path)
        if found is None:
            raise absent("path")
        by_method, parts = found
        route = by_method.get("GET" if method == "HEAD" else method)
        if route is None:
            raise GatewayError.method_not_allowed(allowed(by_method))
        return route, parts

    async def _admitted(
        self, route: Route, parts: dict[str, str], scope: Scope, receive: Receive, seen: Seen, exchange: Exchange
    ) -> Call:
        acting = await self._access.admit(route, scope, seen)
        exchange.caller = acting.caller
        if acting.principal is not None:
            exchange.actor = acting.principal.actor
        query = query_of(route, scope["query_string"])
        given = _pieces_of(receive) if route.streamed else None
        body = None if given is not None else await read(route, scope, receive)

        async def again() -> None:
            await self._access.admit(route, scope, self._access.seen(scope))

        fields = scope["headers"]
        return Call(
            exchange.id, seen, acting, body, query, parts.get("id", ""), cookies_of(fields), parts, fields, given, again
        )  # fmt: skip


class AdminApi(TableApi):
    """The admin API; with ``oidc`` the two paths of single sign-on, too."""

    def __init__(self, access: Access, handlers: Handlers, *, oidc: bool) -> None:
        routes = (*ROUTES, *(BROWSER_ROUTES if oidc else ()))
        super().__init__("admin", routes, access, handlers, _expected)


def _expected(error: Exception) -> GatewayError | None:
    return translated(error) if isinstance(error, Expected) else None


class ConsoleDoor:
    """The console's pages, which are for browsers: over https, or on loopback."""

    def __init__(self, access: Access, console: App) -> None:
        self._access = access
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "console"
        exchange.extra_headers = SECURITY
        must_be_private(self._access.seen(scope))
        await self._console(scope, receive, send)


async def _send(exchange: Exchange, reply: Reply, send: Send, *, head: bool) -> None:
    body = b"" if reply.body is None else msgspec.json.encode(reply.body)
    fields = [(b"x-request-id", exchange.id.encode()), (b"cache-control", b"no-store"), *exchange.extra_headers]
    if reply.body is not None:
        fields.append((b"content-type", b"application/json"))
    if reply.status != 204:
        fields.append((b"content-length", str(len(body)).encode()))
    exchange.status = reply.status
    await send({"type": "http.response.start", "status": reply.status, "headers": [*fields, *reply.headers]})
    await send({"type": "http.response.body", "body": b"" if head else body, "more_body": False})


async def _pour(exchange: Exchange, reply: Reply, scope: Scope, receive: Receive, send: Send, *, head: bool) -> None:
    """Sends what comes until it ends or the client leaves. An error in mid-way closes the connection."""
    assert reply.pieces is not None
    fields = [(b"x-request-id", exchange.id.encode()), (b"cache-control", b"no-store"), *exchange.extra_headers]
    exchange.status = reply.status
    own = {name for name, _ in reply.headers}
    fields = [(name, value) for name, value in fields if name not in own]
    with Departure(scope, receive):
        await send({"type": "http.response.start", "status": reply.status, "headers": [*fields, *reply.headers]})
        if not head:
            async for piece in reply.pieces:
                exchange.bytes_out += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _pieces_of(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ClientGone when the client leaves before its end."""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        if piece := message.get("body", b""):
            yield piece
        more = message.get("more_body", False)
