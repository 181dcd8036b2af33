"""The few ASGI words that the simulator's endpoints share: read a body, answer it, notice a departure.

Bodies are decoded by ``content-encoding`` (zstd and gzip, as the real backend takes them) with one cap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import zstandard
from starlette.types import Message, Receive, Scope, Send

from ops.simulator.script import Fail

TRANSPORT = "ops.simulator.transport"
"""Scope key of the connection's asyncio transport, when the simulator's own server runs the app."""


class BadBody(ValueError):
    """The body does not decode, or is too large."""


class Gone(Exception):
    """The client left while its body was read."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Header fields by lower-case name; the last one wins."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The raw body. Raises BadBody beyond the limit and Gone when the client leaves."""
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise BadBody("body too large")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def decode_body(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """Raises BadBody for an unknown encoding and for what does not decode."""
    try:
        match encoding.strip().lower():
            case "" | "identity":
                return body
            case "zstd":
                reader = zstandard.ZstdDecompressor().stream_reader(body)
                decoded = reader.read(limit_bytes + 1)
            case "gzip":
                inflate = zlib.decompressobj(wbits=31)
                decoded = inflate.decompress(body, limit_bytes + 1)
                if not inflate.eof and len(decoded) <= limit_bytes:
                    raise BadBody("body is cut short")
            case other:
                raise BadBody(f"unsupported content-encoding {other}")
    except (zstandard.ZstdError, zlib.error) as error:
        raise BadBody("body does not decode") from error
    if len(decoded) > limit_bytes:
        raise BadBody("body too large")
    return decoded


async def send_answer(send: Send, fail: Fail, extra: Mapping[str, str] | None = None) -> None:
    """A whole answer; a dict body goes as JSON."""
    headers = {**(extra or {}), **fail.headers}
    if isinstance(fail.body, dict):
        body = json.dumps(fail.body).encode()
        headers.setdefault("content-type", "application/json")
    else:
        body = fail.body.encode() if isinstance(fail.body, str) else fail.body
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    if fail.status not in {204, 304}:
        headers["content-length"] = str(len(body))
    else:
        body = b""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fail.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, status: int, body: Any, extra: Mapping[str, str] | None = None) -> None:
    headers = {"content-type": "application/json", **(extra or {})}
    await send_answer(send, Fail(status, json.dumps(body), headers))


def drop_connection(scope: Scope, *, reset: bool = False) -> None:
    """Close the connection under the answer; with ``reset`` the peer sees RST. Without a transport: nothing."""
    transport: asyncio.Transport | None = scope.get(TRANSPORT)
    if transport is None:
        return
    if reset:
        _linger_zero(transport)
        transport.abort()
    else:
        transport.close()


def _linger_zero(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def until_gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


@contextlib.asynccontextmanager
async def departure(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client leaves; to be waited for beside other things."""
    watch = asyncio.ensure_future(until_gone(receive))
    try:
        yield watch
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def first_of(watch: asyncio.Task[None], work: Any) -> bool:
    """Wait for ``work`` (awaitable) or the departure; True when the client left first, and ``work`` is cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({watch, task}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = not task.done()
        task.cancel()
    if not left:
        task.result()
    return left
