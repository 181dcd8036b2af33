"""The client's end of the wire, as an ASGI ``send``, and one call of an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class Line:
    """What went down, and a gate to hold ``send`` up."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.gate: asyncio.Event | None = None
        self.blocked = asyncio.Event()

    async def send(self, message: Any) -> None:
        if self.gate is not None:
            self.blocked.set()
            await self.gate.wait()
        self.messages.append(dict(message))

    @property
    def status(self) -> int:
        """Of the answer; 0 without one."""
        return int(self.messages[0]["status"]) if self.messages else 0

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def pieces(self) -> list[bytes]:
        return [m["body"] for m in self.messages if m["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error code of a refusal in OpenAI's shape."""
        error = self.json["error"]
        assert set(error) >= {"message", "type", "code", "param"}
        assert self.headers[b"content-type"] == b"application/json"
        return str(error["code"])

    @property
    def ended(self) -> bool:
        return [m.get("more_body", False) for m in self.messages if m["type"] == "http.response.body"].count(False) == 1

    @property
    def last(self) -> dict[str, Any]:
        """The JSON of the last event."""
        found = json.loads(self.pieces[-1].split(b"data: ")[-1])
        assert isinstance(found, dict)
        return found


def scope_of(method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = (), query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"x"), *headers],
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }


async def call(app: App, scope: MutableMapping[str, Any], body: bytes = b"") -> Line:
    """One whole call with ``body``; the client stays."""
    line = Line()
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError("nobody leaves")

    await app(scope, receive, line.send)
    return line
