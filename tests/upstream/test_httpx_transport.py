"""The pool under httpx: same API, our sockets, and nothing that must not be repeated is sent twice."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.upstream.wire import Peer, Server, Talk, pooled, serving
from upstream.errors import FaultKind, UpstreamError
from upstream.httpx_transport import PoolTransport, upstream_error
from upstream.pool import ConnectionPool

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def over_pool(
    *talks: Talk, max_body_bytes: int = 1000
) -> AsyncIterator[tuple[httpx.AsyncClient, ConnectionPool, Server, str]]:
    async with (
        serving(*talks) as server,
        pooled() as pool,
        httpx.AsyncClient(transport=PoolTransport(pool, max_body_bytes), trust_env=False, timeout=2) as http,
    ):
        yield http, pool, server, f"http://127.0.0.1:{server.origin.port}"


def saying(data: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.say(data)

    return talk


async def test_a_get_and_a_post_on_the_wire() -> None:
    """Our own framing fields; the caller's path, query, fields and body."""
    seen: list[tuple[bytes, bytes]] = []

    async def talk(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            await peer.say(PLAIN)

    async with over_pool(talk) as (http, _, server, url):
        assert (await http.get(url + "/a%20b?q=1", headers={"x-one": "1", "connection": "x-one"})).json() == {}
        assert (await http.post(url + "/t", json={"k": "v"})).status_code == 200
        (get, _), (post, body) = seen
        assert get.startswith(b"GET /a%20b?q=1 HTTP/1.1\r\n")
        assert b"x-one: 1\r\n" in get
        assert b"accept-encoding: identity\r\n" in get
        assert b"connection" not in get.lower()
        assert b"content-length" not in get.lower()
        assert body == b'{"k":"v"}'
        assert b"content-length: 9\r\n" in post
        assert b"content-type: application/json\r\n" in post
        assert server.accepted == 2


async def test_a_get_uses_kept_connections_and_a_post_never_does() -> None:
    """A token exchange must not meet a stale connection: its outcome would be unknown."""
    async with over_pool(saying(PLAIN)) as (http, pool, server, url):
        for _ in range(3):
            await http.get(url)
        assert server.accepted == 1
        for _ in range(3):
            await http.post(url)
        assert server.accepted == 4
        assert pool.idle == 4


@pytest.mark.fault("B5")
async def test_a_get_on_a_stale_connection_is_sent_again_once() -> None:
    """The kept connection dies as it is used; the caller sees the answer only."""

    async def stale(peer: Peer) -> None:
        await peer.request()
        await peer.say(PLAIN)
        await peer.request()

    async with over_pool(stale, saying(PLAIN)) as (http, _, server, url):
        await http.get(url)
        assert (await http.get(url)).status_code == 200
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", httpx.ReadError),
        (b"junk\r\n\r\n", httpx.RemoteProtocolError),
        (
            PLAIN.replace(b"content-length: 2", b"content-encoding: gzip\r\ncontent-length: 2"),
            httpx.RemoteProtocolError,
        ),
        (PLAIN.replace(b"content-length: 2", b"content-length: 2000") + b"x" * 1998, httpx.RemoteProtocolError),
        (PLAIN.replace(b"content-length: 2", b"content-length: 900"), httpx.ReadError),
    ],
)
async def test_errors_are_httpxs_and_come_back_as_ours(said: bytes, error: type[Exception]) -> None:
    """Translated once in each direction, without loss."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(said)

    async with over_pool(talk) as (http, _, _, url):
        with pytest.raises(error) as caught:
            await http.post(url)
        assert isinstance(caught.value, httpx.HTTPError)
        assert upstream_error(caught.value) is caught.value.__cause__


async def test_the_read_timeout_bounds_the_whole_exchange() -> None:
    """Not each read: a dripping answer ends, too."""
    import asyncio

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n")
        while True:
            await peer.say(b"x")
            await asyncio.sleep(0.01)

    async with over_pool(talk) as (http, _, server, url):
        with pytest.raises(httpx.ReadTimeout):
            await http.get(url, timeout=0.1)
        await server.until_empty()


async def test_leaving_a_response_early_closes_its_connection() -> None:
    """Nothing is read to the end behind the caller's back."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nabc")
        await peer.gone()

    async with over_pool(talk) as (http, pool, server, url):
        async with http.stream("GET", url) as response:
            assert response.status_code == 200
        await server.until_empty()
        assert pool.idle == 0


async def test_what_is_not_carried_is_refused() -> None:
    """Other methods, other schemes, and header values with control characters."""
    async with over_pool(saying(PLAIN)) as (http, _, server, url):
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.head(url)
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1/")
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(url, headers={"x": "a\r\nb: c"})
        assert server.accepted == 0


def test_errors_of_other_transports_have_a_kind() -> None:
    """The HTTP/2 client is httpx's own."""
    cases: list[tuple[httpx.HTTPError, bool, FaultKind, bool]] = [
        (httpx.ConnectError("x"), False, FaultKind.CONNECT, False),
        (httpx.PoolTimeout("x"), False, FaultKind.CONNECT_TIMEOUT, False),
        (httpx.WriteTimeout("x"), False, FaultKind.FIRST_EVENT_TIMEOUT, True),
        (httpx.ReadError("x"), False, FaultKind.LOST, True),
        (httpx.ReadError("x"), True, FaultKind.TRUNCATED, True),
    ]
    for error, begun, kind, sent in cases:
        found = upstream_error(error, begun=begun)
        assert isinstance(found, UpstreamError)
        assert (found.kind, found.sent) == (kind, sent)
