"""The admin API as one ASGI application: look the route up, see who acts, read what he says, do it, answer.

Rules that hold for every answer:

* it is JSON, or empty, or a redirect of a browser route; never HTML, never a traceback;
* it carries the headers of ``SECURITY`` and ``Cache-Control: no-store``, refusals included;
* there is no CORS: a foreign page can neither read an answer nor send more than a form could, which is refused;
* the order of refusals is: path, method, transport, sign-in, origin, permission, query, body, and the handler's own.

What a route asks for stands in gateway.admin.routes; nothing is decided here that the table does not say.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.admin.access import Access, cookies_of, must_be_private
from gateway.admin.faults import Expected, absent, translated
from gateway.admin.reading import query_of, read
from gateway.admin.routes import BROWSER_ROUTES, ROUTES, Route, Table, allowed
from gateway.admin.types import Call, Handlers, RawHeader, Reply, Seen
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


class AdminApi:
    """``handlers`` has one for every route of the table, by its name. Raises ValueError when one is missing."""

    def __init__(self, access: Access, handlers: Handlers, *, oidc: bool) -> None:
        routes = (*ROUTES, *(BROWSER_ROUTES if oidc else ()))
        if missing := {route.name for route in routes} - set(handlers):
            raise ValueError(f"no handler for {', '.join(sorted(missing))}")
        self._access = access
        self._handlers = handlers
        self._table = Table(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = exchange_of(scope)
        exchange.route = "admin"
        exchange.extra_headers = SECURITY
        seen = self._access.seen(scope)
        if seen.https:
            exchange.extra_headers = (*SECURITY, HSTS)
        route, target = self._find(scope["path"], scope["method"])
        call = await self._admitted(route, target, scope, receive, seen, exchange)
        try:
            reply = await self._handlers[route.name](call)
        except Expected as error:
            raise translated(error) from error
        if reply.actor is not None:
            exchange.actor = reply.actor
        await _send(exchange, reply, send, head=scope["method"] == "HEAD")

    def _find(self, path: str, method: str) -> tuple[Route, str]:
        found = self._table.find(path)
        if found is None:
            raise absent("path")
        by_method, target = found
        route = by_method.get("GET" if method == "HEAD" else method)
        if route is None:
            raise GatewayError.method_not_allowed(allowed(by_method))
        return route, target

    async def _admitted(
        self, route: Route, target: str, scope: Scope, receive: Receive, seen: Seen, exchange: Exchange
    ) -> Call:
        try:
            acting = await self._access.admit(route, scope, seen)
        except Expected as error:
            raise translated(error) from error
        exchange.caller = acting.caller
        if acting.principal is not None:
            exchange.actor = acting.principal.actor
        query = query_of(route, scope["query_string"])
        body = await read(route, scope, receive)
        return Call(exchange.id, seen, acting, body, query, target, cookies_of(scope["headers"]))


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
