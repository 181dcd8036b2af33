"""The web console as an ASGI application: a table of static files, sent with headers that let nothing else run.

Rules that hold:

* GET and HEAD only; what is not in the table of :mod:`gateway.console.files` does not exist, and says so as a page;
* no data of the gateway is in any of these files: the pages fetch it from ``/admin/api``, as the person signed in;
* every answer carries the same policy: scripts, styles and connections of this origin alone, nothing inline, no
  string ever becomes markup (Trusted Types without a policy), no frame, no type guessing, no referrer;
* answers are checked again by their tag each time, so that a new release is seen at once and costs 304s else.

The files are open: who may do what is decided by the admin API, for each call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from gateway.console.files import StaticFile, load_files, page_path
from gateway.exchange import SCOPE_KEY, Exchange

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; "
    b"trusted-types 'none'"
)

SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-robots-tag", b"noindex, nofollow"),
)

_TEXT: Final = b"text/plain; charset=utf-8"
_ABSENT: Final = b"There is no such page. The console begins at /console.\n"
_METHOD: Final = b"The console's files are read by GET. What changes something goes to /admin/api.\n"


class ConsoleApp:
    """Serves ``/console`` and what is below it. ``paths`` are all paths that exist; every other one is a 404."""

    def __init__(self, files: Mapping[str, StaticFile] | None = None) -> None:
        self._files = dict(load_files() if files is None else files)

    @property
    def paths(self) -> frozenset[str]:
        return frozenset(self._files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        found = self._files.get(page_path(scope["path"]))
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(scope, send, 405, _METHOD, [(b"content-type", _TEXT), (b"allow", b"GET, HEAD")])
        elif found is None:
            await _answer(scope, send, 404, _ABSENT, [(b"content-type", _TEXT), (b"cache-control", b"no-store")])
        elif _has(scope, found.etag):
            await _answer(scope, send, 304, None, [(b"etag", found.etag), (b"cache-control", b"no-cache")])
        else:
            headers = [(b"content-type", found.kind), (b"etag", found.etag), (b"cache-control", b"no-cache")]
            await _answer(scope, send, 200, found.body, headers)


async def _answer(scope: Scope, send: Send, status: int, body: bytes | None, headers: RawHeaders) -> None:
    exchange = scope.get(SCOPE_KEY)
    if isinstance(exchange, Exchange):
        exchange.route, exchange.status = "console", status
        headers.append((b"x-request-id", exchange.id.encode()))
    if body is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *SECURITY_HEADERS]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body or b""})


def _has(scope: Scope, etag: bytes) -> bool:
    """Whether the client holds this very content already."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return value.strip() == b"*" or etag in [tag.strip().removeprefix(b"W/") for tag in value.split(b",")]
    return False
