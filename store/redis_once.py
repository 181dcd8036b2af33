"""Is this run the only one under its key, over the whole fleet?

A key is taken with one command that only the first can win, and freed, or kept for a while, in the background. Each
taking carries a word of its own, so that a late end never frees what somebody else has taken since. What the server
did not take of the ends is told again, at most ``ENDS_MAX`` of them; a key that is never ended frees itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

from store.hot_line import RETRY_S, HotLine
from store.redis_link import Word, lua_script

ENDS_MAX: Final = 20_000
PAGE: Final = 200
_ONCE: Final = lua_script("hot_once")


class FleetOnce:
    """All keys that this process has taken. ``owner`` is a name that no other process ever has."""

    def __init__(self, line: HotLine, prefix: str, owner: str) -> None:
        self._line = line
        self._prefix = f"{{{prefix}}}:once:"
        self._owner = owner
        self._number = 0
        self._tokens: dict[str, str] = {}
        self._ends: dict[str, tuple[str, float]] = {}  # name -> (token, how long it stays taken)
        self._wake = asyncio.Event()

    async def take(self, name: str, ttl_s: float) -> bool:
        """Whether nobody else has the key; it is ours for ``ttl_s`` then. Call ``end`` in any case.

        Raises StoreUnavailable: nobody knows. Cancelled: ``end`` puts it right.
        """
        self._number += 1
        token = self._tokens[name] = f"{self._owner}:{self._number}"
        won = await self._line.call("SET", self._prefix + name, token, "NX", "PX", round(ttl_s * 1000))
        if won is None:
            del self._tokens[name]
        return won is not None

    def end(self, name: str, stay_s: float) -> None:
        """The run is over; its key stays taken for ``stay_s`` (0: it is free). Synchronous, never raises."""
        token = self._tokens.pop(name, None)
        if token is None:
            return
        self._ends[name] = (token, stay_s)
        if len(self._ends) > ENDS_MAX:
            del self._ends[next(iter(self._ends))]
        self._wake.set()

    async def tend(self) -> None:
        """One round beside the requests: waits for ends, and tells them. Raises StoreUnavailable."""
        await self._wake.wait()
        if self._line.away is None:
            await self.tell()
        else:
            await asyncio.sleep(RETRY_S)  # others find out when it is back

    async def tell(self) -> None:
        """Tells all ends that are known now. Raises StoreUnavailable; what was not taken is told next time."""
        self._wake.clear()
        while self._ends:
            ends = dict(list(self._ends.items())[:PAGE])
            words: list[Word] = []
            for token, stay_s in ends.values():
                words += (token, round(stay_s * 1000))
            try:
                await self._line.run(_ONCE, [self._prefix + name for name in ends], words)
            except BaseException:
                self._wake.set()
                raise
            for name, end in ends.items():
                if self._ends.get(name) == end:
                    del self._ends[name]
