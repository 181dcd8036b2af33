"""How do the bytes of one connection get across? Bodies by their declared length, and two-way pipes.

Rules that hold:

* ``pass_body`` passes exactly one body on and leaves what follows in the reader; a chunked body is passed chunk by
  chunk, strictly: sizes are plain hexadecimal without extensions, trailers are refused;
* ``Flow`` knows when a byte last passed in either direction: one silent direction is no silence;
* the end of one direction is passed on as the end of that direction (half-close), not of the connection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ops.clock import Clock
from sandbox.egress_head import BadHead

PIECE: Final = 64 * 1024
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_SIZE_LINE_MAX: Final = 10


class Silence(Exception):
    """No byte has passed for too long, or no more may; str() is the reason."""


class Flow:
    """The measure of one connection. ``take`` hears of every piece and may raise Silence to stop it."""

    def __init__(self, clock: Clock, idle_s: float, take: Callable[[int, bool], None] = lambda size, up: None) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._take = take
        self._last_s = clock.monotonic_s()
        self.sent_bytes = 0
        self.received_bytes = 0

    def passed(self, size: int, *, up: bool) -> None:
        """``up``: from the container."""
        self._last_s = self._clock.monotonic_s()
        if up:
            self.sent_bytes += size
        else:
            self.received_bytes += size
        self._take(size, up)

    async def read(self, reader: asyncio.StreamReader, size: int = PIECE) -> bytes:
        """What comes next, b"" at the end. Raises Silence."""
        return await self.patiently(lambda: reader.read(size))

    async def patiently(self, again: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """What ``again()`` comes to; it is broken off and asked anew while bytes pass in the other direction, and must
        lose nothing by that. Raises Silence."""
        wait_s = self._idle_s
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    return await again()
            except TimeoutError:
                wait_s = self._last_s + self._idle_s - self._clock.monotonic_s()
                if wait_s <= 0:
                    raise Silence("nothing passed for too long") from None

    async def drain(self, writer: asyncio.StreamWriter) -> None:
        """Raises Silence when the other side takes nothing for too long."""
        try:
            async with asyncio.timeout(self._idle_s):
                await writer.drain()
        except TimeoutError:
            raise Silence("nothing was taken for too long") from None


async def pump(flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
    """Passes everything on to the end, and the end."""
    while piece := await flow.read(reader):
        flow.passed(len(piece), up=up)
        writer.write(piece)
        await flow.drain(writer)
    if writer.can_write_eof():
        writer.write_eof()


async def pass_body(flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None) -> None:
    """One body from the container; ``length`` None: chunked. Raises BadHead, Silence, and EOFError when it is cut."""
    if length is not None:
        await _pass_exactly(flow, reader, writer, length)
        return
    while True:
        line = await _line(flow, reader)
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadHead("a chunk's size is not a plain number")
        size = int(match[1], 16)
        flow.passed(len(line), up=True)
        writer.write(line)
        await _pass_exactly(flow, reader, writer, size)
        end = await _exactly(flow, reader, 2)
        if end != b"\r\n":
            raise BadHead("a chunk does not end where it says")
        writer.write(end)
        if size == 0:
            return


async def _pass_exactly(flow: Flow, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
    while left:
        piece = await flow.read(reader, min(left, PIECE))
        if not piece:
            raise EOFError
        left -= len(piece)
        flow.passed(len(piece), up=True)
        writer.write(piece)
        await flow.drain(writer)


async def _line(flow: Flow, reader: asyncio.StreamReader) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if len(line) >= _SIZE_LINE_MAX:
            raise BadHead("a chunk's size is not a plain number")
        line += await _exactly(flow, reader, 1)
    return line


async def _exactly(flow: Flow, reader: asyncio.StreamReader, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await flow.read(reader, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
