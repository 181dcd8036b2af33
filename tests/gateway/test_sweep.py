"""One look at all connections a tick, none while there is nobody."""

from __future__ import annotations

import asyncio

from gateway.sweep import Sweep
from tests.fakes.clock import FakeClock


class One:
    """A connection that notes its looks; it leaves at ``until_s``."""

    def __init__(self, sweep: Sweep, until_s: float = float("inf")) -> None:
        self.loop = asyncio.get_running_loop()
        self.sweep = sweep
        self.until_s = until_s
        self.looks: list[float] = []
        sweep.add(self)

    def check(self, now_s: float) -> None:
        self.looks.append(now_s)
        if now_s >= self.until_s:
            self.sweep.discard(self)


async def ticks() -> None:
    await asyncio.sleep(0.02)


async def test_every_connection_is_looked_at_with_the_same_moment() -> None:
    clock = FakeClock()
    sweep = Sweep(60.0, clock)
    first, second = One(sweep), One(sweep)
    clock.advance(5.0)
    sweep.look()
    assert first.looks == second.looks == [clock.monotonic_s()]
    sweep.discard(first)
    sweep.discard(second)


async def test_a_connection_may_leave_while_it_is_looked_at() -> None:
    sweep = Sweep(60.0, FakeClock())
    leaving = [One(sweep, until_s=0.0) for _ in range(5)]
    sweep.look()
    assert all(len(one.looks) == 1 for one in leaving)
    assert sweep.watched == 0


async def test_it_ticks_by_itself_while_somebody_is_there_and_sleeps_afterwards() -> None:
    sweep = Sweep(0.001, FakeClock())
    one = One(sweep)
    await ticks()
    assert len(one.looks) >= 2
    sweep.discard(one)
    await ticks()
    seen = len(one.looks)
    await ticks()
    assert len(one.looks) == seen
    again = One(sweep)
    await ticks()
    assert again.looks, "the next connection wakes it"
    sweep.discard(again)


async def test_leaving_twice_does_nothing() -> None:
    sweep = Sweep(60.0, FakeClock())
    one = One(sweep)
    sweep.discard(one)
    sweep.discard(one)
    assert sweep.watched == 0
