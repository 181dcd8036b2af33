"""Frames into lines, at every cut, and never more memory than a line may have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox.docker_streams import CUT, BrokenStream, bounded, lines, unframed


def frame(payload: bytes, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4) + payload


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 1000])
async def test_lines_are_the_same_however_the_bytes_arrive(size: int) -> None:
    data = frame(b"one\ntw") + frame(b"") + frame("o é\n".encode()) + frame(b"\n\xff\x00\nend")
    found = [line async for line in lines(unframed(pieces(data, size)))]
    assert found == [b"one", "two é".encode(), b"", b"\xff\x00", b"end"]


@pytest.mark.parametrize("size", [1, 3, 10, 11, 1000])
async def test_a_line_that_is_too_long_is_cut_and_the_next_is_whole(size: int) -> None:
    data = b"0123456789\n" + b"x" * 35 + b"\nshort\n" + b"y" * 11
    found = [line async for line in lines(pieces(data, size), max_bytes=10)]
    assert found == [b"0123456789", b"x" * 10 + CUT, b"short", b"y" * 10 + CUT]


@pytest.mark.parametrize("data", [frame(b"whole") + b"\1\0\0", frame(b"whole")[:-1], b"\1\0\0\0\0\0\0\5"])
async def test_an_end_inside_a_frame_is_no_end(data: bytes) -> None:
    with pytest.raises(BrokenStream, match="inside a frame"):
        [line async for line in lines(unframed(pieces(data, 4)))]


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK", b"\1\1\0\0\0\0\0\0", b"\5\0\0\0\0\0\0\1x"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenStream, match="no frame"):
        [line async for line in lines(unframed(pieces(data, 8)))]


async def test_nothing_is_no_line() -> None:
    assert [line async for line in lines(unframed(pieces(b"", 1)))] == []
    assert [line async for line in lines(pieces(b"\n", 1))] == [b""]


async def test_a_bound_holds_to_the_byte() -> None:
    assert b"".join([chunk async for chunk in bounded(pieces(b"12345", 2), 5)]) == b"12345"
    with pytest.raises(OverflowError):
        [chunk async for chunk in bounded(pieces(b"123456", 2), 5)]
