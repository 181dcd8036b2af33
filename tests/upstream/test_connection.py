"""One connection: strict about where a message ends, patient with how it comes, and never a stranger's bytes."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.upstream.wire import DELTA, LAST, SSE_HEAD, Peer, ask, chunk, pooled, read_all, serving
from upstream.connection import Connection
from upstream.dial import Origin
from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import HIGH_WATER
from upstream.types import Timeouts

GOOD = SSE_HEAD + chunk(b"data: 1\n\n") + LAST
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"

WHOLE = [
    (GOOD, b"data: 1\n\n", True),
    (PLAIN, b"abc", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n" + PLAIN, b"abc", True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    (b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", b"", True),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", True),
    (SSE_HEAD + chunk(b"ab") + b"0\r\nx-trailer: 1\r\n\r\n", b"ab", False),
    (SSE_HEAD + b"2;ext=1\r\nab\r\n" + LAST, b"ab", True),
    (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc", b"abc", False),
    (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"abc", False),
]


@pytest.mark.fault("B10")
@pytest.mark.parametrize("drip", [False, True])
@pytest.mark.parametrize(("answer", "body", "kept"), WHOLE)
async def test_whole_answers(answer: bytes, body: bytes, kept: bool, drip: bool) -> None:
    """Interim heads, no body, trailers, close: read the same in one piece and byte by byte."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await (peer.drip(answer) if drip else peer.say(answer))
        await peer.gone()

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server)
        assert await read_all(exchange) == body
        assert exchange.complete
        if not drip:
            assert pool.idle == int(kept)
        assert pool.stats.desync_detected == 0


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    """As HTTP/1.1 has it; the connection is gone then."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n", b"abc")

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server)
        # the peer aborts after the talk, which is a FIN when nothing is unread
        assert await read_all(exchange) == b"abc"
        assert pool.idle == 0


BAD = [
    b"<html>not http</html>\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"HTTP/0.9 200 OK\r\ncontent-length: 1\r\n\r\na",
    b"HTTP/2.0 200 OK\r\ncontent-length: 1\r\n\r\na",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na: b\x00c\r\n\r\n",
    b"HTTP/1.1 200 OK\na: b\n\n",
    b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\na: " + b"x" * 70_000,
    b"HTTP/1.1 102 P\r\n\r\n" * 11,
]


@pytest.mark.fault("B8")
@pytest.mark.fault("B9")
@pytest.mark.parametrize("answer", BAD)
async def test_what_is_not_strictly_http_is_a_protocol_error(answer: bytes) -> None:
    """And the connection is closed at once."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(answer)
        await peer.gone()

    async with serving(talk) as server, pooled() as pool:
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, server)
        assert caught.value.kind is FaultKind.PROTOCOL
        await server.until_empty()
        assert pool.idle == 0


@pytest.mark.fault("B14")
@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (b"5\r\nab", FaultKind.TRUNCATED),
        (b"", FaultKind.TRUNCATED),
        (b"zz\r\n", FaultKind.PROTOCOL),
        (b"fffffffffffffffff\r\n", FaultKind.PROTOCOL),
        (b"3\r\nabcd\r\n", FaultKind.PROTOCOL),
    ],
)
async def test_a_cut_or_garbled_body_is_told_after_what_came_before(rest: bytes, kind: FaultKind) -> None:
    """Bytes that arrived whole are given out first."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(DELTA))
        await asyncio.sleep(0.01)
        await peer.say(rest)

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server)
        assert await exchange.read() == DELTA
        with pytest.raises(UpstreamError) as caught:
            await read_all(exchange)
        assert caught.value.kind is kind
        assert caught.value.status == 200
        assert pool.idle == 0


@pytest.mark.fault("B12")
@pytest.mark.parametrize("extra", [PLAIN, b"junk", b"\r\n", b"HTTP/1.1 200 OK\r\n", b"\0"])
async def test_bytes_behind_a_message_discard_the_connection(extra: bytes) -> None:
    """In the same segment: the answer stands, the connection is not used again."""

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(PLAIN + extra)
        await peer.gone()

    async with serving(talk) as server, pooled() as pool:
        assert await read_all(await ask(pool, server)) == b"abc"
        assert pool.idle == 0
        assert pool.stats.desync_detected == (0 if extra == b"\r\n" else 1)
        assert await read_all(await ask(pool, server)) == b"abc"
        assert server.accepted == 2


@pytest.mark.fault("B12")
async def test_bytes_on_an_idle_connection_discard_it() -> None:
    """An answer to nobody is never an answer to the next."""
    spoke = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.say(PLAIN)
        await spoke.wait()
        await peer.say(PLAIN.replace(b"abc", b"zzz"))
        await peer.gone()

    async with serving(talk) as server, pooled() as pool:
        await read_all(await ask(pool, server))
        assert pool.idle == 1
        spoke.set()
        await server.until_empty()
        assert pool.idle == 0
        assert pool.stats.desync_detected == 1


@pytest.mark.fault("B43")
async def test_a_reader_who_is_behind_pauses_the_upstream() -> None:
    """Not more than the high-water mark and what the sockets hold is taken; all of it arrives when reading goes on."""
    pushed = 0
    size = 64 * 1024
    total = 400

    async def talk(peer: Peer) -> None:
        nonlocal pushed
        await peer.request()
        await peer.say(SSE_HEAD)
        for _ in range(total):
            await peer.say(chunk(b"y" * size))
            pushed += 1
        await peer.say(LAST)
        await peer.gone()  # else what the sockets still hold would be thrown away

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server)
        seen = -1
        while seen != pushed:
            seen = pushed
            await asyncio.sleep(0.05)
        assert pushed < total
        assert len(exchange.take()) <= HIGH_WATER + 1024 * 1024
        length = 0
        while data := await exchange.read():
            length += len(data)
        assert length < total * size
        assert exchange.complete


async def test_a_big_body_that_nobody_takes_is_given_up() -> None:
    """The write deadline; the same body goes through to a server that reads."""
    body = b"z" * (8 << 20)

    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # the stream's transport is two-way
        await asyncio.sleep(5)

    async def keen(peer: Peer) -> None:
        _, got = await peer.request()
        assert got == body
        await peer.say(PLAIN)
        await peer.gone()

    impatient = Timeouts(connect_s=1, first_event_s=5, idle_s=5, total_s=9, write_s=0.1)
    async with serving(deaf, keen) as server, pooled() as pool:
        with pytest.raises(UpstreamError, match="not taken"):
            await ask(pool, server, body, impatient)
        assert await read_all(await ask(pool, server, body)) == b"abc"


async def test_an_early_answer_to_a_half_taken_request_ends_the_connection() -> None:
    """What is still unwritten may not be followed by another request."""

    async def talk(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(0.2)

    async with serving(talk) as server, pooled() as pool:
        exchange = await ask(pool, server, b"z" * (16 << 20))
        assert exchange.status == 413
        assert await read_all(exchange) == b"no"
        assert pool.idle == 0


class _Transport(asyncio.Transport):
    """Takes everything, remembers that it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class _Keeper:
    def settled(self, connection: Connection, reusable: bool) -> None:
        self.reusable = reusable

    def lost(self, connection: Connection) -> None: ...

    def desynced(self) -> None: ...


def fed(pieces: list[bytes]) -> tuple[int, bytes, bool, FaultKind | None]:
    connection = Connection(Origin("http", "h", 80), _Keeper())
    transport = _Transport()
    connection.connection_made(transport)
    exchange = connection.start(b"GET / HTTP/1.1\r\n\r\n", [], Timeouts(), 0.0)
    for piece in pieces:
        if piece and not transport.closed:
            connection.data_received(piece)
    return exchange.status, exchange.take(), exchange.complete, exchange.error.kind if exchange.error else None


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([w[0] for w in WHOLE] + BAD) | st.binary(max_size=40), max_size=3),
    st.lists(st.integers(0, 5000), max_size=8),
)
def test_any_bytes_in_any_pieces_end_in_an_answer_or_in_one_error(parts: list[bytes], places: list[int]) -> None:
    """No exception leaves the parser, and where the network cuts makes no difference to what was read."""
    stream = b"".join(parts)
    marks = sorted({p % (len(stream) + 1) for p in places} | {0, len(stream)})
    pieces = [stream[a:b] for a, b in itertools.pairwise(marks)] or [stream]
    status, body, complete, error = fed(pieces)
    assert not (complete and error)
    whole = fed([stream])
    if whole[2]:
        assert (status, body, complete) == whole[:3]
