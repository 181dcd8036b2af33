"""How do bytes from an engine become lines and bounded streams?

Pure generators over chunks; they know neither sockets nor containers. Rules that hold:

* what a container says is bytes: a line may hold anything, and a character may be cut at any chunk;
* memory is bounded: a line beyond ``LINE_MAX_BYTES`` is cut there, ends with ``CUT``, and the rest of it is dropped as
  it comes;
* a stream that breaks off inside a frame raises BrokenStream: it is never taken for the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

LINE_MAX_BYTES: Final = 1 << 20
CUT: Final = b" [cut: the line is too long]"
_HEADER_BYTES: Final = 8
_STREAMS: Final = frozenset({0, 1, 2})


class BrokenStream(Exception):
    """The engine's stream ended or went wrong in the middle."""


async def unframed(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The payload of the engine's multiplexed log stream: frames of stream, length, payload. Frames may be long (an
    engine may send what it likes), so a payload is handed on as it comes and never collected."""
    header, left = b"", 0
    async for arrived in chunks:
        chunk = arrived
        while chunk:
            if left == 0:
                taken = _HEADER_BYTES - len(header)
                header, chunk = header + chunk[:taken], chunk[taken:]
                if len(header) == _HEADER_BYTES:
                    left = _length(header)
                    header = b""
                continue
            payload, chunk = chunk[:left], chunk[left:]
            left -= len(payload)
            yield payload
    if header or left:
        raise BrokenStream("it ended inside a frame")


def _length(header: bytes) -> int:
    if header[0] not in _STREAMS or header[1:4] != b"\0\0\0":
        raise BrokenStream("it holds something that is no frame")
    return int.from_bytes(header[4:])


async def lines(payload: AsyncIterator[bytes], max_bytes: int = LINE_MAX_BYTES) -> AsyncGenerator[bytes, None]:
    """Lines without their end; the last one also when its end is missing."""
    kept: list[bytes] = []
    size, full = 0, False
    async for chunk in payload:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            yield _line(kept, part, max_bytes, full=full)
            kept, size, full = [], 0, False
        if not full and rest:
            kept.append(rest)
            size += len(rest)
            if size > max_bytes:
                kept, full = [b"".join(kept)[:max_bytes]], True
    if kept:
        yield _line(kept, b"", max_bytes, full=full)


def _line(kept: list[bytes], last: bytes, max_bytes: int, *, full: bool) -> bytes:
    whole = b"".join(kept) if full else b"".join((*kept, last))
    return whole[:max_bytes] + CUT if full or len(whole) > max_bytes else whole


async def bounded(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks as long as they come to ``max_bytes``; raises OverflowError in place of the one beyond."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise OverflowError(size)
        yield chunk
