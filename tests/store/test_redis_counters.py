"""Parts of limits: never above the limit in sum, nothing lost to a lost message, and fair without the server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from ops.clock import SystemClock
from store.hot_line import HotLine
from store.redis_counters import IDLE_S, Kind, LeasedCounts, Lot
from tests.fakes.clock import FakeClock
from tests.fakes.hot import PREFIX, ScriptedRedis, line_to, plain
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow
Maker = Callable[..., LeasedCounts]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "no", fsync="no") as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def make(server: RedisServer, clock: FakeClock) -> AsyncIterator[Maker]:
    """Makes processes on a store that is empty; they keep time by ``clock``, the server by its own."""
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    lines: list[HotLine] = []

    def one(owner: str, *, timeout_s: float = 5.0) -> LeasedCounts:
        lines.append(line_to(server.url, clock, timeout_s))
        return LeasedCounts(lines[-1], PREFIX, owner, clock)

    yield one
    for line in lines:
        await line.close()


async def take(counts: LeasedCounts, kind: Kind, limit: int, name: str = "k") -> Lot | None:
    lot = counts.lot(kind, name, limit)
    await counts.gather([lot])
    return lot if counts.take(lot) else None


async def taken(counts: LeasedCounts, times: int, limit: int, kind: Kind = Kind.WINDOW) -> int:
    return sum([await take(counts, kind, limit) is not None for _ in range(times)])


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 1000])
async def test_a_minute_is_shared_exactly_whoever_asks(make: Maker, limit: int) -> None:
    many = [make(f"w{n}") for n in range(4)]
    for one in many:
        await one.beat()
    rng = random.Random(limit)
    passed = 0
    for _ in range(limit * 2):
        passed += await taken(rng.choice(many), 1, limit)
    for one in many:
        passed += await taken(one, limit, limit)  # parts that were leased and not used yet
    assert passed == limit


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_streams_at_once_are_never_above_the_limit_and_none_is_lost(make: Maker, limit: int) -> None:
    many = [make(f"w{n}") for n in range(4)]
    rng = random.Random(limit)
    running: list[tuple[LeasedCounts, Lot]] = []
    most = 0
    for _ in range(600):
        one = rng.choice(many)
        if running and rng.random() < 0.4:
            owner, lot = running.pop(rng.randrange(len(running)))
            owner.give_back(lot)
        elif (new := await take(one, Kind.STREAMS, limit)) is not None:
            running.append((one, new))
        most = max(most, len(running))
        assert len(running) <= limit
        if rng.random() < 0.05:
            await one.beat()
    assert limit in {most, 100}
    for owner, lot in running:
        owner.give_back(lot)
    for one in many:
        await one.farewell()
    last = make("last")
    assert await taken(last, limit + 5, limit, Kind.STREAMS) == limit


async def test_many_that_wait_at_once_share_one_message(make: Maker, server: RedisServer) -> None:
    one = make("w")
    await one.beat()
    async with plain(server.url) as link:
        await link.call("CONFIG", "RESETSTAT")
        found = await asyncio.gather(*(take(one, Kind.WINDOW, 50) for _ in range(80)))
        calls = (await link.call("INFO", "commandstats")).decode()
    assert sum(lot is not None for lot in found) == 50
    evals = next(line for line in calls.splitlines() if line.startswith("cmdstat_evalsha:"))
    assert int(evals.partition("calls=")[2].partition(",")[0]) <= 5


async def test_with_room_most_requests_ask_nobody(make: Maker, server: RedisServer) -> None:
    one = make("w")
    async with plain(server.url) as link:
        await link.call("CONFIG", "RESETSTAT")
        assert await taken(one, 1000, 1_000_000) == 1000
        calls = (await link.call("INFO", "commandstats")).decode()
    evals = next(line for line in calls.splitlines() if line.startswith("cmdstat_evalsha:"))
    assert int(evals.partition("calls=")[2].partition(",")[0]) <= 2


async def test_a_part_that_is_not_used_is_given_back_when_somebody_goes_without(make: Maker) -> None:
    one, two = make("a"), make("b")
    await two.beat()
    assert await taken(one, 1, 8) == 1  # and holds some more
    assert await taken(two, 8, 8) < 7
    await one.beat()
    await two.beat()
    await one.beat()
    await asyncio.sleep(0.05)  # a refusal holds for a moment
    two._clock.advance(0.05)  # type: ignore[attr-defined]  # the test's clock
    await taken(two, 8, 8)
    lots = [counts.lot(Kind.WINDOW, "k", 8) for counts in (one, two)]
    assert sum(lot.used for lot in lots) == 8


async def test_what_is_idle_is_given_back(make: Maker, clock: FakeClock) -> None:
    one, two = make("a"), make("b")
    lot = await take(one, Kind.STREAMS, 100)
    assert lot is not None
    one.give_back(lot)
    clock.advance(IDLE_S + 1)
    await one.beat()
    assert lot.held == 0
    assert await taken(two, 100, 100, Kind.STREAMS) == 100


@pytest.mark.fault("B54")
async def test_the_streams_of_a_process_that_died_come_free(make: Maker, server: RedisServer) -> None:
    """By its sign of life, which ends; the test ends it at once."""
    dead, alive = make("dead"), make("alive")
    assert await taken(dead, 3, 3, Kind.STREAMS) == 3
    assert await taken(alive, 3, 3, Kind.STREAMS) == 0
    async with plain(server.url) as link:
        score = float(await link.call("ZSCORE", f"{{{PREFIX}}}:fleet", "dead"))
        seconds, _ = await link.call("TIME")
        assert 5 < score / 1000 - int(seconds) <= 12
        await link.call("ZADD", f"{{{PREFIX}}}:fleet", 1, "dead")
    assert await taken(alive, 5, 3, Kind.STREAMS) == 3
    assert alive.members == ("alive",)


@pytest.mark.fault("B54")
async def test_after_a_flush_everybody_tells_what_is_used_and_the_sum_still_holds(
    make: Maker, server: RedisServer
) -> None:
    one, two = make("a"), make("b")
    assert await taken(one, 60, 100) == 60
    assert await taken(two, 10, 100) == 10
    assert await taken(one, 2, 4, Kind.STREAMS) == 2
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    await one.beat()
    await two.beat()
    assert await taken(one, 100, 100) + await taken(two, 100, 100) == 30
    assert await taken(two, 9, 4, Kind.STREAMS) == 2


@pytest.mark.fault("B54")
async def test_without_the_server_the_parts_sum_up_to_the_limit(make: Maker, clock: FakeClock) -> None:
    """Minutes that begin alone, and streams: exactly. The minute of the loss: never above here."""
    many = [make(f"w{n}") for n in range(3)]
    for _ in range(2):
        for one in many:
            await one.beat()
    assert sorted((one.rank, one.count) for one in many) == [(0, 3), (1, 3), (2, 3)]
    passed = sum([await taken(one, 10, 100) for one in many])
    assert passed == 30
    for one in many:
        await one.beat()
    for one in many:
        one._line.trip("a test says so")
    passed += sum([await taken(one, 100, 100) for one in many])
    assert 60 <= passed <= 105
    clock.advance(61)
    assert sum([await taken(one, 200, 100) for one in many]) == 100
    assert sum([await taken(one, 200, 10, Kind.STREAMS) for one in many]) == 10
    assert sum([await taken(one, 9, 2, Kind.STREAMS) for one in many]) == 0


@pytest.mark.fault("B54")
async def test_what_was_used_alone_counts_when_the_server_is_back(make: Maker, clock: FakeClock) -> None:
    one, two = make("a"), make("b")
    await one.beat()
    await two.beat()
    await one.beat()
    for counts in (one, two):
        counts._line.trip("a test says so")
    assert await taken(one, 100, 20) == 10
    clock.advance(1)
    await one.beat()
    await two.beat()
    assert await taken(two, 100, 20) + await taken(one, 100, 20) == 10


@pytest.mark.fault("B54")
async def test_a_server_that_is_silent_costs_one_timeout_for_all_that_wait() -> None:
    async with ScriptedRedis() as scripted:
        scripted.answer = None
        line = line_to(scripted.url, SystemClock(), 0.1)
        counts = LeasedCounts(line, PREFIX, "w", SystemClock(), count=2)
        begun = asyncio.get_running_loop().time()
        found = await asyncio.gather(*(take(counts, Kind.STREAMS, 20) for _ in range(50)))
        assert asyncio.get_running_loop().time() - begun < 0.9
        assert sum(lot is not None for lot in found) == 10, "its part, as one of two"
        assert line.away is not None
        await line.close()


async def test_who_leaves_while_waiting_takes_nothing(make: Maker) -> None:
    one = make("w")
    waiting = [asyncio.create_task(take(one, Kind.STREAMS, 5)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:3]:
        task.cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(isinstance(lot, Lot) for lot in found) == 2
    lot = one.lot(Kind.STREAMS, "k", 5)
    assert (lot.used, lot.waiting) == (2, 0)
    assert await taken(one, 9, 5, Kind.STREAMS) == 3
