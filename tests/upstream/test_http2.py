"""HTTP/2 as the other way up: same interface, same deadlines, streams that end with their reader."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from ops.clock import SystemClock
from tests.fakes.clock import FakeClock
from tests.upstream.wire import ACCOUNT, CREATED, CREDENTIAL, DELTA, DONE, REQUEST, pooled
from upstream.client import CodexClient
from upstream.errors import FaultKind, UpstreamError
from upstream.http2 import Http2Sender
from upstream.pool import ConnectionPool
from upstream.types import ClientSettings, Identity, Timeouts


class Backend:
    """A small HTTP/2 server with prior knowledge; ``play`` answers each stream."""

    def __init__(self, play: Callable[[Backend, int], Awaitable[None]]) -> None:
        self._play = play
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.accepted = 0
        self.gone = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.accepted += 1
        self.writer = writer
        self.flush()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                for event in self.h2.receive_data(data):
                    self.on(event)
                self.flush()
        self.gone += 1
        writer.transport.abort()

    def on(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.fields = {bytes(name): bytes(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            self.body += event.data or b""
        elif isinstance(event, h2.events.StreamEnded):
            task = asyncio.ensure_future(self._play(self, event.stream_id))
            self.tasks.add(task)

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def head(self, stream: int, status: bytes = b"200", kind: bytes = b"text/event-stream") -> None:
        self.h2.send_headers(stream, [(b":status", status), (b"content-type", kind)])
        self.flush()

    def data(self, stream: int, data: bytes, end: bool = False) -> None:
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()


@contextlib.asynccontextmanager
async def over_http2(
    play: Callable[[Backend, int], Awaitable[None]], clock: FakeClock | None = None
) -> AsyncIterator[tuple[CodexClient, ConnectionPool, Backend]]:
    backend = Backend(play)
    listener = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/codex"
    used = clock or SystemClock()
    settings = ClientSettings(url, url, Identity("cli", "cli/1", "9"), Timeouts(2, 5, 5, 10, 5))
    try:
        async with pooled(used) as pool, httpx.AsyncClient(trust_env=False) as http:
            sender = Http2Sender(lambda: httpx.AsyncClient(http1=False, http2=True, trust_env=False), pool, used)
            yield CodexClient(settings, pool, http, used, sender), pool, backend
            async with asyncio.timeout(2):
                while pool.busy:
                    await asyncio.sleep(0.002)
            await sender.aclose()
    finally:
        for task in backend.tasks:
            task.cancel()
        await asyncio.gather(*backend.tasks, return_exceptions=True)
        listener.close()
        async with asyncio.timeout(2):
            while backend.gone != backend.accepted:
                await asyncio.sleep(0.002)


async def test_a_stream_over_http2() -> None:
    """Fields, body and events; the stream ends with its end."""

    async def play(backend: Backend, stream: int) -> None:
        backend.head(stream)
        backend.data(stream, CREATED)
        await asyncio.sleep(0.005)
        backend.data(stream, DELTA[:9])
        await asyncio.sleep(0.005)
        backend.data(stream, DELTA[9:] + DONE, end=True)

    async with over_http2(play) as (client, _, backend):
        for _ in range(3):
            response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
            stream = b""
            while block := await response.next_block(15.0):
                stream += block
            assert stream == CREATED + DELTA + DONE
        assert backend.accepted == 1
        assert backend.body == b'{"model":"m"}' * 3
        assert backend.fields[b"authorization"] == b"Bearer the-token"
        assert backend.fields[b":path"] == b"/codex/responses"
        assert backend.fields[b"user-agent"] == b"cli/1"


async def test_a_refusal_over_http2() -> None:
    """Classified as everywhere."""

    async def play(backend: Backend, stream: int) -> None:
        backend.head(stream, b"429", b"application/json")
        backend.data(stream, b'{"error":{"type":"usage_limit_reached"}}', end=True)

    async with over_http2(play) as (client, _, _):
        with pytest.raises(UpstreamError) as caught:
            await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        assert caught.value.kind is FaultKind.RATE_LIMITED


@pytest.mark.fault("B44")
@pytest.mark.parametrize("begun", [False, True])
async def test_leaving_closes_the_connection(begun: bool) -> None:
    """Before the head and after it, at once."""

    async def play(backend: Backend, stream: int) -> None:
        if begun:
            backend.head(stream)
            backend.data(stream, CREATED)

    async with over_http2(play) as (client, pool, backend):
        if begun:
            response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
            assert await response.next_block() == CREATED
            response.close()
        else:
            sending = asyncio.create_task(client.send(REQUEST, ACCOUNT, CREDENTIAL))
            while not backend.body:
                await asyncio.sleep(0.001)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        assert pool.busy == 0
        async with asyncio.timeout(2):
            while not backend.gone:
                await asyncio.sleep(0.001)


async def test_deadlines_hold_over_http2() -> None:
    """The sweep is the same."""
    clock = FakeClock()

    async def play(backend: Backend, stream: int) -> None:
        backend.head(stream)

    async with over_http2(play, clock) as (client, pool, _):
        response = await client.send(REQUEST, ACCOUNT, CREDENTIAL)
        clock.advance(6)
        pool.sweep()
        with pytest.raises(UpstreamError) as caught:
            await response.next_block()
        assert caught.value.kind is FaultKind.FIRST_EVENT_TIMEOUT
