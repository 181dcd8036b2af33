"""What is no orderly request is answered or cut at the front door, in time, and never reaches an account."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import Line, eventually, line, nothing_left
from tests.flow.stage import Stage, stage
from tests.gateway.framing import BROKEN_BODIES, REFUSED

SHORT: Any = {"server": {"header_timeout_s": 0.6, "body_idle_timeout_s": 0.6, "keep_alive_s": 1}}


def with_key(request: bytes, key: str) -> bytes:
    """The same bytes, but from a client that has a key."""
    first, found, rest = request.partition(b"\r\n")
    field = b"authorization: Bearer " + key.encode() + b"\r\ncontent-type: application/json\r\n"
    return first + found + (field if b"HTTP/" in first else b"") + rest


def answers(data: bytes) -> int:
    """How many status lines stand in ``data``."""
    return len(re.findall(rb"HTTP/1\.1 \d{3} ", data))


async def ended(client: Line, wait_s: float = 4.0) -> bytes:
    """All bytes until the gateway ends the connection; TimeoutError when it does not."""
    with contextlib.suppress(ConnectionError):
        return await client.rest(wait_s)
    return b""


@pytest.mark.fault("B45")
async def test_whoever_does_not_come_to_the_point_is_cut_by_deadline(tmp_path: Path) -> None:
    """Idle, half a head, a dripped head, half a body, a dripped chunk: 408 or a plain end; others are served."""

    async def silent(client: Line, _whole: bytes) -> None:
        pass

    async def half_a_head(client: Line, whole: bytes) -> None:
        await client.send(whole[:60])

    async def dripped_head(client: Line, whole: bytes) -> None:
        for at in range(40):
            await client.send(whole[at : at + 1])
            await asyncio.sleep(0.03)

    async def half_a_body(client: Line, whole: bytes) -> None:
        await client.send(whole[:-5])

    async def half_a_chunk(client: Line, _whole: bytes) -> None:
        fields: Any = {"content_length": "", "transfer_encoding": "chunked"}
        await client.send(client.request(b"", **fields) + b'20\r\n{"model": ')

    kinds = (silent, half_a_head, dripped_head, half_a_body, half_a_chunk)
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, **SHORT) as scene:

        async def misbehave(number: int) -> bytes:
            async with line(scene) as client:
                sending = asyncio.create_task(kinds[number % len(kinds)](client, client.request()))
                got = await ended(client)
                sending.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await sending
                return got

        crowd = [asyncio.create_task(misbehave(number)) for number in range(100)]
        good = [await scene.relay() for _ in range(20)]
        ends = await asyncio.gather(*crowd)
        assert [(answer.status, answer.code) for answer in good] == [(200, None)] * 20
        assert max(answer.took_s for answer in good) < 1.0
        assert upstream.requests == 20
        await eventually(lambda: nothing_left(scene))
    for number, end in enumerate(ends):
        if kinds[number % len(kinds)] is silent:
            assert end == b""
        else:
            assert end.startswith(b"HTTP/1.1 408 "), end
            assert b'"request_timeout"' in end
            assert answers(end) == 1


@pytest.mark.fault("B46")
async def test_no_ambiguous_framing_reaches_an_account_or_gets_two_answers(tmp_path: Path) -> None:
    """The whole grid with a valid key: a 4xx or nothing, the end of the connection, no upstream call."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for name, request in REFUSED.items():
            async with line(scene) as client:
                await client.send(with_key(request, client.key))
                got = await ended(client)
                assert got == b"" or got.startswith(b"HTTP/1.1 4"), (name, got)
                assert answers(got) <= 1, (name, got)
        for name, request in BROKEN_BODIES.items():
            async with line(scene) as client:
                await client.send(with_key(request, client.key))
                client.half_close()
                got = await ended(client)
                assert answers(got) <= 1, (name, got)
        assert upstream.requests == 0
        assert (await scene.relay()).status == 200


@pytest.mark.fault("B46")
async def test_a_request_behind_an_unanswered_one_is_not_served(tmp_path: Path) -> None:
    """Pipelining: one answer, whole, then the end; the second call never runs."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene, line(scene) as client:
        await client.send(client.request() * 2)
        got = await ended(client)
        assert got.count(b"HTTP/1.1 200") == 1
        assert got.count(b"event: response.completed") == 1
        assert upstream.requests == 1


@pytest.mark.fault("B47")
@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/v1/responses", {"x_big": "a" * 131_072}, (431, "headers_too_large")),
        ("/v1/responses", {f"x_{n}": "1" for n in range(2000)}, (431, "headers_too_large")),
        ("/v1/" + "a" * 100_000, {}, (414, "uri_too_long")),
        ("/v1/responses?" + "a" * 20_000, {}, (414, "uri_too_long")),
    ],
    ids=["one giant field", "countless fields", "giant path", "giant query"],
)
async def test_a_head_of_any_excess_is_refused(
    tmp_path: Path, path: str, fields: Any, expected: tuple[int, str]
) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene, line(scene) as client:
        with contextlib.suppress(ConnectionError):
            await client.send(client.request(path=path, **fields))
        assert await client.error() in (expected, (431, "headers_too_large"))
        assert await ended(client) == b""
        assert upstream.requests == 0


@pytest.mark.fault("B48")
async def test_a_body_declared_too_large_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, server={"max_body_mib": 1}) as scene,
        line(scene) as client,
    ):
        await client.send(client.request(b"", content_length=str(10 << 30)))
        head, _ = await client.answer(wait_s=1.0)
        assert (head.status, head.headers["connection"]) == (413, "close")
        assert await ended(client) == b""
        assert upstream.requests == 0


@pytest.mark.fault("B48")
@pytest.mark.parametrize("announced", ["chunked", "just over"])
async def test_a_body_that_does_not_end_is_cut_near_the_limit(tmp_path: Path, announced: str) -> None:
    """Endless chunks are refused after the limit and at most 2 MiB of goodwill."""
    piece = b"x" * 65_536
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, server={"max_body_mib": 1}) as scene,
        line(scene) as client,
    ):
        if announced == "chunked":
            await client.send(client.request(b"", content_length="", transfer_encoding="chunked"))
            piece = b"10000\r\n" + piece + b"\r\n"
        else:
            await client.send(client.request(b"", content_length=str((1 << 20) + 1)))
        sent = await pour(client, piece)
        assert sent <= (1 << 20) + (2 << 20) + (6 << 20), "more than limit, goodwill and the kernel's buffers"
        assert upstream.requests == 0
        assert (await scene.relay()).status == 200


async def pour(client: Line, piece: bytes, most: int = 64 << 20) -> int:
    """Writes ``piece`` until the gateway refuses to take more; the bytes that went out."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            async with asyncio.timeout(3):
                await client.send(piece)
            sent += len(piece)
    return sent


@pytest.mark.fault("B48")
async def test_a_client_that_is_still_sending_can_read_the_refusal(tmp_path: Path) -> None:
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, server={"max_body_mib": 1}) as scene,
        line(scene) as client,
    ):
        body = b"x" * (2 << 20)
        with contextlib.suppress(ConnectionError):
            await client.send(client.request(body))
        assert await client.error() == (413, "body_too_large")
        assert await unserved(scene, upstream)


async def unserved(scene: Stage, upstream: FaultyUpstream) -> bool:
    """Nothing is in work and no account was asked."""
    await eventually(lambda: nothing_left(scene))
    return upstream.requests == 0
