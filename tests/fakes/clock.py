"""A clock that moves only when told to."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class FakeClock:
    """``advance`` moves both clocks and wakes sleepers whose time has come, in order."""

    def __init__(self, now_s: float = 1_795_000_000.0) -> None:
        self._now_s = now_s
        self._monotonic_s = 1000.0
        self._ids = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_s(self) -> float:
        return self._now_s

    def monotonic_s(self) -> float:
        return self._monotonic_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic_s + seconds, next(self._ids), future))
        await future

    def jump_wall(self, seconds: float) -> None:
        """The wall clock is set; monotonic time does not move."""
        self._now_s += seconds

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        self._monotonic_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic_s:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
