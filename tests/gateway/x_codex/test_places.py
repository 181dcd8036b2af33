"""Places are given in order, never more than there are, and never waited for beyond the deadline."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.errors import GatewayError
from gateway.x_codex.places import LOOK_S, Places
from tests.fakes.clock import FakeClock


async def turn(clock: FakeClock, seconds: float = LOOK_S) -> None:
    clock.advance(seconds)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    clock = FakeClock()
    places = Places(1, clock)
    order: list[int] = []
    leave = [asyncio.Event() for _ in range(3)]

    async def guest(number: int) -> None:
        async with places.held(clock.monotonic_s() + 1000):
            order.append(number)
            await leave[number].wait()

    guests = [asyncio.create_task(guest(number)) for number in range(3)]
    for number in range(3):
        await turn(clock)
        assert order == list(range(number + 1))
        assert places.taken == 1
        leave[number].set()
    await turn(clock)
    await asyncio.gather(*guests)
    assert places.taken == 0


async def test_the_wait_has_an_end_and_leaves_no_turn_behind() -> None:
    clock = FakeClock()
    places = Places(1, clock)
    async with places.held(clock.monotonic_s()):
        late = asyncio.create_task(places.held(clock.monotonic_s() + 3).__aenter__())
        await turn(clock)
        assert not late.done()
        await turn(clock, 4)
        with pytest.raises(GatewayError) as refused:
            await late
        assert (refused.value.status, refused.value.code, refused.value.retry_after_s) == (503, "overloaded", 5.0)
    async with places.held(clock.monotonic_s()):
        assert places.taken == 1


async def test_whoever_is_cancelled_gives_up_his_turn() -> None:
    clock = FakeClock()
    places = Places(1, clock)
    async with places.held(clock.monotonic_s()):
        waiting = asyncio.create_task(places.held(clock.monotonic_s() + 100).__aenter__())
        await turn(clock)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
    async with places.held(clock.monotonic_s()):
        assert places.taken == 1
