"""How many runs at once, and who is next? First come, first served, and nobody waits for ever.

A place is looked for every ``LOOK_S``, so that a waiter who is cancelled leaves nothing behind but his turn, which he
gives up. Counts are this process's own.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from gateway.errors import GatewayError
from ops.clock import Clock

LOOK_S: Final = 0.05
RETRY_S: Final = 5.0


def queue_full() -> GatewayError:
    return GatewayError(
        "overloaded", "No place for a synchronous run became free in time. Try again soon.", retry_after_s=RETRY_S
    )


class Places:
    """``most`` places."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._waiting: deque[object] = deque()
        self.taken = 0

    @contextlib.asynccontextmanager
    async def held(self, deadline_s: float) -> AsyncIterator[None]:
        """A place for as long as the block runs. Raises GatewayError ``overloaded`` when there is none until
        ``deadline_s`` (monotonic). Cancel: the turn or the place is given back."""
        turn = object()
        self._waiting.append(turn)
        try:
            while self.taken >= self._most or self._waiting[0] is not turn:
                if self._clock.monotonic_s() >= deadline_s:
                    raise queue_full()
                await self._clock.sleep(LOOK_S)
            self.taken += 1
        finally:
            self._waiting.remove(turn)
        try:
            yield
        finally:
            self.taken -= 1
