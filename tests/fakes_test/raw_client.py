"""A client that knows no HTTP: it writes bytes and tells what came back and how the connection ended."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Self

from tests.fakes.faulty import RESPONSES, FaultyUpstream

EOF_END = "fin"
RESET_END = "rst"
OPEN_END = "open"


@dataclass
class RawClient:
    """One connection. ``read_all`` returns (bytes, how it ended): fin, rst, or open when ``until`` came first."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, up: FaultyUpstream, tls: ssl.SSLContext | None = None) -> Self:
        name = "localhost" if tls else None
        return cls(*await asyncio.open_connection("127.0.0.1", up.port, ssl=tls, server_hostname=name))

    async def ask(
        self, *, token: str = "t", account: str = "a", body: bytes = b"{}", path: str = RESPONSES, method: str = "POST"
    ) -> None:
        lines = (
            f"{method} {path} HTTP/1.1",
            "host: up",
            f"authorization: Bearer {token}",
            f"chatgpt-account-id: {account}",
            f"content-length: {len(body)}",
        )
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await self.writer.drain()

    async def read_all(self, until: bytes | None = None, *, piece: int = 65_536) -> tuple[bytes, str]:
        data = bytearray()
        while until is None or not data.endswith(until):
            try:
                more = await self.reader.read(piece)
            except ConnectionError:
                return bytes(data), RESET_END
            if not more:
                return bytes(data), EOF_END
            data += more
        return bytes(data), OPEN_END

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


async def exchange(
    up: FaultyUpstream, until: bytes | None = None, *, token: str = "t", account: str = "a"
) -> tuple[bytes, str]:
    """One request on a connection of its own."""
    client = await RawClient.connect(up)
    await client.ask(token=token, account=account)
    try:
        return await client.read_all(until)
    finally:
        await client.close()


def payload(wire: bytes) -> bytes:
    """The body of one chunked answer, strictly: every size line, every CRLF, the last chunk and nothing after it."""
    _, _, rest = wire.partition(b"\r\n\r\n")
    out = b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            assert rest == b"\r\n"
            return out
        assert rest[size : size + 2] == b"\r\n"
        out, rest = out + rest[:size], rest[size + 2 :]
