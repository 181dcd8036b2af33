"""How does a long body get from the socket into memory without being carried about?

Past the parser, whose way copies every byte four times: once the application asks for a body of declared length and
much of it is still to come, the connection reads straight into the buffer that the application gets. Rules that hold:

* never a byte more than the declared length is read here: what comes behind belongs to the connection;
* memory follows what has arrived: the buffer begins at ``FIRST_BYTES`` and grows to ``GROWTH`` times what is there;
* everything else that happens to the connection (its end, a full outgoing buffer) is the connection's business.

Bodies of unknown length, and what is left of short ones, go through the parser as ever. Whether a length is bearable
was decided before (``gateway.guard``); deadlines are kept by the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

WORTH_BYTES: Final = 64 * 1024
"""With less than this to come, a way of its own does not pay."""
FIRST_BYTES: Final = 2 * 1024 * 1024
GROWTH: Final = 4
_REUSED_BYTES: Final = 32 * 1024 * 1024


def reuse_freed_memory() -> None:
    """Lets this process keep up to ``_REUSED_BYTES`` of freed memory for the next long body.

    Otherwise glibc gives the end of the heap back to the kernel after every few bodies, and each new one faults its
    pages in again. Its limit is twice the largest block that was ever freed: this one, which is never touched and so
    never takes memory. Other C libraries do not care.
    """
    bytes(_REUSED_BYTES // 2)


class Taker(Protocol):
    """The connection as an intake sees it."""

    def body_progress(self, size: int) -> None: ...

    def body_taken(self, body: bytearray) -> None: ...

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Intake(asyncio.BufferedProtocol):
    """Takes the place of ``taker`` at the transport until ``length`` bytes are there; ``begun`` are the first of them.

    ``taker.body_progress`` hears of every read, ``taker.body_taken`` once of the whole body; it must take its place
    back then.
    """

    def __init__(self, taker: Taker, begun: bytes | bytearray, length: int) -> None:
        self._taker = taker
        self._length = length
        self._filled = len(begun)
        self._buffer = bytearray()
        self._grow(begun)

    def _grow(self, begun: bytes | bytearray) -> None:
        buffer = bytearray(min(self._length, max(FIRST_BYTES, GROWTH * len(begun))))
        buffer[: len(begun)] = begun
        self._buffer = buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._filled == len(self._buffer):
            self._grow(self._buffer)
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self._taker.body_progress(nbytes)
        if self._filled == self._length:
            self._taker.body_taken(self._buffer)

    def eof_received(self) -> None:
        self._taker.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._taker.connection_lost(exc)

    def pause_writing(self) -> None:
        self._taker.pause_writing()

    def resume_writing(self) -> None:
        self._taker.resume_writing()


def declared_length(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """The one plain Content-Length of a request head, or 0 when the body is framed in any other way."""
    length = 0
    for name, value in fields:
        if name == b"transfer-encoding":
            return 0
        if name == b"content-length":
            if length or not value.isdigit():
                return 0
            length = int(value)
    return length
