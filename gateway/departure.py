"""The client may leave at any moment; then whatever we do for it stops at once.

``with Departure(scope, receive)`` watches the ASGI channel while the body of the block runs. When the client goes
away, the block is cancelled at its current await and leaves by :class:`ClientGone`; a cancellation from elsewhere
(shutdown) passes through as it is. The request body must have been read before: what is received here is thrown
away. Works before the response headers as well as in mid-stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol

CONNECTION_KEY: Final = "codex_relay.connection"
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client closed its side; nobody is there to answer."""


class Watched(Protocol):
    """A connection that tells once when its client has left; the server puts it into the scope."""

    on_departure: Callable[[], None] | None

    @property
    def departed(self) -> bool: ...


class Departure:
    """``scope`` and ``receive`` are those of the request whose client is watched."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        self._connection: Watched | None = scope.get(CONNECTION_KEY)
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self.gone = False

    def __enter__(self) -> Departure:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        connection = self._connection
        if connection is None:
            self._watch = asyncio.get_running_loop().create_task(self._wait())
        elif connection.departed:
            raise ClientGone
        else:
            connection.on_departure = self._left
        return self

    async def _wait(self) -> None:
        """The way of every ASGI server, at the price of a task."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.gone = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.on_departure = None
        if self._watch is not None:
            self._watch.cancel()
        if self.gone and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientGone from None
