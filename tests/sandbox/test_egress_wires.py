"""Bodies and pipes: exactly what was declared, and silence counted in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.clock import SystemClock
from sandbox.egress_head import BadHead
from sandbox.egress_wires import Flow, Silence, pass_body, pump


class Sink:
    """A writer that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True


def reading(data: bytes, *, end: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    if end:
        reader.feed_eof()
    return reader


async def passed(data: bytes, length: int | None) -> tuple[bytes, bytes]:
    """What went across, and what was left."""
    reader, sink = reading(data), Sink()
    writer: Any = sink
    await pass_body(Flow(SystemClock(), 1.0), reader, writer, length)
    return sink.data, await reader.read()


async def test_a_body_ends_where_it_says() -> None:
    assert await passed(b"abcdef", 4) == (b"abcd", b"ef")
    assert await passed(b"abcdef", 0) == (b"", b"abcdef")
    assert await passed(b"3\r\nabc\r\n0\r\n\r\nGET", None) == (b"3\r\nabc\r\n0\r\n\r\n", b"GET")


@pytest.mark.parametrize(
    "data",
    [b"3;x=y\r\nabc\r\n", b"+3\r\nabc\r\n", b"0x3\r\nabc\r\n", b"3\nabc\n", b"\r\n", b" 3\r\nabc\r\n", b"3 \r\nabc\r\n",
     b"3\r\nabcd\r\n", b"0\r\nTrailer: x\r\n\r\n", b"123456789\r\n", b"-1\r\n", b"3\r\r\nabc\r\n"],
)  # fmt: skip
async def test_a_chunk_that_can_be_misread_is_refused(data: bytes) -> None:
    with pytest.raises(BadHead):
        await passed(data, None)


@pytest.mark.parametrize(("data", "length"), [(b"abc", 4), (b"3\r\nab", None), (b"3\r\nabc\r\n", None), (b"3", None)])
async def test_a_body_that_is_cut_is_no_body(data: bytes, length: int | None) -> None:
    with pytest.raises(EOFError):
        await passed(data, length)


@given(st.binary(max_size=300), st.binary(max_size=20))
def test_chunks_go_across_as_they_came(body: bytes, rest: bytes) -> None:
    framed = (f"{len(body):x}\r\n".encode() + body + b"\r\n" if body else b"") + b"0\r\n\r\n"
    assert asyncio.run(passed(framed + rest, None)) == (framed, rest)


async def test_one_silent_direction_is_no_silence() -> None:
    flow = Flow(SystemClock(), 0.15)
    waiting = asyncio.create_task(flow.read(reading(b"", end=False)))
    for _ in range(6):
        await asyncio.sleep(0.05)
        flow.passed(1, up=False)
    assert not waiting.done()
    with pytest.raises(Silence):
        await waiting
    assert (flow.sent_bytes, flow.received_bytes) == (0, 6)


async def test_the_end_of_a_direction_goes_across() -> None:
    sink = Sink()
    writer: Any = sink
    await pump(Flow(SystemClock(), 1.0), reading(b"abc"), writer, up=True)
    assert (sink.data, sink.ended) == (b"abc", True)
