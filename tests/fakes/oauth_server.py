"""A model issuer behind real HTTP on loopback, for processes that are really processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from auth.oauth import RefreshReason, TokenAnswer, Verdict
from store.records import Secret
from tests.fakes.issuer import ModelIssuer

LIMIT = 64 * 1024


@contextlib.asynccontextmanager
async def oauth_server(issuer: ModelIssuer, delay_s: float = 0.0) -> AsyncIterator[str]:
    """The issuer's URL. ``delay_s`` passes between taking a token and answering."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            asked = json.loads(await reader.readexactly(min(length, LIMIT)))
            answer = await issuer.refresh(Secret(asked["refresh_token"]), RefreshReason(asked["refresh_reason"]))
            await asyncio.sleep(delay_s)
            writer.write(_http(answer))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LIMIT)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _http(answer: TokenAnswer) -> bytes:
    if answer.verdict is Verdict.UNKNOWN:
        return b""
    body: dict[str, object] = {"error": {"code": answer.code}}
    if answer.verdict is Verdict.ROTATED:
        tokens = {"access_token": answer.access_token, "refresh_token": answer.refresh_token}
        body = {name: token.reveal() for name, token in tokens.items() if token is not None}
    text = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        answer.status or 200,
        len(text),
        text,
    )
