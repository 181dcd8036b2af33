"""Hot state on a real server: pages, bounds, and what is noticed when the server has lost something.

The contract itself is held against it in test_tiered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from store.errors import StoreUnavailable
from store.hot_line import RETRY_S
from store.redis_hot import PAGE, RedisHot
from tests.fakes.clock import FakeClock
from tests.fakes.hot import PREFIX, hot_on, line_to, plain
from tests.fakes.records import NOW_S, make_health, make_placement, make_window
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--appendonly", "no", fsync="no") as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def pair(server: RedisServer, clock: FakeClock) -> AsyncIterator[tuple[RedisHot, RedisHot]]:
    """Two processes on a store that is empty."""
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    lines = [line_to(server.url, clock, 5.0) for _ in range(2)]
    yield hot_on(lines[0], clock), hot_on(lines[1], clock)
    for line in lines:
        await line.close()


async def flush(server: RedisServer) -> None:
    async with plain(server.url) as link:
        await link.call("FLUSHALL")


async def test_long_lists_come_in_pages_and_whole(pair: tuple[RedisHot, RedisHot]) -> None:
    one, two = pair
    many = 2 * PAGE + 7
    await one.publish([make_health(f"a{n}") for n in range(many)], [make_window("w")])
    found = await two.changes(0)
    assert [record.account_id for record in found.health] == [f"a{n}" for n in range(many)]
    assert (len(found.windows), found.cursor) == (1, many + 1)
    await one.place([make_placement(b"%d" % n, f"a{n}", expires_at_s=NOW_S + 1) for n in range(many)])
    assert await two.placements("affinity", [b"%d" % n for n in range(many)]) == {
        b"%d" % n: f"a{n}" for n in range(many)
    }


async def test_purging_goes_on_until_everything_that_is_over_is_gone(
    pair: tuple[RedisHot, RedisHot], clock: FakeClock
) -> None:
    await pair[0].place([make_placement(b"%d" % n, expires_at_s=NOW_S + 1) for n in range(2 * PAGE + 3)])
    clock.advance(2)
    assert await pair[1].purge() == 2 * PAGE + 3
    assert await pair[0].purge() == 0


async def test_memory_is_bounded_and_keys_end_by_themselves(
    pair: tuple[RedisHot, RedisHot], server: RedisServer, clock: FakeClock
) -> None:
    two = pair[1]
    line = line_to(server.url, clock, 5.0)
    one = RedisHot(line, PREFIX, clock, records_max=10, places_max=10)
    await one.publish([make_health(f"a{n}") for n in range(25)], [])
    await one.place([make_placement(b"%02d" % n, expires_at_s=NOW_S + n + 1) for n in range(25)])
    assert [record.account_id for record in (await two.changes(0)).health] == [f"a{n}" for n in range(15, 25)]
    assert set(await two.placements("affinity", [b"%02d" % n for n in range(25)])) == {
        b"%02d" % n for n in range(15, 25)
    }
    async with plain(server.url) as link:
        keys = await link.call("KEYS", f"{{{PREFIX}}}:*")
        assert len(keys) == 5
        assert all([await link.call("PTTL", key) > 0 for key in keys])
    await line.close()


async def test_a_word_that_says_nothing_new_is_not_passed_on(pair: tuple[RedisHot, RedisHot]) -> None:
    """Everybody tells everything after a flush: the same record many times is one change."""
    one, two = pair
    await one.publish([make_health()], [])
    cursor = (await two.changes(0)).cursor
    await two.publish([make_health()], [])
    assert (await one.changes(cursor)).cursor == cursor


@pytest.mark.fault("B54")
async def test_a_flush_is_noticed_once_by_everybody_and_what_is_new_is_missed_by_nobody(
    pair: tuple[RedisHot, RedisHot], server: RedisServer
) -> None:
    lost: list[str] = []
    one, two = pair
    one.on_lost = lambda: lost.append("one")
    two.on_lost = lambda: lost.append("two")
    await one.publish([make_health("a"), make_health("b")], [])
    first, second = await one.changes(0), await two.changes(0)
    assert lost == []
    await flush(server)
    await one.publish([make_health("c"), make_health("d"), make_health("e")], [])  # more than were there before
    assert [record.account_id for record in (await two.changes(second.cursor)).health] == ["c", "d", "e"]
    found = await one.changes(first.cursor)
    assert len(found.health) == 3
    assert sorted(lost) == ["one", "two"]
    await one.changes(found.cursor)
    assert sorted(lost) == ["one", "two"]


@pytest.mark.fault("B54")
async def test_a_line_that_was_away_counts_as_a_loss(clock: FakeClock) -> None:
    """A replica that took over may lack the last words: everything is read and told anew."""
    lost: list[str] = []
    with redis_server("--appendonly", "no", fsync="no") as server:
        line = line_to(server.url, clock)
        hot = hot_on(line, clock)
        hot.on_lost = lambda: lost.append("lost")
        await hot.publish([make_health()], [])
        cursor = (await hot.changes(0)).cursor
        server.kill()
        with pytest.raises(StoreUnavailable):
            await hot.changes(cursor)
        server.start()
        clock.advance(RETRY_S)
        assert (await hot.changes(cursor)).health == ()
        assert lost == ["lost"]
        await hot.publish([make_health()], [])
        assert (await hot.changes(0)).health == (make_health(),)
        await line.close()


async def test_what_another_release_wrote_is_passed_over(pair: tuple[RedisHot, RedisHot], server: RedisServer) -> None:
    one, two = pair
    await one.publish([make_health("a"), make_health("b")], [])
    async with plain(server.url) as link:
        field = (await link.call("HKEYS", f"{{{PREFIX}}}:hot:values"))[0]
        await link.call("HSET", f"{{{PREFIX}}}:hot:values", field, b"1 {}")
    assert len((await two.changes(0)).health) == 1


@pytest.mark.fault("B54")
async def test_keys_of_the_wrong_type_are_a_store_that_is_away(
    pair: tuple[RedisHot, RedisHot], server: RedisServer
) -> None:
    async with plain(server.url) as link:
        await link.call("SET", f"{{{PREFIX}}}:hot:values", "x")
    with pytest.raises(StoreUnavailable, match="redis_prefix"):
        await pair[0].publish([make_health()], [])
