"""The connection: framing, deadlines, departures, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.gateway.framing import BROKEN_BODIES, CHUNKED_END, HOST, REFUSED, SMUGGLED, post
from tests.gateway.live import MAX_BODY, VALUES, Live, live, read_all

GOOD = post(b"Content-Length: 2\r\n", b"{}")


def answers(got: bytes) -> list[int]:
    """Status codes of the answers in a byte stream (100 Continue left out)."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", got) if code != b"100"]


async def settle(turns: int = 20) -> None:
    for _ in range(turns):
        await asyncio.sleep(0.001)


@pytest.mark.fault("B46")
@pytest.mark.parametrize("name", sorted(REFUSED))
async def test_an_ambiguous_head_is_refused_and_the_connection_ends(name: str) -> None:
    async with live() as server:
        got = await server.talk(REFUSED[name])
        assert not got.endswith(b"<open>"), "the connection stays open"
        assert len(answers(got)) <= 1
        assert all(400 <= status < 500 for status in answers(got)), got
        assert server.app.paths == []
        if got:
            assert b"content-type: application/json" in got
            assert json.loads(got.partition(b"\r\n\r\n")[2])["error"]["code"]


@pytest.mark.fault("B46")
@pytest.mark.parametrize("name", sorted(BROKEN_BODIES))
async def test_a_broken_body_gives_one_answer_and_never_a_second_request(name: str) -> None:
    async with live() as server:
        got = await server.talk(BROKEN_BODIES[name])
        assert not got.endswith(b"<open>")
        assert len(answers(got)) <= 1
        assert 200 not in answers(got)
        assert "/smuggled" not in server.app.paths


@pytest.mark.fault("B46")
async def test_what_comes_behind_an_unanswered_request_is_not_served_and_the_connection_ends() -> None:
    async with live() as server:
        got = await server.talk(GOOD + SMUGGLED)
        assert answers(got) == [200]
        assert b"connection: close" in got
        assert not got.endswith(b"<open>")
        assert server.app.paths == ["/v1/responses"]


async def test_one_request_after_the_other_shares_a_connection() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(3):
            writer.write(GOOD)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(6) == b"read 2"
        assert len(server.app.paths) == 3
        writer.close()


async def test_the_absolute_form_is_served_by_its_path_alone() -> None:
    async with live() as server:
        got = await server.talk(b"GET http://other.test/x HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answers(got) == [200]
        assert server.app.paths == ["/x"]


async def test_trailer_fields_never_reach_the_application() -> None:
    async with live() as server:
        trailer = b"2\r\n{}\r\n0\r\nAuthorization: Bearer late\r\n\r\n"
        got = await server.talk(post(b"Transfer-Encoding: chunked\r\nConnection: close\r\n", trailer))
        assert answers(got) == [200]
        assert b"authorization" not in dict(server.app.scopes[0]["headers"])


async def test_an_upgrade_arrives_as_a_plain_request_and_ends_with_the_answer() -> None:
    async with live() as server:
        fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        got = await server.talk(b"GET /v1/responses HTTP/1.1\r\n" + HOST + fields + b"\r\n" + b"\x81\x00" * 10)
        assert answers(got) == [200]
        assert not got.endswith(b"<open>")
        assert dict(server.app.scopes[0]["headers"])[b"upgrade"] == b"websocket"


@pytest.mark.fault("B47")
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(b"X-A: " + b"a" * 128 * 1024 + b"\r\nContent-Length: 0\r\n"), 431),
        (post(b"".join(b"X-%d: 1\r\n" % i for i in range(2000)) + b"Content-Length: 0\r\n"), 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    ],
)
async def test_a_head_of_any_excess_is_refused(request_bytes: bytes, status: int) -> None:
    async with live() as server:
        got = await server.talk(request_bytes)
        assert answers(got) == [status]
        assert not got.endswith(b"<open>")
        assert server.app.paths == []


async def test_a_head_without_end_is_refused_at_the_limit() -> None:
    async with live() as server:
        got = await server.talk(post(b"X-A: " + b"a" * 40_000)[:-2])
        assert answers(got) == [431]


@pytest.mark.fault("B45")
@pytest.mark.parametrize("start", [b"", b"G", b"\r\n", b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n"])
async def test_a_head_that_does_not_arrive_in_time_is_cut(start: bytes) -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(start)
        await settle()
        server.look(9.0)
        await settle()
        assert not reader.at_eof()
        server.look(1.0)
        got = await read_all(reader)
        assert not got.endswith(b"<open>")
        assert answers(got) == ([408] if start else [])
        writer.close()


@pytest.mark.fault("B45")
async def test_a_head_that_drips_is_cut_all_the_same() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for byte in b"POST /v1":
            writer.write(bytes([byte]))
            await settle(3)
            server.look(1.5)
        assert answers(await read_all(reader)) == [408]
        writer.close()


@pytest.mark.fault("B45")
async def test_a_second_head_on_a_kept_connection_has_the_same_deadline() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GOOD)
        await reader.readexactly(6)
        await settle()
        server.look(30.0)
        assert not reader.at_eof()  # idle is the keep-alive timer's business
        writer.write(b"POST")
        await settle()
        server.look(10.0)
        assert b"408" in await read_all(reader)
        writer.close()


@pytest.mark.fault("B45")
async def test_a_body_that_stops_is_cut_with_408_and_the_application_hears_of_it() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Content-Length: 1000\r\n", b"{"))
        await server.app.started.wait()
        server.look(0.5)
        server.look(19.0)
        await settle()
        assert not reader.at_eof()
        server.look(0.5)
        assert answers(await read_all(reader)) == [408]
        await server.app.gone.wait()
        assert server.app.scopes[-1]["codex_relay.cut"] == "body_timeout"
        writer.close()


@pytest.mark.fault("B45")
async def test_a_body_that_drips_is_cut_by_its_rate() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Content-Length: 10000\r\n", b"{"))
        await server.app.started.wait()
        for _ in range(30):
            writer.write(b"x")
            await settle(3)
            server.look(1.0)
            if server.app.gone.is_set():
                break
            await settle(3)
        assert answers(await read_all(reader)) == [408]
        writer.close()


@pytest.mark.fault("B44")
@pytest.mark.parametrize("half", [True, False])
async def test_a_client_that_leaves_is_noticed_at_once_a_fin_counts(half: bool) -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GOOD.replace(b"/v1/responses", b"/hang"))
        await server.app.started.wait()
        if half:
            writer.write_eof()
        else:
            writer.transport.abort()
        async with asyncio.timeout(1.0):
            await server.app.gone.wait()
        if half:
            assert await read_all(reader) == b""
        writer.close()


@pytest.mark.fault("B43")
async def test_a_client_that_takes_nothing_is_cut_and_the_application_hears_of_it() -> None:
    async with live() as server:
        _reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(GOOD.replace(b"/v1/responses", b"/pour"))
        await server.app.started.wait()
        await asyncio.sleep(0.2)  # the kernel's buffers fill up
        server.look(1.0)
        for _ in range(59):
            server.look(1.0)
        assert not server.app.gone.is_set()
        server.look(1.0)
        async with asyncio.timeout(2.0):
            await server.app.gone.wait()
        assert server.app.scopes[-1]["codex_relay.cut"] == "client_stalled"
        writer.close()


async def test_a_slow_reader_that_takes_something_is_not_cut() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(GOOD.replace(b"/v1/responses", b"/pour"))
        await server.app.started.wait()
        await asyncio.sleep(0.1)
        for _ in range(8):
            server.look(30.0)
            await reader.readexactly(4_000_000)
            await settle()
        assert not server.app.gone.is_set()
        writer.transport.abort()
        await server.app.gone.wait()


@pytest.mark.fault("B48")
async def test_a_body_declared_too_large_is_refused_before_it_is_sent() -> None:
    async with live() as server:
        got = await server.talk(post(b"Content-Length: 10737418240\r\nExpect: 100-continue\r\n"))
        assert answers(got) == [413]
        assert b"100 Continue" not in got
        assert b"connection: close" in got


@pytest.mark.fault("B48")
async def test_endless_chunks_are_cut_soon_after_the_limit() -> None:
    async with live() as server:
        _reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Transfer-Encoding: chunked\r\n"))
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                await writer.drain()
                sent += 0x4000
        except ConnectionError:
            pass
        kernel = 8 * 1024 * 1024  # what socket buffers may swallow
        assert sent <= MAX_BODY + VALUES.linger_bytes + kernel
        writer.close()


@pytest.mark.fault("B48")
async def test_a_refusal_is_readable_by_a_client_that_is_still_sending() -> None:
    async with live() as server:
        body = b"x" * (MAX_BODY + 100_000)
        got = await server.talk(
            post(b"Transfer-Encoding: chunked\r\n", b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        )
        assert answers(got) == [413]


async def test_an_answer_before_the_body_ends_the_connection_in_bounded_time() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Content-Length: 5000\r\n", b"{").replace(b"/v1/responses", b"/early"))
        assert answers(await read_all(reader)) == [401]
        await settle()
        server.look(2.0)
        await settle()
        assert not server.protocol.sweep.watched
        writer.close()


async def test_a_hundred_and_continue_is_sent_when_the_body_is_wanted() -> None:
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post(b"Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        writer.write(b"{}")
        assert b"read 2" in await read_all(reader)
        writer.close()


@pytest.mark.fault("B13")
async def test_a_request_cut_at_every_byte_is_the_same_request() -> None:
    whole = post(b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n" + CHUNKED_END)
    async with live() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for cut in range(1, len(whole)):
            writer.write(whole[:cut])
            await asyncio.sleep(0)
            writer.write(whole[cut:])
            await reader.readuntil(b"read 2")
        assert len(server.app.paths) == len(whole) - 1
        writer.close()


async def test_no_connection_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def one(server: Live, data: bytes) -> None:
        await server.talk(data, close=True, wait_s=0.5)

    async with live() as server:
        await asyncio.gather(*(one(server, data) for data in (*REFUSED.values(), *BROKEN_BODIES.values(), GOOD, b"")))
        server.look(3.0)
        await settle()
        assert server.protocol.sweep.watched == 0
    assert [r for r in caplog.records if r.levelname in ("ERROR", "WARNING")] == []
