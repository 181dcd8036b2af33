"""One request and its answer on a connection: uvicorn's cycle with a leaner ``send``.

What differs from the base, and why: the head of an answer is checked as a whole (one pass for its line ends, where
the base runs two patterns over every field) and made of prepared pieces; a chunk of a stream is one formatted write.
Everything unusual (HEAD, a fixed length, an answer out of turn) is the base's business.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.departure import CONNECTION_KEY
from gateway.intake import WORTH_BYTES, declared_length

_LAST_CHUNK: Final = b"0\r\n\r\n"


class Bell:
    """An ``asyncio.Event`` for one waiter, a tenth of its size: there is one for each request in work."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def is_set(self) -> bool:
        return self._rung

    def set(self) -> None:
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self._rung = False

    async def wait(self) -> bool:
        """Returns when it has been set. Cancel: nothing is lost."""
        while not self._rung:
            assert self._waiter is None, "a bell has one waiter"
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return True


class LeanFlow(FlowControl):
    """uvicorn's bookkeeping of pauses with a bell in it: a deque less for each connection that is open."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = False
        self.write_paused = False
        self._is_writable_event = Bell()  # type: ignore[assignment]  # the part of an Event that it uses
        self._is_writable_event.set()


class RelayCycle(RequestResponseCycle):
    """Made by RelayConnection for each request."""

    async def receive(self) -> Any:
        """The ASGI ``receive``. A long body of declared length comes as one message, read into one buffer."""
        if self.body and not (
            self.more_body or self.waiting_for_100_continue or self.disconnected or self.response_complete
        ):  # a short body that is here already: nothing to wait for
            self.flow.resume_reading()
            self.message_event.clear()
            here, self.body = bytes(self.body), bytearray()
            return {"type": "http.request", "body": here, "more_body": False}
        if not (self.more_body and self._take_body()):
            return await super().receive()
        while self.more_body and not self.disconnected and not self.response_complete:
            self.message_event.clear()
            await self.message_event.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    def _take_body(self) -> bool:
        if self.disconnected or self.response_complete:
            return False
        scope: Any = self.scope
        length = declared_length(scope["headers"])
        if length < WORTH_BYTES or not scope[CONNECTION_KEY].take_body(length):
            return False
        if self.waiting_for_100_continue:
            self.waiting_for_100_continue = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    async def send(self, message: Any) -> None:
        """The ASGI ``send``; waits while the client does not take what was written."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self._begin(message)
        elif self.chunked_encoding and not self.response_complete:
            self._chunk(message["body"], message.get("more_body", False))
        else:
            await super().send(message)

    def _begin(self, message: Any) -> None:
        """Writes status line and fields. Raises RuntimeError for a field that would split the head."""
        if message["type"] != "http.response.start":
            raise RuntimeError(f"expected http.response.start, got {message['type']}")
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        pieces = [STATUS_LINE[status]]
        lines = 1
        for name, value in (*self.default_headers, *message["headers"]):
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
                continue
            pieces += (name, b": ", value, b"\r\n")
            lines += 1
        if not self.keep_alive:
            pieces.append(b"connection: close\r\n")
            lines += 1
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            pieces.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        head = b"".join(pieces)
        if head.count(b"\n") != lines or head.count(b"\r") != lines or head.count(b"\0"):
            raise RuntimeError("a header field with a line end in it")
        self.transport.write(head + b"\r\n")

    def _chunk(self, body: bytes, more_body: bool) -> None:
        if body:
            data = b"%x\r\n%b\r\n" % (len(body), body)
            self.transport.write(data if more_body else data + _LAST_CHUNK)
        elif not more_body:
            self.transport.write(_LAST_CHUNK)
        if more_body:
            return
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
