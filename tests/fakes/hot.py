"""A Redis of a test's own, as the hot store, and a Redis that answers whatever the test says.

``hot_server`` is a fixture of a real redis-server, emptied for each test. ``ScriptedRedis`` speaks just enough of the
protocol to greet a client and then to refuse, hang, dribble or hang up.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from ops.clock import Clock, SystemClock
from store.hot_line import HotLine
from store.redis_hot import RedisHot
from store.redis_link import RedisLink

PREFIX = "test"


def line_to(url: str, clock: Clock | None = None, timeout_s: float = 0.1) -> HotLine:
    return HotLine(RedisLink(url, name="test", timeout_s=timeout_s), clock or SystemClock())


def hot_on(line: HotLine, clock: Clock | None = None) -> RedisHot:
    return RedisHot(line, PREFIX, clock or SystemClock())


@contextlib.asynccontextmanager
async def plain(url: str) -> AsyncIterator[RedisLink]:
    """A patient link for the test's own commands."""
    link = RedisLink(url, name="tester", timeout_s=5.0)
    try:
        yield link
    finally:
        await link.close()


class ScriptedRedis:
    """Greets, then answers every command with ``answer``; None: says nothing; b"": hangs up."""

    def __init__(self) -> None:
        self.answer: bytes | None = b"-ERR not said yet\r\n"
        self.commands = 0
        self.connections = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> ScriptedRedis:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while words := await _command(reader):
                greeting = words[0].upper() in (b"CLIENT", b"SELECT", b"HELLO", b"AUTH")
                if not greeting:
                    self.commands += 1
                answer = b"+OK\r\n" if greeting else self.answer
                if answer == b"":
                    break
                if answer is not None:
                    writer.write(answer)
                    await writer.drain()
        writer.close()


async def _command(reader: asyncio.StreamReader) -> list[bytes]:
    """One command, as clients send them; empty at the end."""
    head = await reader.readline()
    if not head:
        return []
    words = []
    for _ in range(int(head[1:])):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words
