"""A loopback uvicorn with our protocol class and guard round a tiny application, and a raw client for it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from gateway.departure import ClientGone, Receive
from gateway.errors import GatewayError, error_response
from gateway.guard import Guard, Scope, Send, read_body
from gateway.protocol import ConnectionValues, RelayConnection, make_protocol
from tests.fakes.clock import FakeClock

MAX_BODY = 64 * 1024


@dataclass
class Recorder:
    """Reads the body and answers with its size; notes what it saw."""

    paths: list[str] = field(default_factory=list)
    scopes: list[dict[str, Any]] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    max_body: int = MAX_BODY
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        self.scopes.append(dict(scope))
        self.started.set()
        try:
            body = await self._read(scope, receive, send)
        except ClientGone:
            self.scopes.append(dict(scope))
            self.gone.set()
            return
        except GatewayError as error:
            for message in error_response(error):
                await send(message)
            return
        if body is None:
            return
        text = b"read %d" % len(body)
        fields = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": text, "more_body": False})

    async def _read(self, scope: Scope, receive: Receive, send: Send) -> bytes | None:
        """The body, or None when the path has been served already."""
        if scope["path"] == "/early":
            raise GatewayError("invalid_api_key", "no")
        if scope["path"] == "/pour":
            await self._pour(scope, receive, send)
            return None
        if scope["path"] == "/impatient":
            receive = impatient(receive)
        body = await read_body(receive, self.max_body)
        self.bodies.append(bytes(body))
        if scope["path"] == "/hang":
            while (await receive())["type"] != "http.disconnect":
                pass
            raise ClientGone
        return body

    async def _pour(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Writes until the client is gone."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watch = asyncio.get_running_loop().create_task(self._wait_gone(scope, receive))
        while not self.gone.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        await watch

    async def _wait_gone(self, scope: Scope, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.scopes.append(dict(scope))
        self.gone.set()


def impatient(receive: Receive) -> Receive:
    """``receive`` given up and called again, over and over, until there is something."""

    async def again() -> MutableMapping[str, Any]:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.002):
                    return await receive()

    return again


@dataclass
class Live:
    port: int
    app: Recorder
    clock: FakeClock
    protocol: type[RelayConnection]

    def look(self, seconds: float) -> None:
        """Time passes, and the sweep looks."""
        self.clock.advance(seconds)
        self.protocol.sweep.look()

    async def talk(self, data: bytes, *, close: bool = False, wait_s: float = 2.0) -> bytes:
        """Sends ``data`` and returns all that comes until the server ends, or ``wait_s`` of silence."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        if close:
            writer.write_eof()
        try:
            return await read_all(reader, wait_s)
        finally:
            writer.close()


async def read_all(reader: asyncio.StreamReader, wait_s: float = 2.0) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(wait_s):
            while piece := await reader.read(65536):
                got += piece
            return got
    return got + b"<open>" if not reader.at_eof() and reader.exception() is None else got


VALUES = ConnectionValues(
    header_timeout_s=10.0,
    max_header_bytes=32 * 1024,
    body_idle_timeout_s=20.0,
    body_min_bytes_per_s=1024,
    write_stall_s=60.0,
    linger_s=2.0,
    linger_bytes=256 * 1024,
    tick_s=0.5,
)


@contextlib.asynccontextmanager
async def live(
    values: ConnectionValues = VALUES, max_body: int = MAX_BODY, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Live]:
    recorder = Recorder(max_body=max_body)
    clock = FakeClock()
    protocol = make_protocol(values, clock)
    guard = Guard(recorder, max_headers=100, max_header_bytes=32 * 1024, max_body_bytes=max_body)
    config = uvicorn.Config(
        guard,
        port=0,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    server = uvicorn.Server(config)
    config.load()
    config.ssl = tls
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    assert issubclass(protocol, RelayConnection)
    try:
        yield Live(server.servers[0].sockets[0].getsockname()[1], recorder, clock, protocol)
    finally:
        server.should_exit = server.force_exit = True
        await server.shutdown()
        for connection in tuple(server.server_state.connections):
            assert isinstance(connection, RelayConnection)
            connection.drop()
        await asyncio.sleep(0)
