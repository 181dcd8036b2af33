"""How does an answer reach the socket? Head and first piece by one call to the kernel, every byte counted.

It stands in the place of the transport for the response cycle. It does not wait for a slow reader (the cycle does)
and does not decide how a connection ends (the connection does).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

_INTERIM: Final = b"HTTP/1.1 100 "


class Finisher(Protocol):
    """The connection, which decides what closing means."""

    def finish(self) -> None: ...


class Outlet:
    """The transport as the response cycle sees it: writes are counted, closing is the connection's decision.

    The head of an answer waits for the first piece of its body, and both go out by one call to the kernel.
    """

    __slots__ = ("_connection", "_head", "_transport", "expects_head", "is_closing", "written")

    def __init__(self, transport: asyncio.Transport, connection: Finisher) -> None:
        self._transport = transport
        self._connection: Finisher | None = connection
        self.written = 0
        self.is_closing = transport.is_closing
        self.expects_head = False
        self._head = b""

    def write(self, data: bytes) -> None:
        if self.expects_head:
            if not data.startswith(_INTERIM):
                self.expects_head = False
                self._head = data
                return
        elif self._head:
            data = self._head + data
            self._head = b""
        self.written += len(data)
        self._transport.write(data)

    def flush(self) -> None:
        """Lets a head go that no body follows: the answer to HEAD."""
        if self._head:
            self.write(b"")

    def part(self) -> None:
        """The connection is gone; what is written or closed from now on goes nowhere."""
        self._connection = None

    def close(self) -> None:
        self.flush()
        if self._connection is not None:
            self._connection.finish()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
