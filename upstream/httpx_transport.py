"""The pool as an httpx transport, for everything that is not the hot path.

Small calls keep httpx's API (and its test tools) while sockets, TLS, proxy, limits and strictness are the pool's.
Rules that hold: one exchange ends within its read timeout, as a whole; only GET may use a kept connection, and is sent
again once if that one had died; everything else gets a new connection and is sent at most once; answers are not
decoded and bounded in size.

Errors are translated here, once in each direction: UpstreamError -> httpx's tree -> UpstreamError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx

from upstream.dial import Origin
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.headers import encode_fields, valid_value
from upstream.pool import ConnectionPool
from upstream.types import RawHeaders, Timeouts

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_OURS: Final = frozenset(
    {
        b"host", b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"content-length",
        b"accept-encoding", b"proxy-authorization", b"expect",
    }
)  # fmt: skip
_DEFAULT_S: Final = 15.0
_TO_HTTPX: Final[dict[FaultKind, type[httpx.TransportError]]] = {
    FaultKind.CONNECT: httpx.ConnectError,
    FaultKind.DNS: httpx.ConnectError,
    FaultKind.TLS: httpx.ConnectError,
    FaultKind.CONNECT_TIMEOUT: httpx.ConnectTimeout,
    FaultKind.PROTOCOL: httpx.RemoteProtocolError,
    FaultKind.HEADER_TIMEOUT: httpx.ReadTimeout,
    FaultKind.FIRST_EVENT_TIMEOUT: httpx.ReadTimeout,
    FaultKind.IDLE: httpx.ReadTimeout,
    FaultKind.BUDGET: httpx.ReadTimeout,
}
_FROM_HTTPX: Final[tuple[tuple[type[httpx.HTTPError], FaultKind], ...]] = (
    (httpx.ConnectTimeout, FaultKind.CONNECT_TIMEOUT),
    (httpx.PoolTimeout, FaultKind.CONNECT_TIMEOUT),
    (httpx.TimeoutException, FaultKind.FIRST_EVENT_TIMEOUT),
    (httpx.ConnectError, FaultKind.CONNECT),
    (httpx.ProxyError, FaultKind.CONNECT),
    (httpx.UnsupportedProtocol, FaultKind.CONNECT),
    (httpx.RemoteProtocolError, FaultKind.PROTOCOL),
)
_UNSENT: Final = (FaultKind.CONNECT, FaultKind.CONNECT_TIMEOUT)


def upstream_error(error: httpx.HTTPError, *, begun: bool = False) -> UpstreamError:
    """``error`` as an UpstreamError; the original one when it came from the pool. ``begun``: the head had come."""
    if isinstance(error.__cause__, UpstreamError):
        return error.__cause__
    name = type(error).__name__
    for kind_of, kind in _FROM_HTTPX:
        if isinstance(error, kind_of):
            return UpstreamError(kind, name, sent=kind not in _UNSENT)
    return UpstreamError(FaultKind.TRUNCATED if begun else FaultKind.LOST, name)


class PoolTransport(httpx.AsyncBaseTransport):
    """Carries httpx requests over a ConnectionPool that somebody else closes.

    The request's read timeout bounds the whole exchange. ``max_body_bytes`` bounds an answer.
    """

    def __init__(self, pool: ConnectionPool, max_body_bytes: int = 16 * 1024 * 1024) -> None:
        self._pool = pool
        self._max_body_bytes = max_body_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method not in _METHODS:
            raise httpx.UnsupportedProtocol(f"{request.method} is not carried", request=request)
        try:
            exchange = await self._open(request, await request.aread())
        except UpstreamError as error:
            raise _httpx_error(error, request) from error
        return httpx.Response(
            exchange.status, headers=exchange.headers, stream=_Body(exchange, request, self._max_body_bytes)
        )

    async def _open(self, request: httpx.Request, body: bytes) -> Exchange:
        origin = _origin(request)
        head = _head(request, origin, len(body))
        timeouts = _timeouts(request)
        fresh = request.method != "GET"
        try:
            exchange = await self._pool.open(origin, head, [body], timeouts, fresh=fresh)
        except UpstreamError as error:
            if fresh or not error.reused:
                raise
            exchange = await self._pool.open(origin, head, [body], timeouts, fresh=True)
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in exchange.headers):
            exchange.abort()
            raise UpstreamError(FaultKind.PROTOCOL, "an encoded answer, though identity was asked for")
        return exchange


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: Exchange, request: httpx.Request, left: int) -> None:
        self._exchange = exchange
        self._request = request
        self._left = left

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._read():
                yield data
        except UpstreamError as error:
            raise _httpx_error(error, self._request) from error

    async def _read(self) -> bytes | None:
        data = await self._exchange.read()
        self._left -= len(data or b"")
        if self._left < 0:
            raise UpstreamError(FaultKind.PROTOCOL, "the answer is larger than allowed")
        return data

    async def aclose(self) -> None:
        self._exchange.abort()


def _httpx_error(error: UpstreamError, request: httpx.Request) -> httpx.TransportError:
    return _TO_HTTPX.get(error.kind, httpx.ReadError)(str(error), request=request)


def _origin(request: httpx.Request) -> Origin:
    url = request.url
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("only http and https", request=request)
    return Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))


def _head(request: httpx.Request, origin: Origin, length: int) -> bytes:
    fields: RawHeaders = [(b"host", origin.authority), (b"accept-encoding", b"identity")]
    for name, value in request.headers.raw:
        lowered = name.lower()
        if lowered in _OURS or not value:
            continue
        if not valid_value(value):
            raise httpx.LocalProtocolError("a header value with control characters", request=request)
        fields.append((lowered, value))
    if length or request.method != "GET":
        fields.append((b"content-length", b"%d" % length))
    line = b"%b %b HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    return line + encode_fields(fields) + b"\r\n"


def _timeouts(request: httpx.Request) -> Timeouts:
    told = request.extensions.get("timeout", {})
    read_s = told.get("read") or _DEFAULT_S
    return Timeouts(
        connect_s=told.get("connect") or _DEFAULT_S,
        first_event_s=read_s,
        idle_s=read_s,
        total_s=read_s,
        write_s=told.get("write") or _DEFAULT_S,
    )
