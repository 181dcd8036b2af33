"""Every mode does at the byte level what its name says; seen by a client that knows no HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.fakes.faulty import FaultyUpstream, Mode, events, modes, statuses, streams
from tests.fakes_test.raw_client import EOF_END, OPEN_END, RESET_END, RawClient, exchange, payload

LAST = b"0\r\n\r\n"
TEXT = events.text_stream()
HEAD = modes.head()


@pytest.fixture
async def up() -> AsyncIterator[FaultyUpstream]:
    async with FaultyUpstream() as upstream:
        yield upstream


def mode_name(value: object) -> str:
    return str(value) if isinstance(value, Mode) else ""


def sent(*blocks: bytes) -> bytes:
    return HEAD + modes.chunks(blocks)


@pytest.mark.parametrize(
    ("mode", "wire", "end"),
    [
        (modes.close_pre(), b"", EOF_END),
        (modes.rst_pre(), b"", RESET_END),
        (modes.http09(), b"<html>hello</html>\n", EOF_END),
        (modes.garbage(b"\x00nonsense"), b"\x00nonsense", EOF_END),
        (modes.tls_bytes(), b"\x15\x03\x03\x00\x02\x02\x28", EOF_END),
        (modes.no_chunks(), modes.head(framing="") + b"".join(TEXT), EOF_END),
        (streams.rst(after=0), HEAD, RESET_END),
        (streams.rst(after=3), sent(*TEXT[:3]), RESET_END),
        (streams.fin(after=5), sent(*TEXT[:5]), EOF_END),
        (streams.cut(after=4, inside=9), sent(*TEXT[:4], TEXT[4][:9]), EOF_END),
        (streams.truncated_chunk(after=1), sent(TEXT[0]) + b"%x\r\n%s" % (len(TEXT[1]) + 64, TEXT[1]), EOF_END),
    ],
    ids=mode_name,
)
async def test_a_mode_that_ends_the_connection_sends_exactly_these_bytes(
    up: FaultyUpstream, mode: Mode, wire: bytes, end: str
) -> None:
    up.default = mode
    assert await exchange(up) == (wire, end)


@pytest.mark.parametrize(
    ("mode", "blocks"),
    [
        (streams.not_completed(after=4), TEXT[:4]),
        (streams.not_completed(after=0), []),
        (streams.failed("rate_limit_exceeded"), [events.failed("rate_limit_exceeded")]),
        (streams.failed("x", after=2), [*TEXT[:2], events.failed("x", number=2)]),
        (streams.error_event("e", after=1), [TEXT[0], events.error("e", number=1)]),
        (streams.incomplete(after=5), [*TEXT[:5], events.incomplete("max_output_tokens", number=5)]),
        (streams.sequence((0, 1, 1, 5, 3)), events.text_stream(sequence=(0, 1, 1, 5, 3))),
        (streams.split(own_chunk=True), events.text_stream(streams.MIXED_TEXT)),
        (streams.split(eol=b"\r\n"), events.text_stream(streams.MIXED_TEXT, eol=b"\r\n")),
        (streams.drip(every_s=0.0, after=9), TEXT),
        (modes.raw_events([b"data: 1\n\n", b": c\n\n"]), [b"data: 1\n\n", b": c\n\n"]),
    ],
    ids=mode_name,
)
async def test_a_mode_with_a_right_http_end_carries_exactly_these_events(
    up: FaultyUpstream, mode: Mode, blocks: list[bytes]
) -> None:
    up.default = mode
    wire, end = await exchange(up, LAST)
    assert end == OPEN_END
    assert payload(wire) == b"".join(blocks)


@pytest.mark.parametrize(
    ("mode", "wire"),
    [
        (modes.head_then_hang(upto=12), b"HTTP/1.1 200"),
        (streams.idle(after=2), sent(*TEXT[:2])),
        (modes.bad_chunk(b"zz", after=1), sent(TEXT[0]) + b"zz\r\nx\r\n"),
        (modes.bad_chunk(b"-5", after=0), HEAD + b"-5\r\nx\r\n"),
        (streams.failed("x", ends=False), sent(events.failed("x"))),
        (streams.endless_line(after=0, times=2), HEAD + modes.chunk(b"data: ") + 2 * modes.chunk(b"x" * 65_536)),
        (modes.leftover(b"EVIL"), sent(*TEXT) + LAST + b"EVIL"),
    ],
    ids=mode_name,
)
async def test_a_mode_that_waits_sends_these_bytes_and_stays_until_the_peer_leaves(
    up: FaultyUpstream, mode: Mode, wire: bytes
) -> None:
    up.default = mode
    client = await RawClient.connect(up)
    await client.ask()
    assert await client.reader.readexactly(len(wire)) == wire
    assert (up.open_streams, up.aborted, up.bytes_written) == (1, 0, len(wire))
    await client.close()
    await up.until(lambda: (up.open_streams, up.aborted, up.open_connections) == (0, 1, 0))


async def test_hang_pre_answers_nothing_and_sees_the_peer_leave(up: FaultyUpstream) -> None:
    up.default = modes.hang_pre()
    client = await RawClient.connect(up)
    await client.ask()
    await up.until(lambda: up.open_streams == 1)
    await client.close()
    await up.until(lambda: up.aborted == 1)
    assert up.bytes_written == 0


@pytest.mark.parametrize("mode", [modes.slowhead(every_s=0.0), streams.split(size=1)], ids=mode_name)
async def test_single_bytes_go_out_as_single_writes(up: FaultyUpstream, mode: Mode) -> None:
    """Counted at the server: the number of writes, because a client may read several at once."""
    writes: list[int] = []
    before = 0

    def watch() -> bool:
        nonlocal before
        if up.bytes_written != before:
            writes.append(up.bytes_written - before)
            before = up.bytes_written
        return up.finished == 1

    up.default = mode
    watching = asyncio.create_task(up.until(watch))
    await asyncio.sleep(0)
    await exchange(up, LAST)
    await watching
    assert writes.count(1) > 150


def test_cuts_of_one_byte_fall_inside_utf8_and_line_ends() -> None:
    text = b"".join(events.text_stream(streams.MIXED_TEXT))
    assert "😀".encode() in text
    assert text.decode().count("ë") == 5  # delta, done, part, item and completed hold it, none of them escaped


@pytest.mark.parametrize(("size", "fields"), [(262_144, 1), (60_000, 10_000)])
async def test_bighdr_is_as_big_as_it_says(up: FaultyUpstream, size: int, fields: int) -> None:
    up.default = modes.bighdr(size=size, fields=fields)
    wire, _ = await exchange(up, LAST)
    head, _, _ = wire.partition(b"\r\n\r\n")
    assert head.count(b"\r\nx-big-") == fields
    assert len(head) > size


async def test_informational_heads_come_before_the_real_one(up: FaultyUpstream) -> None:
    up.default = modes.informational()
    wire, _ = await exchange(up, LAST)
    starts = [part[:12] for part in wire.split(b"\r\n\r\n")[:3]]
    assert starts == [b"HTTP/1.1 100", b"HTTP/1.1 103", b"HTTP/1.1 200"]


@pytest.mark.parametrize("code", [204, 304])
async def test_bodyless_answers_have_no_length_and_no_body(up: FaultyUpstream, code: int) -> None:
    up.default = modes.bodyless(code)
    wire, _ = await exchange(up, b"\r\n\r\n")
    assert wire.startswith(b"HTTP/1.1 %d " % code)
    assert b"length" not in wire
    assert b"chunked" not in wire


async def test_trailers_follow_the_last_chunk(up: FaultyUpstream) -> None:
    up.default = modes.trailers()
    wire, _ = await exchange(up, b"evil\r\n\r\n")
    assert wire.endswith(b"\r\n0\r\nx-sum: 1\r\nauthorization: Bearer evil\r\n\r\n")


@pytest.mark.parametrize("inject", [b"\r\nset-cookie: evil=1", b"\rset-cookie: b", b"\nset-cookie: c", b"\x00d"])
async def test_split_header_puts_raw_bytes_into_a_value(up: FaultyUpstream, inject: bytes) -> None:
    up.default = modes.split_header(inject)
    wire, _ = await exchange(up, LAST)
    assert b"\r\nx-codex-turn-state: a" + inject + b"\r\n\r\n" in wire


async def test_two_lengths_stand_in_one_head(up: FaultyUpstream) -> None:
    up.default = modes.both_lengths()
    head = (await exchange(up, LAST))[0].partition(b"\r\n\r\n")[0]
    assert b"content-length: 5" in head
    assert b"transfer-encoding: chunked" in head


async def test_leftover_bytes_can_wait_for_a_gate(up: FaultyUpstream) -> None:
    up.default = modes.leftover(b"EVIL", gate="late")
    client = await RawClient.connect(up)
    await client.ask()
    wire, _ = await client.read_all(LAST)
    assert not wire.endswith(b"EVIL")
    up.open_gate("late")
    assert await client.reader.readexactly(4) == b"EVIL"
    await client.close()


async def test_then_close_promises_keep_alive_and_closes(up: FaultyUpstream) -> None:
    up.default = modes.good(then_close=True)
    wire, end = await exchange(up)
    assert wire.endswith(LAST)
    assert end == EOF_END
    assert b"connection:" not in wire


async def test_a_huge_event_is_one_event_of_that_size(up: FaultyUpstream) -> None:
    up.default = streams.huge_event(size=4 << 20)
    body = payload((await exchange(up, LAST))[0])
    blocks = body.split(b"\n\n")
    assert max(map(len, blocks)) > 4 << 20
    assert json.loads(blocks[4].partition(b"data: ")[2])["delta"] == "x" * (4 << 20)


@pytest.mark.parametrize(
    ("mode", "raw"), [(streams.nul(), b"\x00"), (streams.bad_utf8(), b"\xff\xfe\xc3")], ids=mode_name
)
async def test_raw_bytes_stand_inside_a_delta(up: FaultyUpstream, mode: Mode, raw: bytes) -> None:
    up.default = mode
    body = payload((await exchange(up, LAST))[0])
    assert b'"delta":"' + raw + b'"' in body


async def test_gzipped_is_a_right_stream_once_unpacked(up: FaultyUpstream) -> None:
    up.default = streams.gzipped()
    wire, _ = await exchange(up, LAST)
    assert b"content-encoding: gzip" in wire
    assert gzip.decompress(payload(wire)) == b"".join(TEXT)


async def test_a_gzip_bomb_is_small_on_the_wire(up: FaultyUpstream) -> None:
    up.default = streams.gzip_bomb(mib=16)
    packed = payload((await exchange(up, LAST))[0])
    assert len(packed) < 64 << 10
    assert len(zlib.decompress(packed, wbits=31)) >= 16 << 20


async def test_infinite_goes_on_until_the_peer_leaves(up: FaultyUpstream) -> None:
    up.default = streams.infinite()
    client = await RawClient.connect(up)
    await client.ask()
    data = await client.reader.readexactly(1 << 20)
    assert data.count(b'"again "') > 5000
    await client.close()
    await up.until(lambda: up.aborted == 1)


@pytest.mark.parametrize(
    ("mode", "first", "contains"),
    [
        (statuses.usage_limit(resets_in_s=60), "429 Too Many Requests", '"resets_in_seconds": 60'),
        (statuses.usage_limit(resets_at_s=1795, retry_after="7"), "429 Too Many Requests", "retry-after: 7\r\n"),
        (statuses.throttled(), "429 Too Many Requests", "rate_limit_exceeded"),
        (statuses.bare_429(), "429 Too Many Requests", "content-length: 0"),
        (statuses.unauthorized(), "401 Unauthorized", "token_expired"),
        (statuses.unauthorized(""), "401 Unauthorized", '{"detail": "Unauthorized"}'),
        (statuses.cloudflare(), "403 Forbidden", "cf-mitigated: challenge"),
        (statuses.forbidden(), "403 Forbidden", "unsupported_country"),
        (statuses.payment_required(), "402 Payment Required", "deactivated_workspace"),
        (statuses.refused(422), "422 Unprocessable Entity", '"detail"'),
        (statuses.refused_by(), "400 Bad Request", "context_length_exceeded"),
        (statuses.overloaded(number=529), "529 Unknown", "server_is_overloaded"),
        (statuses.server_error(502), "502 Bad Gateway", "internal"),
        (statuses.redirect(308), "308 Permanent Redirect", "location: http://127.0.0.1:"),
        (statuses.html_200(), "200 OK", "content-type: text/html"),
        (statuses.json_200(), "200 OK", '{"ok": true}'),
        (statuses.status(418, b"tea", headers=(("x-a", "b"),)), "418 I'm a Teapot", "x-a: b"),
    ],
    ids=mode_name,
)
async def test_a_status_has_its_line_its_length_and_its_evidence(
    up: FaultyUpstream, mode: Mode, first: str, contains: str
) -> None:
    up.default = mode
    client = await RawClient.connect(up)
    await client.ask()
    head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.lower().partition("content-length: ")[2].partition("\r\n")[0])
    body = (await client.reader.readexactly(length)).decode()
    assert head.startswith(f"HTTP/1.1 {first}\r\n")
    assert contains in head + body
    await client.close()
