"""Time comes in by parameter. Two clocks: the wall for what is stored or shown, monotonic for waiting.

Everything that waits or judges an age takes a Clock; tests advance theirs by hand.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now_s(self) -> float:
        """Unix seconds; may jump."""

    def monotonic_s(self) -> float:
        """Seconds that only grow; for deadlines and cool-downs inside one process."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The real one."""

    # asked two dozen times per request: without a frame of our own in between
    now_s = staticmethod(time.time)
    monotonic_s = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
