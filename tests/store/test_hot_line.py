"""The fuse: one call finds out, the others go on at once, and one trial at a time finds the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from store.errors import StoreUnavailable
from store.hot_line import RETRY_S, HotLine
from store.redis_link import lua_script
from tests.fakes.clock import FakeClock
from tests.fakes.hot import ScriptedRedis, line_to

LOOK = lua_script("hot_purge")
REFUSALS = {
    "loading": (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
    "readonly": (b"-READONLY You can't write against a read only replica.\r\n", "read-only"),
    "oom": (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "maxmemory"),
    "wrong type": (b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "redis_prefix"),
    "no password": (b"-NOAUTH Authentication required.\r\n", ""),
    "not redis": (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
    "hangs up": (b"", ""),
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def redis() -> AsyncIterator[ScriptedRedis]:
    async with ScriptedRedis() as scripted:
        yield scripted


@pytest.fixture
async def line(redis: ScriptedRedis, clock: FakeClock) -> AsyncIterator[HotLine]:
    made = line_to(redis.url, clock)
    yield made
    await made.close()


async def ask(line: HotLine, *, trial: bool = False) -> object:
    return await line.run(LOOK, ["a", "b"], ["0", 1], trial=trial)


@pytest.mark.fault("B54")
@pytest.mark.parametrize("name", REFUSALS)
async def test_any_refusal_blows_the_fuse_and_the_next_call_sends_nothing(
    line: HotLine, redis: ScriptedRedis, name: str
) -> None:
    redis.answer, word = REFUSALS[name]
    with pytest.raises(StoreUnavailable) as caught:
        await ask(line)
    assert word in str(caught.value)
    assert line.away == str(caught.value)
    sent = redis.commands
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await ask(line)
        with pytest.raises(StoreUnavailable):
            await line.call("GET", "a")
    assert redis.commands == sent


@pytest.mark.fault("B54")
async def test_silence_costs_one_timeout_and_then_nothing(line: HotLine, redis: ScriptedRedis) -> None:
    redis.answer = None
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(StoreUnavailable):
        await ask(line)
    assert 0.09 <= loop.time() - begun < 1.0
    begun = loop.time()
    for _ in range(100):
        with pytest.raises(StoreUnavailable):
            await ask(line)
    assert loop.time() - begun < 0.09, "a hundred calls in less than one timeout"


async def test_only_a_trial_finds_the_way_back_and_that_is_counted(
    line: HotLine, redis: ScriptedRedis, clock: FakeClock
) -> None:
    redis.answer = b"-LOADING wait\r\n"
    with pytest.raises(StoreUnavailable):
        await ask(line, trial=True)
    redis.answer = b":3\r\n"
    with pytest.raises(StoreUnavailable):
        await ask(line, trial=True)  # too early
    clock.advance(RETRY_S)
    with pytest.raises(StoreUnavailable):
        await ask(line)  # a request does not try
    assert line.breaks == 0
    assert await ask(line, trial=True) == 3
    assert line.away is None
    assert line.breaks == 1
    assert await ask(line) == 3


async def test_one_trial_at_a_time(line: HotLine, redis: ScriptedRedis, clock: FakeClock) -> None:
    line.trip("a test says so")
    clock.advance(RETRY_S)
    redis.answer = None
    trials = [asyncio.create_task(ask(line, trial=True)) for _ in range(5)]
    found = await asyncio.gather(*trials, return_exceptions=True)
    assert all(isinstance(one, StoreUnavailable) for one in found)
    assert redis.commands == 1


async def test_a_call_that_is_cancelled_blames_nobody(line: HotLine, redis: ScriptedRedis) -> None:
    redis.answer = None
    call = asyncio.create_task(ask(line))
    await asyncio.sleep(0.02)
    call.cancel()
    await asyncio.wait([call])
    assert line.away is None
