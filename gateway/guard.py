"""Is this request head unambiguous, and is its body of a bearable size? The first frame round the application.

The HTTP parser below is fast and not strict enough alone: it takes a repeated Transfer-Encoding, no Host and two
Hosts, and heads of any size. What two implementations could read in two ways is refused here with a 4xx and the end
of the connection (RFC 9112 sections 3.2, 6.1, 6.3), so that nothing can be smuggled behind a proxy in front of us.

The head is judged in one pass of C-speed operations over joined bytes; ``receive`` is not wrapped. Bodies are read by
``read_body``, which stops at the limit; their deadlines are kept by the connection (``gateway.protocol``), which sees
progress where it happens. Methods and paths are the routes' business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from gateway.departure import ClientGone, Receive
from gateway.errors import GatewayError, error_response

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_VALUE: Final = bytes(range(0x20, 0x7F)) + b"\t" + bytes(range(0x80, 0x100))
_HOST: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-_:[]%"
_LONGEST_LENGTH: Final = 18  # digits; more than any machine has bytes
_FIELD_OVERHEAD: Final = 4  # ": " and CRLF

DEFAULT_MAX_URI_BYTES: Final = 8 * 1024


class Guard:
    """Refuses heads that are ambiguous or too large; everything else passes untouched."""

    def __init__(
        self,
        app: App,
        *,
        max_headers: int,
        max_header_bytes: int,
        max_body_bytes: int,
        max_uri_bytes: int = DEFAULT_MAX_URI_BYTES,
    ) -> None:
        self._app = app
        self._max_headers = max_headers
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._max_uri_bytes = max_uri_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            error = self.fault(scope)
            if error is not None:
                start, body = error_response(error)
                await send(start)
                await send(body)
                return
        await self._app(scope, receive, send)

    def fault(self, scope: Scope) -> GatewayError | None:
        """Why the head is refused, or None."""
        fields: list[tuple[bytes, bytes]] = scope["headers"]
        if len(scope["raw_path"]) + len(scope["query_string"]) > self._max_uri_bytes:
            return _refuse("uri_too_long", f"The path is longer than {self._max_uri_bytes} bytes.")
        if len(fields) > self._max_headers:
            return _refuse("headers_too_large", f"More than {self._max_headers} header fields.")
        names = [name for name, _ in fields]
        all_names = b"".join(names)
        all_values = b"".join([value for _, value in fields])
        if len(all_names) + len(all_values) + _FIELD_OVERHEAD * len(fields) > self._max_header_bytes:
            return _refuse("headers_too_large", f"The header is larger than {self._max_header_bytes} bytes.")
        if all_names.translate(None, _TOKEN) or b"" in names:
            return _refuse("invalid_request", "A header name holds characters that no name may have.")
        if all_values.translate(None, _VALUE):
            return _refuse("invalid_request", "A header value holds control characters.")
        return self._host_fault(scope, names) or self._framing_fault(scope, names)

    def _host_fault(self, scope: Scope, names: list[bytes]) -> GatewayError | None:
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
            return _refuse("invalid_request", "A request has exactly one Host header.")
        if hosts and scope["headers"][names.index(b"host")][1].translate(None, _HOST):
            return _refuse("invalid_request", "The Host header is not a host.")
        return None

    def _framing_fault(self, scope: Scope, names: list[bytes]) -> GatewayError | None:
        lengths = names.count(b"content-length")
        if b"transfer-encoding" in names:
            index = names.index(b"transfer-encoding")
            coding = scope["headers"][index][1].strip().lower()
            alone = names.count(b"transfer-encoding") == 1 and not lengths
            if not alone or coding != b"chunked" or scope["http_version"] == "1.0":
                return _refuse("invalid_request", "The length of the body is said in a way that can be misread.")
        elif lengths:
            value = scope["headers"][names.index(b"content-length")][1]
            if lengths > 1 or not value.isdigit() or len(value) > _LONGEST_LENGTH:
                return _refuse("invalid_request", "Content-Length must be one plain number.")
            if int(value) > self._max_body_bytes:
                return GatewayError.body_too_large(self._max_body_bytes)
        if b"upgrade" in names and scope["method"] != "GET":
            return _refuse("invalid_request", "Nothing can be upgraded to here: leave the Upgrade header out.")
        return None


def _refuse(code: str, message: str) -> GatewayError:
    return GatewayError(code, message, close=True)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """The whole body, at most ``max_bytes``; a long one is a bytearray that nobody else holds.

    Raises GatewayError ``body_too_large`` as soon as the limit is passed, and ClientGone when the client leaves
    before the end or the connection gave up on a body that stalled.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise GatewayError.body_too_large(max_bytes)
        return body
    pieces: list[bytes] = []
    size = 0
    while True:
        if message["type"] != "http.request":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            raise GatewayError.body_too_large(max_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()


def values_of(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of all header fields called ``name`` (lower case), in order."""
    return [value for key, value in fields if key == name]
