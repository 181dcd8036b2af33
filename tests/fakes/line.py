"""The client's end of the wire, as an ASGI ``send``."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Line:
    """The client's end of the wire: what went down, and a gate to hold ``send`` up."""

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
    def pieces(self) -> list[bytes]:
        return [m["body"] for m in self.messages if m["type"] == "http.response.body"]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def ended(self) -> bool:
        return [m.get("more_body", False) for m in self.messages if m["type"] == "http.response.body"].count(False) == 1

    @property
    def last(self) -> dict[str, Any]:
        found = json.loads(self.pieces[-1].split(b"data: ")[-1])
        assert isinstance(found, dict)
        return found
