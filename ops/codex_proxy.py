"""What stands between one Codex CLI and the world: a CONNECT proxy on loopback that leads to the gateway alone.

Rules that hold:

* it answers CONNECT for three hosts (``HOSTS``), ends their TLS itself and forwards their requests to the gateway
  with the gateway key; every other host and every other method is refused. Nothing is ever tunnelled;
* whoever connects must know the proxy's password, which is made for this process and stands in the child's
  environment alone: other users of the machine get 407;
* the child holds a token for this process, never the gateway key. A request with another login is answered 401 here
  and goes nowhere, so that a login of the user's own cannot leak to the gateway;
* bodies pass as streams and unchanged, in both directions; so do status and headers, but for those of one hop;
* signing in and out is not offered: those paths are answered here.

Each connection is a task of this object's own, as for any server; ``aclose`` ends them all. Cancel closes what is
open. Requests are parsed by uvicorn, as at the gateway's door.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ops.codex_authority import Authority
from store.records import Secret

BACKEND: Final = "chatgpt.com"
ISSUER: Final = "auth.openai.com"
HOSTS: Final = (BACKEND, "chat.openai.com", ISSUER)
"""Hosts that the Codex CLI takes for its backend and its issuer."""
WHOAMI: Final = "/api/accounts/v1/user-auth-credential/whoami"
USER: Final = "codex"
_TLS_PORT: Final = 443
_HEAD_BYTES: Final = 16_384
_HEAD_S: Final = 10.0
_KEEP_ALIVE_S: Final = 600
_OF_ONE_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_NOT_FORWARDED: Final = _OF_ONE_HOP | {b"host", b"authorization", b"cookie", b"expect"}
_NOT_RETURNED: Final = _OF_ONE_HOP | {b"set-cookie"}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Seen:
    """What the proxy met: hosts that it refused, and the last reason why the gateway could not be reached."""

    refused: set[str] = field(default_factory=set)
    unreachable: str | None = None
    forwarded: int = 0


class Forwarder:
    """The ASGI application behind the TLS of the three hosts: to the gateway or not at all."""

    def __init__(self, http: httpx.AsyncClient, gateway: str, key: Secret, token: Secret, seen: Seen) -> None:
        """``gateway``: its base URL without a slash at the end. ``token``: what the child must present as bearer."""
        self._http = http
        self._gateway = gateway
        self._bearer = b"Bearer " + key.reveal().encode()
        self._expected = b"Bearer " + token.reveal().encode()
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        given = next((value for name, value in headers if name == b"authorization"), b"")
        if not offered(_host(headers), scope["path"]):
            await _answer(send, 403, "not_offered", "codex-relay signs you in by your gateway key; there is no login.")
        elif given and not hmac.compare_digest(given, self._expected):
            await _answer(send, 401, "foreign_login", "This is a login of your own; codex-relay does not pass it on.")
        else:
            await self._forward(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        url = httpx.URL(self._gateway + target.decode("ascii"))
        request = self._http.build_request(
            scope["method"], url, headers=self._headers(scope["headers"]), content=_body(scope["headers"], receive)
        )
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            self._seen.unreachable = f"{type(error).__name__}: {error}".rstrip(": ")
            await _answer(send, 502, "gateway_unreachable", f"codex-relay cannot reach the gateway at {self._gateway}.")
            return
        self._seen.forwarded += 1
        try:
            await _either(_relay(response, send), _gone(receive))
        finally:
            await response.aclose()

    def _headers(self, given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        kept = [(name, value) for name, value in given if name not in _NOT_FORWARDED]
        if (b"upgrade", b"websocket") in given:  # the gateway's own answer sends the CLI to plain http
            kept += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
        return [*kept, (b"authorization", self._bearer)]


class CodexProxy:
    """The listener. ``url`` holds the password and is for the child's environment alone."""

    def __init__(self, listener: socket.socket, authority: Authority, forwarder: Forwarder, seen: Seen) -> None:
        self.seen = seen
        self._listener = listener
        self._password = Secret(secrets.token_urlsafe(32))
        self._tls = authority.context
        self._state = ServerState()
        self._config = uvicorn.Config(
            forwarder,
            http=HttpToolsProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._config.load()
        self._connections: set[asyncio.Task[None]] = set()
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the child's terminal is not ours to write to

    @property
    def url(self) -> Secret:
        """For ``HTTPS_PROXY``."""
        host, port = self._listener.getsockname()
        return Secret(f"http://{USER}:{self._password.reveal()}@{host}:{port}")

    async def serve(self) -> None:
        """Takes connections until it is cancelled; then every one of them is closed."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                connection, _ = await loop.sock_accept(self._listener)
                task = loop.create_task(self._connected(connection))
                self._connections.add(task)
                task.add_done_callback(self._connections.discard)
        finally:
            await self._close()

    async def _close(self) -> None:
        tasks = [*self._connections, *self._state.tasks]
        for task in tasks:
            task.cancel()
        for protocol in list(self._state.connections):
            transport = protocol.transport
            if transport is not None:
                transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_HEAD_S):
                refusal = self._refusal(await _head(connection))
                if refusal is not None:
                    await loop.sock_sendall(connection, refusal)
                    connection.close()
                    return
                await loop.sock_sendall(connection, b"HTTP/1.1 200 Connection established\r\n\r\n")
                await loop.connect_accepted_socket(self._protocol, connection, ssl=self._tls)
        except (OSError, TimeoutError, ValueError):  # a child that left, a broken head, a TLS that failed
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self._config, self._state, {})

    def _refusal(self, head: bytes) -> bytes | None:
        """None for a CONNECT to one of our hosts by somebody who knows the password."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target = rest.partition(" ")[0]
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if not self._knows(fields.get("proxy-authorization", "")):
            return _plain("407 Proxy Authentication Required", 'proxy-authenticate: Basic realm="codex-relay"\r\n')
        if method != "CONNECT":
            return _plain("405 Method Not Allowed", "allow: CONNECT\r\n")
        host, _, port = target.lower().rpartition(":")
        if host not in HOSTS or port != str(_TLS_PORT):
            self.seen.refused.add(target[:256])
            return _plain("403 Forbidden")
        return None

    def _knows(self, given: str) -> bool:
        scheme, _, encoded = given.partition(" ")
        try:
            said = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(said, f"{USER}:{self._password.reveal()}".encode())


@contextlib.asynccontextmanager
async def running_proxy(
    http: httpx.AsyncClient, gateway: str, key: Secret, token: Secret, authority: Authority
) -> AsyncIterator[CodexProxy]:
    """Listens on a free port of loopback until the block ends; then nothing of it is left."""
    seen = Seen()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        proxy = CodexProxy(listener, authority, Forwarder(http, gateway, key, token, seen), seen)
        serving = asyncio.create_task(proxy.serve())
        try:
            yield proxy
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def offered(host: str, path: str) -> bool:
    """Whether the gateway is asked: of the issuer it answers who a token belongs to, of the backend everything."""
    return path == WHOAMI if host == ISSUER else path.startswith(("/backend-api/", "/api/codex/"))


def _host(headers: list[tuple[bytes, bytes]]) -> str:
    value = next((value for name, value in headers if name == b"host"), b"")
    return value.decode("latin-1").lower().partition(":")[0]


async def _head(connection: socket.socket) -> bytes:
    """The head of the request. Raises ValueError when it is no head, is too long, or when bytes follow it early."""
    loop = asyncio.get_running_loop()
    read = b""
    while b"\r\n\r\n" not in read:
        chunk = await loop.sock_recv(connection, 4096)
        read += chunk
        if not chunk or len(read) > _HEAD_BYTES:
            raise ValueError("no head of a request")
    head, _, rest = read.partition(b"\r\n\r\n")
    if rest:
        raise ValueError("bytes before the answer to CONNECT")
    return head


def _plain(status: str, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n".encode()


def _body(headers: list[tuple[bytes, bytes]], receive: Receive) -> AsyncIterator[bytes] | None:
    framed = any(name in {b"content-length", b"transfer-encoding"} for name, _ in headers)
    return _chunks(receive) if framed else None


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.WriteError("the child left in the middle of a request")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _relay(response: httpx.Response, send: Send) -> None:
    head = [(name, value) for name, value in response.headers.raw if name.lower() not in _NOT_RETURNED]
    await send({"type": "http.response.start", "status": response.status_code, "headers": head})
    async for chunk in response.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    """Returns when the child has left: its stream must not run on at the gateway."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _either(work: Coroutine[Any, Any, None], end: Coroutine[Any, Any, None]) -> None:
    """Until ``work`` is done or ``end`` has come; raises what ``work`` raised."""
    working, ending = asyncio.create_task(work), asyncio.create_task(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        ending.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


async def _answer(send: Send, status: int, code: str, message: str) -> None:
    body = msgspec.json.encode({"error": {"message": message, "type": "relay_error", "code": code, "param": None}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
