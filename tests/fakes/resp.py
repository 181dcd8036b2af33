"""A server that answers every command as it is told to, in the words of Redis or not."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class RespFake:
    """Handshakes go well; every other command gets ``reply``: "" closes the connection, None answers nothing.

    ``special`` has replies for commands of their own. ``seen`` names the commands that came.
    """

    def __init__(self, reply: bytes | None, special: dict[bytes, bytes] | None = None) -> None:
        self._reply = reply
        self._special = special or {}
        self._lines: set[asyncio.StreamWriter] = set()
        self.seen: list[bytes] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> RespFake:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for line in self._lines:
            line.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while True:
                words = [await self._word(reader) for _ in range(int((await reader.readuntil(b"\n"))[1:]))]
                name = words[0].upper()
                self.seen.append(name)
                if name == b"CLIENT":
                    writer.write(b"+OK\r\n")
                    continue
                reply = self._special.get(name, self._reply)
                if reply is None:
                    continue
                writer.write(reply)
                if not reply:
                    break
        writer.close()

    async def _word(self, reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readuntil(b"\n"))[1:])
        return (await reader.readexactly(length + 2))[:-2]
