"""How do we ask a Redis that may be away, without making every caller find that out for itself?

A HotLine is a RedisLink with a fuse. Rules that hold:

* the first call that fails (refused, timed out, loading, read-only, out of memory, ...) blows the fuse: from then on
  calls fail at once with StoreUnavailable, nothing sent;
* every ``RETRY_S`` one call of a loop beside the requests (``trial``) may try; a request never waits for such a trial;
* wrong credentials are StoreUnavailable here, too: hot state may be lost at any moment, and a password that was
  changed must not end a gateway that serves;
* a request that has called ``begin`` spends ``timeout_s`` on all its calls together, not on each; a server for which
  that is not enough is too slow, and blows the fuse as one that does not answer;
* ``breaks`` counts how often the line has come back. Whoever keeps something there compares it: what was written
  before may be lost after it.

It knows nothing of keys or records. Cancelling a call blows no fuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Final

from ops.clock import Clock
from ops.log import get_logger
from store.errors import StoreError, StoreUnavailable
from store.redis_link import LuaScript, RedisLink, Word

RETRY_S: Final = 0.25
_PATIENCE: Final[ContextVar[list[float] | None]] = ContextVar("hot_patience", default=None)
"""The seconds that the request of this task has left, in a list of one. What runs beside the requests has none."""


class HotLine:
    """See the module. One per process, for everything that is kept in the hot store."""

    def __init__(self, link: RedisLink, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._why: str | None = None
        self._retry_at_s = 0.0
        self.breaks = 0

    @property
    def timeout_s(self) -> float:
        """The longest that one call takes."""
        return self._link.timeout_s

    def begin(self) -> None:
        """The request whose task this is begins to ask."""
        _PATIENCE.set([self.timeout_s])

    @property
    def patience_s(self) -> float:
        """How long the next call of this task may take; 0: not at all."""
        left = _PATIENCE.get()
        return self.timeout_s if left is None else max(0.0, left[0])

    @property
    def away(self) -> str | None:
        """Why the hot store is not used now, one line fit for an operator; None while it is."""
        return self._why

    async def run(self, script: LuaScript, keys: Sequence[Word], args: Sequence[Word], *, trial: bool = False) -> Any:
        """A script as one atomic step. Raises StoreUnavailable: it is not known whether it ran."""
        self._enter(trial)
        try:
            answer = await self._patiently(lambda: self._link.run(script, keys, args))
        except StoreError as error:
            raise self.trip(str(error)) from error
        self._answered()
        return answer

    async def call(self, *words: Word) -> Any:
        """One command, as :meth:`run`."""
        self._enter(trial=False)
        try:
            answer = await self._patiently(lambda: self._link.call(*words))
        except StoreError as error:
            raise self.trip(str(error)) from error
        self._answered()
        return answer

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The call, within what its request has left. Raises StoreUnavailable."""
        left = _PATIENCE.get()
        if left is None:
            return await call()
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(self.patience_s):
                return await call()
        except TimeoutError:
            raise StoreUnavailable(f"no answers within {self.timeout_s * 1e3:.0f} ms for one request") from None
        finally:
            left[0] -= self._clock.monotonic_s() - began_s

    def trip(self, why: str) -> StoreUnavailable:
        """Blows the fuse; the error to raise."""
        if self._why is None:
            get_logger().warning("hot_store_away", error=why)
        self._why = why
        self._retry_at_s = self._clock.monotonic_s() + RETRY_S
        return StoreUnavailable(why)

    def _enter(self, trial: bool) -> None:
        if self._why is None:
            return
        now_s = self._clock.monotonic_s()
        if not trial or now_s < self._retry_at_s:
            raise StoreUnavailable(self._why)
        self._retry_at_s = now_s + RETRY_S + self.timeout_s  # nobody else tries meanwhile

    def _answered(self) -> None:
        if self._why is not None:
            self._why = None
            self.breaks += 1
            get_logger().info("hot_store_back")

    async def close(self) -> None:
        await self._link.close()
