"""A raw server that plays what it is told, a byte at a time if need be, and the pool and client that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx

from ops.clock import Clock, SystemClock
from store.records import Secret
from tests.fakes.records import make_account, make_credential
from upstream.client import CodexClient
from upstream.dial import Dialer, Origin, tls_context
from upstream.exchange import Exchange
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool
from upstream.types import ClientSettings, Identity, Timeouts, UpstreamRequest

ACCOUNT = make_account(chatgpt_account_id="acct-9", routing_override=None, fedramp=False, workspace_origin=None)
CREDENTIAL = make_credential(access_token=Secret("the-token"))
REQUEST = UpstreamRequest([b'{"model":', b'"m"}'], [], False, "req_1")
TIMEOUTS = Timeouts(connect_s=2.0, first_event_s=5.0, idle_s=5.0, total_s=10.0, write_s=5.0)
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CREATED = b'data: {"type":"response.created","response":{"id":"r"}}\n\n'
DELTA = b'data: {"type":"response.output_text.delta","delta":"x"}\n\n'
DONE = b'data: {"type":"response.completed","response":{"id":"r"}}\n\n'
LAST = b"0\r\n\r\n"

Talk = Callable[["Peer"], Awaitable[None]]


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        """(head, body) of the next request; raises IncompleteReadError when the client has gone."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return head, await self.reader.readexactly(length)

    async def say(self, *data: bytes) -> None:
        for piece in data:
            self.writer.write(piece)
            await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Waits until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass

    def reset(self) -> None:
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER 0: the close is a RST
        transport.abort()


class Server:
    """Counts connections; ``talks`` are played one per connection, the last one again and again."""

    def __init__(self, talks: tuple[Talk, ...]) -> None:
        self._talks = talks
        self.accepted = 0
        self.open = 0
        self.failures: list[BaseException] = []
        self.origin = Origin("http", "127.0.0.1", 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = self._talks[min(self.accepted, len(self._talks) - 1)]
        self.accepted += 1
        self.open += 1
        try:
            await talk(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except AssertionError as failure:
            self.failures.append(failure)
        finally:
            self.open -= 1
            writer.transport.abort()

    async def until_empty(self) -> None:
        async with asyncio.timeout(5):
            while self.open:
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def serving(*talks: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(talks)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.origin = Origin("https" if tls else "http", "127.0.0.1", port)
    try:
        yield server
        assert not server.failures
    finally:
        listener.close()


@contextlib.asynccontextmanager
async def pooled(
    clock: Clock | None = None, ca_file: Path | None = None, proxy: str | None = None, most: int | None = None
) -> AsyncIterator[ConnectionPool]:
    """A pool that must be empty of running exchanges when the test is over."""
    dialer = Dialer(tls_context(ca_file), proxy)
    pool = ConnectionPool(dialer, clock or SystemClock(), sweep_s=0.01, linger_s=0.3, max_connections=most)
    try:
        yield pool
        async with asyncio.timeout(2):
            while pool.busy:
                await asyncio.sleep(0.002)
    finally:
        await pool.aclose()


async def ask(pool: ConnectionPool, server: Server, body: bytes = b"{}", timeouts: Timeouts = TIMEOUTS) -> Exchange:
    head = b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(body)
    return await pool.open(server.origin, head, [body], timeouts)


async def read_all(exchange: Exchange) -> bytes:
    body = b""
    while data := await exchange.read():
        body += data
    return body


@contextlib.asynccontextmanager
async def client_of(
    server: Server,
    clock: Clock | None = None,
    timeouts: Timeouts = TIMEOUTS,
    max_event_bytes: int = 1 << 20,
    max_stream_bytes: int = 1 << 24,
) -> AsyncIterator[tuple[CodexClient, ConnectionPool]]:
    clock = clock or SystemClock()
    async with (
        pooled(clock) as pool,
        httpx.AsyncClient(transport=PoolTransport(pool), trust_env=False) as http,
    ):
        base = f"http://127.0.0.1:{server.origin.port}/backend-api"
        settings = ClientSettings(
            base + "/codex", base, Identity("cli", "cli/1", "9"), timeouts, max_event_bytes, max_stream_bytes, 2.0
        )
        yield CodexClient(settings, pool, http, clock), pool


def saying(*data: bytes, then: str = "gone") -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(*data)
        if then == "gone":
            await peer.gone()
        elif then == "reset":
            await asyncio.sleep(0.01)
            peer.reset()

    return talk


async def read_stream(client: CodexClient) -> bytes:
    response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
    stream = b""
    try:
        while block := await response.next_block():
            stream += block
    finally:
        response.close()
    return stream
