"""Keys of runs over the fleet: one wins, a late end frees nothing of another's, what was not taken is told again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ops.clock import SystemClock
from store.errors import StoreUnavailable
from store.hot_line import HotLine
from store.redis_once import FleetOnce
from tests.fakes.hot import PREFIX, line_to, plain
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "no", fsync="no") as running:
        yield running


@pytest.fixture
async def line(server: RedisServer) -> AsyncIterator[HotLine]:
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    made = line_to(server.url, SystemClock(), 5.0)
    yield made
    await made.close()


@pytest.fixture
def pair(line: HotLine) -> tuple[FleetOnce, FleetOnce]:
    return FleetOnce(line, PREFIX, "one"), FleetOnce(line, PREFIX, "two")


async def test_one_of_two_wins_and_a_failed_run_frees_the_key(pair: tuple[FleetOnce, FleetOnce]) -> None:
    one, two = pair
    assert await one.take("k", 60)
    assert not await two.take("k", 60)
    two.end("k", 0)  # it has lost: this frees nothing
    await two.tell()
    assert not await two.take("k", 60)
    one.end("k", 0)
    await one.tell()
    assert await two.take("k", 60)


async def test_an_answered_run_keeps_its_key_for_its_time(
    pair: tuple[FleetOnce, FleetOnce], server: RedisServer
) -> None:
    one, two = pair
    assert await one.take("k", 60)
    one.end("k", 600)
    await one.tell()
    assert not await two.take("k", 60)
    async with plain(server.url) as link:
        assert 590_000 < await link.call("PTTL", f"{{{PREFIX}}}:once:k") <= 600_000


async def test_a_late_end_leaves_what_somebody_else_has_taken(
    pair: tuple[FleetOnce, FleetOnce], server: RedisServer
) -> None:
    one, two = pair
    assert await one.take("k", 60)
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    assert await two.take("k", 60)
    one.end("k", 0)
    await one.tell()
    assert not await one.take("k", 60)
    one.end("k", 600)
    await one.tell()
    two.end("k", 0)
    await two.tell()
    assert await one.take("k", 60)


@pytest.mark.fault("B54")
async def test_ends_that_nobody_took_are_told_when_the_server_is_back(
    pair: tuple[FleetOnce, FleetOnce], line: HotLine
) -> None:
    one, two = pair
    assert await one.take("k", 60)
    line.trip("a test says so")
    with pytest.raises(StoreUnavailable):
        await two.take("other", 60)
    two.end("other", 600)  # it ran all the same
    one.end("k", 0)
    for keys in pair:
        with pytest.raises(StoreUnavailable):
            await keys.tell()
    line._why = None
    for keys in pair:
        await keys.tell()
    assert await two.take("k", 60)
    assert not await one.take("other", 60)
