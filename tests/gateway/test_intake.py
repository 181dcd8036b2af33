"""Long bodies past the parser: whole, bounded, and with nothing of what comes behind them."""

from __future__ import annotations

import asyncio
import random
import ssl

import pytest

from gateway.intake import FIRST_BYTES, Intake, declared_length
from tests.fakes.faulty_tls import make_identity
from tests.gateway.framing import post
from tests.gateway.live import live, read_all
from tests.gateway.test_protocol import GOOD, answers, settle

MAX = 16 * 1024 * 1024
LONG = 3 * 1024 * 1024 + 17


def long_body(size: int = LONG) -> bytes:
    return random.Random(size).randbytes(size)


def long_post(body: bytes, fields: bytes = b"") -> bytes:
    return post(b"Content-Length: %d\r\n" % len(body) + fields, body)


class Taker:
    """What an intake tells its connection."""

    def __init__(self) -> None:
        self.progress = 0
        self.bodies: list[bytearray] = []
        self.told: list[str] = []

    def body_progress(self, size: int) -> None:
        self.progress += size

    def body_taken(self, body: bytearray) -> None:
        self.bodies.append(body)

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


def fill(intake: Intake, data: bytes) -> None:
    while data:
        room = intake.get_buffer(-1)
        size = min(len(room), len(data))
        room[:size] = data[:size]
        intake.buffer_updated(size)
        data = data[size:]


@pytest.mark.parametrize("step", [1024, 100_000, LONG])
def test_a_body_is_whole_however_it_arrives_and_is_told_once(step: int) -> None:
    taker, body = Taker(), long_body()
    intake = Intake(taker, body[:1000], LONG)
    for start in range(1000, LONG, step):
        assert not taker.bodies
        fill(intake, body[start : start + step])
    assert taker.bodies == [body]
    assert taker.progress == LONG - 1000


def test_memory_follows_what_has_arrived() -> None:
    intake = Intake(Taker(), b"x", 64 * 1024 * 1024)
    assert len(intake.get_buffer(-1)) < FIRST_BYTES
    fill(intake, bytes(FIRST_BYTES))
    assert len(intake.get_buffer(-1)) < 4 * FIRST_BYTES + 1


def test_there_is_never_room_for_a_byte_behind_the_body() -> None:
    assert len(Intake(Taker(), b"ab", 100_000).get_buffer(1 << 20)) == 99_998


def test_what_else_happens_is_the_connections_business() -> None:
    taker = Taker()
    intake = Intake(taker, b"", 100)
    intake.pause_writing()
    intake.resume_writing()
    intake.eof_received()
    intake.connection_lost(None)
    assert taker.told == ["pause", "resume", "eof", "lost"]


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([(b"content-length", b"17")], 17),
        ([(b"content-length", b"17"), (b"content-length", b"17")], 0),
        ([(b"content-length", b"17"), (b"transfer-encoding", b"chunked")], 0),
        ([(b"transfer-encoding", b"chunked")], 0),
        ([(b"content-length", b"+17")], 0),
        ([(b"host", b"17")], 0),
    ],
)
def test_only_one_plain_length_counts(fields: list[tuple[bytes, bytes]], length: int) -> None:
    assert declared_length(fields) == length


async def test_a_long_body_arrives_byte_for_byte_and_the_connection_serves_on() -> None:
    async with live(max_body=MAX) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for body in (long_body(), b"{}", long_body(LONG - 5)):
            writer.write(long_post(body))
            await reader.readuntil(b"read %d" % len(body))
            assert server.app.bodies[-1] == body
        writer.close()


@pytest.mark.fault("B46")
async def test_a_request_behind_a_long_body_is_not_served_and_not_part_of_it() -> None:
    body = long_body()
    async with live(max_body=MAX) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(long_post(body).replace(b"/v1/responses", b"/hang", 1) + GOOD)
        await writer.drain()
        async with asyncio.timeout(2.0):
            while not server.app.bodies:
                await settle()
        await settle()
        assert server.app.bodies == [body]
        assert server.app.paths == ["/hang"]
        writer.close()


async def test_a_long_body_arrives_over_tls_and_the_connection_serves_on() -> None:
    identity = make_identity()
    trust = ssl.create_default_context(cadata=identity.ca_pem.decode())
    async with live(max_body=MAX, tls=identity.context) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
        for body in (long_body(), b"{}", long_body(LONG - 5)):
            writer.write(long_post(body))
            async with asyncio.timeout(5.0):
                await reader.readuntil(b"read %d" % len(body))
            assert server.app.bodies[-1] == body
        writer.transport.abort()


async def test_who_gives_up_waiting_and_asks_again_gets_the_same_body() -> None:
    body = long_body()
    async with live(max_body=MAX) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        whole = long_post(body).replace(b"/v1/responses", b"/impatient", 1)
        for piece in (whole[: LONG // 2], whole[LONG // 2 : -10], whole[-10:]):
            writer.write(piece)
            await writer.drain()
            await settle(30)
        await reader.readuntil(b"read %d" % LONG)
        assert server.app.bodies == [body]
        writer.close()


async def test_a_hundred_and_continue_is_sent_for_a_long_body_too() -> None:
    body = long_body()
    async with live(max_body=MAX) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Content-Length: %d\r\nExpect: 100-continue\r\nConnection: close\r\n" % LONG))
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        writer.write(body)
        assert b"read %d" % LONG in await read_all(reader)
        assert server.app.bodies == [body]
        writer.close()


@pytest.mark.fault("B45")
async def test_a_long_body_that_stops_is_cut_with_408_and_the_rest_is_thrown_away() -> None:
    body = long_body()
    async with live(max_body=MAX) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(long_post(body)[: LONG // 2])
        await server.app.started.wait()
        await settle()
        server.look(0.5)
        server.look(19.0)
        await settle()
        assert not reader.at_eof()
        server.look(0.5)
        await server.app.gone.wait()
        writer.write(b"z" * 1000)
        assert answers(await read_all(reader)) == [408]
        assert not server.app.bodies
        writer.close()


@pytest.mark.fault("B44")
@pytest.mark.parametrize("half", [True, False])
async def test_a_client_that_leaves_within_a_long_body_is_noticed_at_once(half: bool) -> None:
    async with live(max_body=MAX) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(long_post(long_body())[: LONG // 2])
        await server.app.started.wait()
        await settle()
        if half:
            writer.write_eof()
        else:
            writer.transport.abort()
        async with asyncio.timeout(1.0):
            await server.app.gone.wait()
        assert not server.app.bodies
        writer.close()
