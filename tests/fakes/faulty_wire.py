"""What can be done to one connection, as data, and the player that does it.

A mode is a list of steps. A step is a frozen value (bytes to write, a pause, a reset), so a mode can be printed,
compared and read in a table of tests; only :class:`Wire` touches the socket. Rules that hold:

- bytes count as written when the kernel has taken them, not when they are queued here;
- a step that waits (Hang, Gate, Pause, Repeat) ends when the peer leaves, because the server watches for that;
- a list that does not end in Fin or Reset leaves the connection open for the next request.

No HTTP is understood here except what is needed to cut one request off the stream of bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

PIECE = 65_536
MAX_HEAD = 1 << 20
MAX_BODY = 128 << 20


@dataclass(frozen=True, slots=True)
class Send:
    """Write ``data`` as one message."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Split:
    """Write ``data`` in pieces of ``size`` bytes, one send() each, ``every_s`` seconds apart."""

    data: bytes
    size: int = 1
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Repeat:
    """Write ``make(0)``, ``make(1)``, ... until ``times`` is reached; None: until the peer leaves."""

    make: Callable[[int], bytes]
    every_s: float = 0.0
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gate:
    """Wait until the test calls ``up.open_gate(name)``."""

    name: str


@dataclass(frozen=True, slots=True)
class Hang:
    """Do nothing until the peer leaves."""


@dataclass(frozen=True, slots=True)
class Fin:
    """Close in an orderly way, after everything was sent."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close with a TCP reset, after the peer's kernel has acknowledged everything that was sent."""


Step = Send | Split | Repeat | Pause | Gate | Hang | Fin | Reset


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived. ``body`` is cut to the server's ``keep_body_bytes``; ``body_bytes`` is its length."""

    number: int
    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    head: bytes
    body: bytes = b""
    body_bytes: int = 0
    canary_url: str = ""

    def header(self, name: str) -> str | None:
        """The first value of ``name``, or None."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key == wanted), None)

    @property
    def account(self) -> str:
        return self.header("chatgpt-account-id") or ""

    @property
    def token(self) -> str:
        return (self.header("authorization") or "").removeprefix("Bearer ")


@dataclass(frozen=True, slots=True)
class Mode:
    """A named way to answer. ``read="head"`` answers before the body was read, then closes."""

    name: str
    steps: Callable[[Seen], Sequence[Step]] = field(compare=False)
    read: Literal["request", "head"] = "request"

    def __str__(self) -> str:
        return self.name


class PeerLeft(Exception):
    """The other side closed before a whole request was there."""


class NotHttp(Exception):
    """The other side speaks TLS to a plain port."""


class Wire:
    """One accepted connection: cuts requests off it and plays steps on it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wrote: Callable[[int], None],
        gate: Callable[[str], Awaitable[object]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._wrote = wrote
        self._gate = gate
        self._buffer = bytearray()
        self.closed = False
        writer.transport.set_write_buffer_limits(high=1, low=0)  # drain() waits for the kernel; bytes count honestly

    async def read_head(self) -> bytes:
        """The next request head with its empty line. Raises PeerLeft or NotHttp."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if self._buffer[:1] == b"\x16":
                raise NotHttp
            if len(self._buffer) > MAX_HEAD or not await self._fill():
                raise PeerLeft
        return self._take(end + 4)

    async def read_body(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """The body that ``headers`` announce. Raises PeerLeft when it does not come whole."""
        fields = dict(headers)
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return await self._read_chunked()
        return await self._exactly(int(fields.get(b"content-length", b"0")))

    async def departure(self) -> None:
        """Returns when the peer has closed its side. What it sends before that is kept for the next request."""
        while len(self._buffer) <= MAX_BODY and await self._fill():
            pass

    async def play(self, steps: Sequence[Step]) -> None:
        """Does the steps in order. Raises ConnectionError when the peer is gone; then nothing more is sent."""
        for step in steps:
            await self._one(step)

    def abort(self) -> None:
        self.closed = True
        self._writer.transport.abort()

    async def close(self) -> None:
        self.closed = True
        self._writer.close()
        with contextlib.suppress(ConnectionError, TimeoutError, OSError):
            await asyncio.wait_for(self._writer.wait_closed(), 5)

    async def _one(self, step: Step) -> None:
        match step:
            case Send(data):
                await self._write(data)
            case Split(data, size, every_s):
                for start in range(0, len(data), size):
                    await self._write(data[start : start + size])
                    await asyncio.sleep(every_s)
            case Repeat(make, every_s, times):
                count = 0
                while times is None or count < times:
                    await self._write(make(count))
                    await asyncio.sleep(every_s)
                    count += 1
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Gate(name):
                await self._gate(name)
            case Hang():
                await asyncio.get_running_loop().create_future()
            case Fin():
                await self.close()
            case Reset():
                await self._reset()

    async def _write(self, data: bytes) -> None:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._writer.write(piece)
            await self._writer.drain()
            self._wrote(len(piece))

    async def _reset(self) -> None:
        handle = socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno()))
        with handle:
            for _ in range(200):  # at most 2 s
                if fcntl.ioctl(handle.fileno(), termios.TIOCOUTQ, b"\0\0\0\0") == b"\0\0\0\0":
                    break
                await asyncio.sleep(0.01)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()
        await asyncio.sleep(0)  # the transport closes the socket in the next turn of the loop

    async def _fill(self) -> bool:
        try:
            data = await self._reader.read(PIECE)
        except (ConnectionError, OSError):
            return False
        self._buffer += data
        return bool(data)

    async def _read_chunked(self) -> bytes:
        parts: list[bytes] = []
        while size := int((await self._line()).split(b";")[0], 16):
            parts.append(await self._exactly(size))
            await self._line()
        while await self._line():
            pass
        return b"".join(parts)

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not await self._fill():
                raise PeerLeft
        return self._take(end + 2)[:-2]

    async def _exactly(self, count: int) -> bytes:
        if count > MAX_BODY:
            raise PeerLeft
        while len(self._buffer) < count:
            if not await self._fill():
                raise PeerLeft
        return self._take(count)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
