"""The client may leave at any moment; then whatever we do for it stops at once.

``async with Departure(receive)`` watches the ASGI channel while the body of the block runs. When the client goes
away, the block is cancelled at its current await and leaves by :class:`ClientGone`; a cancellation from elsewhere
(shutdown) passes through as it is. The request body must have been read before: what is received here is thrown
away. Works before the response headers as well as in mid-stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client closed its side; nobody is there to answer."""


class Departure:
    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def __aenter__(self) -> Departure:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._watch = asyncio.get_running_loop().create_task(self._wait())
        return self

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        if self.gone and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientGone from None
