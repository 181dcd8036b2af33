"""Two clocks: the wall for what is shown, monotonic for waiting; the fake one keeps the same promises."""

from __future__ import annotations

import asyncio
import time

import pytest

from ops.clock import Clock, SystemClock
from tests.fakes.clock import FakeClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
async def test_both_clocks_tell_unix_seconds_and_seconds_that_only_grow(clock: Clock) -> None:
    assert 1_700_000_000 < clock.now_s() < 4_000_000_000
    before = clock.monotonic_s()
    await clock.sleep(0)
    assert clock.monotonic_s() >= before


async def test_the_real_clock_is_the_machines() -> None:
    clock = SystemClock()
    assert abs(clock.now_s() - time.time()) < 1.0
    assert abs(clock.monotonic_s() - time.monotonic()) < 1.0
    started = clock.monotonic_s()
    await clock.sleep(0.005)
    assert clock.monotonic_s() - started >= 0.004


async def test_sleeping_can_be_cancelled() -> None:
    for clock in (SystemClock(), FakeClock()):
        task = asyncio.create_task(clock.sleep(3600))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_fake_clock_wakes_sleepers_in_the_order_of_their_times() -> None:
    clock, woken = FakeClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    tasks = [asyncio.create_task(sleeper(seconds)) for seconds in (3.0, 1.0, 2.0)]
    await asyncio.sleep(0)
    clock.advance(2.0)
    await asyncio.sleep(0)
    assert woken == [1.0, 2.0]
    clock.advance(1.0)
    await asyncio.gather(*tasks)


async def test_setting_the_wall_moves_no_deadline() -> None:
    clock = FakeClock()
    before = clock.monotonic_s()
    clock.jump_wall(-86_400.0)
    assert clock.monotonic_s() == before
