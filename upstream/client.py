"""How is one account's question put to the Codex backend, and what comes back?

``send`` is the hot path: head from prepared bytes, body buffers untouched, one connection from the pool, back with
the head of a 2xx event stream. Every other answer is read (bounded in bytes and time), classified once and raised.
``models``, ``usage`` and ``accounts_check`` are small JSON calls through httpx over the same pool.

Rules that hold: the URL is a constant of the settings, only its origin may be replaced by the account's workspace
origin (validated at import); no redirect is ever followed; an encoded stream is refused; a credential reaches the
upstream's head and nothing else.

Knows no account policy: which error means what for an account is the router's business.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx

from ops.clock import Clock
from store.records import Account, Credential, Secret
from upstream.classify import classify
from upstream.dial import Origin, parse_origin
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import Exchange
from upstream.headers import HeaderBuilder, account_fields
from upstream.http2 import Http2Sender
from upstream.httpx_transport import upstream_error
from upstream.pool import ConnectionPool
from upstream.response import UpstreamResponse
from upstream.types import AccountEntry, AccountUsage, ClientSettings, RawHeaders, UpstreamRequest
from upstream.usage import account_usage, decode_object

MAX_ERROR_BYTES: Final = 65_536
MAX_JSON_BYTES: Final = 8 * 1024 * 1024
ERROR_BODY_S: Final = 5.0
_NO_CONSTRAINT: Final = "NO_CONSTRAINT"


class CodexClient:
    """Speaks to one Codex backend for any account. Safe to use from many tasks.

    ``http`` carries the small JSON calls (an AsyncClient over PoolTransport). With ``http2`` model traffic goes that
    way instead of over the pool. Raises ValueError when a URL or the identity is unusable.
    """

    def __init__(
        self,
        settings: ClientSettings,
        pool: ConnectionPool,
        http: httpx.AsyncClient,
        clock: Clock,
        http2: Http2Sender | None = None,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._http = http
        self._clock = clock
        self._http2 = http2
        self._headers = HeaderBuilder(settings.identity)
        self._origin, self._path = parse_origin(settings.base_url)
        parse_origin(settings.chatgpt_base_url)
        self._routes: dict[str | None, _Route] = {}

    async def send(self, request: UpstreamRequest, account: Account, credential: Credential) -> UpstreamResponse:
        """Puts one model call; returns with the head of a 2xx event stream. The caller closes the response.

        Raises UpstreamError for everything else; ``sent`` and ``reused`` tell whether the call may be repeated.
        Cancel: the connection is closed at once, nothing is left behind.
        """
        exchange = await self._open(request, account, credential)
        if 200 <= exchange.status < 300 and _is_event_stream(exchange.headers):
            settings = self._settings
            return UpstreamResponse(
                exchange, self._pool, self._clock, settings.max_event_bytes, settings.max_stream_bytes
            )
        try:
            error = await self._refusal(exchange)
        finally:
            exchange.abort()
        raise error

    async def _open(self, request: UpstreamRequest, account: Account, credential: Credential) -> Exchange:
        route = self._routes.get(account.workspace_origin) or self._route(account.workspace_origin)
        body = request.body
        if self._http2 is not None:
            fields = self._headers.fields(request, account, credential)
            return await self._http2.open(route.url + "/responses", fields, body, self._settings.timeouts)
        wire = self._headers.wire(request, account, credential)
        head = b"%b%bcontent-length: %d\r\n\r\n" % (route.lead, wire, sum(map(len, body)))
        return await self._pool.open(route.origin, head, body, self._settings.timeouts, fresh=request.fresh)

    def _route(self, workspace_origin: str | None) -> _Route:
        origin = self._origin
        if workspace_origin is not None:
            try:
                origin, path = parse_origin(workspace_origin)
            except ValueError as error:
                raise UpstreamError(FaultKind.CONNECT, "the account's origin is unusable", sent=False) from error
            if path:
                raise UpstreamError(FaultKind.CONNECT, "the account's origin has a path", sent=False)
        route = _Route(origin, self._path)
        self._routes[workspace_origin] = route
        return route

    async def _refusal(self, exchange: Exchange) -> UpstreamError:
        """What an answer means that is no event stream. Its body is read for a few seconds and 64 KiB at most."""
        body = bytearray()
        if not _encoded(exchange.headers):
            try:
                async with asyncio.timeout(ERROR_BODY_S):
                    while len(body) < MAX_ERROR_BYTES and (data := await exchange.read()):
                        body += data
            except (TimeoutError, UpstreamError):
                pass  # the head and what came of the body say enough
        return classify(exchange.status, exchange.headers, bytes(body), self._clock.now_s())

    async def models(
        self, account: Account, credential: Credential, etag: str | None = None
    ) -> tuple[list[dict[str, Any]], str | None] | None:
        """(the account's models as the backend's own objects, ETag), or None when ``etag`` still holds.

        Raises UpstreamError.
        """
        fields = self._headers.account(account, credential)
        if etag is not None:
            fields.append((b"if-none-match", etag.encode("latin-1", errors="replace")))
        route = self._routes.get(account.workspace_origin) or self._route(account.workspace_origin)
        version = self._settings.identity.client_version
        status, headers, body = await self._get(f"{route.url}/models", fields, {"client_version": version}, (304,))
        if status == 304:
            return None
        found = decode_object(body).get("models")
        if not isinstance(found, list):
            raise UpstreamError(FaultKind.PROTOCOL, "the answer is no list of models", status=status)
        return [entry for entry in found if isinstance(entry, dict)], headers.get("etag")

    async def usage(self, account: Account, credential: Credential) -> AccountUsage:
        """The account's windows now. Raises UpstreamError."""
        fields = self._headers.account(account, credential)
        status, _, body = await self._get(f"{self._settings.chatgpt_base_url.rstrip('/')}/wham/usage", fields)
        usage = account_usage(body, self._clock.now_s())
        if usage is None:
            raise UpstreamError(FaultKind.PROTOCOL, "the answer is no usage report", status=status)
        return usage

    async def accounts_check(self, access_token: Secret, chatgpt_account_id: str) -> tuple[AccountEntry, ...]:
        """The accounts that the token may use, with their routing. Raises UpstreamError."""
        asked = Account(id="", chatgpt_account_id=chatgpt_account_id, label="")
        fields = [*account_fields(asked, access_token.reveal()), *self._headers.identity]
        status, _, body = await self._get(f"{self._settings.chatgpt_base_url.rstrip('/')}/wham/accounts/check", fields)
        told = decode_object(body).get("accounts")
        if isinstance(told, dict):
            told = [entry.get("account") for entry in told.values() if isinstance(entry, dict)]
        if not isinstance(told, list):
            raise UpstreamError(FaultKind.PROTOCOL, "the answer is no list of accounts", status=status)
        entries = (_entry(one) for one in told if isinstance(one, dict))
        return tuple(entry for entry in entries if entry is not None)

    async def _get(
        self, url: str, fields: RawHeaders, params: dict[str, str] | None = None, fine: tuple[int, ...] = ()
    ) -> tuple[int, httpx.Headers, bytes]:
        limit_s = self._settings.json_timeout_s
        body = bytearray()
        try:
            async with (
                asyncio.timeout(limit_s),
                self._http.stream(
                    "GET", url, params=params, headers=fields, timeout=limit_s, follow_redirects=False
                ) as answer,
            ):
                async for data in answer.aiter_bytes():
                    body += data
                    if len(body) > MAX_JSON_BYTES:
                        raise UpstreamError(FaultKind.PROTOCOL, "the answer is too large", status=answer.status_code)
        except httpx.HTTPError as error:
            raise upstream_error(error) from error
        except TimeoutError as error:
            raise UpstreamError(FaultKind.HEADER_TIMEOUT, f"no whole answer within {limit_s:g} s") from error
        if answer.status_code == 200 or answer.status_code in fine:
            return answer.status_code, answer.headers, bytes(body)
        headers = [(name.lower(), value) for name, value in answer.headers.raw]
        raise classify(answer.status_code, headers, bytes(body), self._clock.now_s())


class _Route:
    """An origin with the base path, and how a head to it begins."""

    __slots__ = ("lead", "origin", "url")

    def __init__(self, origin: Origin, path: str) -> None:
        self.origin = origin
        self.url = f"{origin.scheme}://{origin.authority.decode('ascii')}{path}"
        self.lead = b"POST %b/responses HTTP/1.1\r\nhost: %b\r\n" % (path.encode("ascii"), origin.authority)


def _is_event_stream(headers: RawHeaders) -> bool:
    kind = b""
    for name, value in headers:
        if name == b"content-type":
            kind = value
        elif name == b"content-encoding" and value.lower() != b"identity":
            return False
    return kind[:17].lower() == b"text/event-stream"


def _encoded(headers: RawHeaders) -> bool:
    return any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers)


def _entry(told: dict[str, Any]) -> AccountEntry | None:
    account_id = told.get("id") or told.get("account_id")
    if not isinstance(account_id, str):
        return None

    def text(name: str) -> str | None:
        value = told.get(name)
        return value if isinstance(value, str) and value != _NO_CONSTRAINT else None

    return AccountEntry(
        account_id, text("plan_type"), text("workspace_backend_origin"), text("account_routing_override")
    )
