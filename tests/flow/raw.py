"""A client that knows just enough HTTP to misbehave: it writes bytes, reads when it likes, and leaves as it likes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.flow.stage import TEXT, Stage


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; names in lower case."""

    status: int
    headers: dict[str, str]


@dataclass(slots=True)
class Line:
    """One connection to the gateway."""

    sock: socket.socket
    key: str
    read: bytes = b""

    def request(
        self, body: bytes | None = None, *, method: str = "POST", path: str = "/v1/responses", **fields: str
    ) -> bytes:
        """The bytes of a good request: a streamed model call unless ``body`` says otherwise."""
        content = json.dumps(TEXT).encode() if body is None else body
        lines = {
            "host": "gateway.test",
            "authorization": f"Bearer {self.key}",
            "content-type": "application/json",
            "content-length": str(len(content)),
            **{name.replace("_", "-"): value for name, value in fields.items()},
        }
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v)
        return head.encode() + b"\r\n" + content

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def _more(self, wait_s: float) -> bytes:
        async with asyncio.timeout(wait_s):
            return await asyncio.get_running_loop().sock_recv(self.sock, 65_536)

    async def until(self, mark: bytes, wait_s: float = 5.0) -> bytes:
        """Reads up to and with ``mark``; what came so far when the other side ended before."""
        data, searched = bytearray(self.read), 0
        while (at := data.find(mark, searched)) < 0:
            searched = max(0, len(data) - len(mark))
            more = await self._more(wait_s)
            if not more:
                self.read = b""
                return bytes(data)
            data += more
        end = at + len(mark)
        self.read = bytes(data[end:])
        return bytes(data[:end])

    async def head(self, wait_s: float = 5.0) -> Head:
        first, *lines = (await self.until(b"\r\n\r\n", wait_s)).decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if ": " in line)
        return Head(int(first.split(" ")[1]), {name.lower(): value for name, value in fields.items()})

    async def rest(self, wait_s: float = 5.0) -> bytes:
        """All that still comes until the other side ends. TimeoutError when it does not."""
        data, self.read = bytearray(self.read), b""
        with contextlib.suppress(ConnectionResetError):
            while more := await self._more(wait_s):
                data += more
        return bytes(data)

    async def answer(self, wait_s: float = 5.0) -> tuple[Head, bytes]:
        """One whole answer with a Content-Length."""
        head = await self.head(wait_s)
        size = int(head.headers["content-length"])
        while len(self.read) < size:
            more = await self._more(wait_s)
            assert more, "the answer was cut"
            self.read += more
        body, self.read = self.read[:size], self.read[size:]
        return head, body

    async def error(self, wait_s: float = 5.0) -> tuple[int, str]:
        """(status, code) of a refusal, whose body must be ours."""
        head, body = await self.answer(wait_s)
        found: dict[str, Any] = json.loads(body)["error"]
        assert set(found) >= {"message", "type", "code", "param"}
        assert head.headers["content-type"] == "application/json"
        return head.status, str(found["code"])

    # -- ways to leave ------------------------------------------------------------------------------------------

    def half_close(self) -> None:
        """FIN, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


@contextlib.asynccontextmanager
async def _opened(scene: Stage, receive_buffer: int | None) -> Any:
    place = urlsplit(scene.gateway.url)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    with contextlib.closing(sock):
        await asyncio.get_running_loop().sock_connect(sock, (place.hostname, place.port))
        key = scene.client.headers["authorization"].removeprefix("Bearer ")
        yield Line(sock, key)


def line(scene: Stage, receive_buffer: int | None = None) -> contextlib.AbstractAsyncContextManager[Line]:
    """A connection to the gateway of ``scene`` with its client's key; closed at the end of the block."""
    opened: contextlib.AbstractAsyncContextManager[Line] = _opened(scene, receive_buffer)
    return opened


async def eventually(true: Callable[[], bool], within_s: float = 2.0) -> float:
    """Waits until ``true()`` holds and says how long that took; AssertionError after ``within_s``."""
    started_s = time.monotonic()
    while not true():
        assert time.monotonic() - started_s < within_s, "did not come true in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - started_s


def nothing_left(scene: Stage) -> bool:
    """No lease, no admitted request, no running request, no open upstream exchange."""
    gateway = scene.gateway.gateway
    return gateway.pool.snapshot().inflight == 0 and gateway.inflight.count == 0
