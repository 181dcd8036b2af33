"""Limits that many processes share: the same refusals as those of one, decided from parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from auth.errors import LimitExceeded
from auth.fleet_limits import FleetLimits
from auth.limits import Admission
from auth.types import Caller
from store.hot_line import HotLine
from store.records import Limits
from store.redis_counters import LeasedCounts
from tests.auth.test_limits import caller
from tests.fakes.clock import FakeClock
from tests.fakes.hot import PREFIX, line_to, plain
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
async def line(server: RedisServer, clock: FakeClock) -> AsyncIterator[HotLine]:
    async with plain(server.url) as link:
        await link.call("FLUSHALL")
    made = line_to(server.url, clock, 5.0)
    yield made
    await made.close()


@pytest.fixture
def pair(line: HotLine, clock: FakeClock) -> tuple[FleetLimits, FleetLimits]:
    counts = [LeasedCounts(line, PREFIX, name, clock) for name in ("one", "two")]
    return FleetLimits(counts[0], clock), FleetLimits(counts[1], clock)


async def admit(limits: FleetLimits, who: Caller) -> Admission:
    await limits.prepare(who)
    return limits.admit(who)


async def refused(limits: FleetLimits, who: Caller) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as caught:
        await admit(limits, who)
    return caught.value


async def test_without_limits_nothing_is_asked(pair: tuple[FleetLimits, FleetLimits], line: HotLine) -> None:
    await line.close()
    for _ in range(100):
        (await admit(pair[0], caller())).release()
    assert pair[0].headers(caller()) == ()
    assert line.away is None


@pytest.mark.parametrize("scope", ["key", "tenant"])
@pytest.mark.fault("C27")
async def test_a_minute_holds_in_sum_and_the_refusal_says_when_it_is_over(
    pair: tuple[FleetLimits, FleetLimits], scope: str
) -> None:
    bound = Limits(requests_per_minute=3)
    who = caller(bound, None) if scope == "key" else caller(None, bound)
    for n in range(3):
        await admit(pair[n % 2], who)
    for limits in pair:
        error = await refused(limits, who)
        assert (error.limit_name, error.scope, error.limit) == ("requests", scope, 3)
        assert 50 < error.retry_after_s <= 60


async def test_streams_at_once_hold_in_sum_and_a_place_that_is_released_twice_is_one_place(
    pair: tuple[FleetLimits, FleetLimits],
) -> None:
    who = caller(Limits(concurrent_streams=2))
    first, _ = await admit(pair[0], who), await admit(pair[1], who)
    assert (await refused(pair[1], who)).limit_name == "streams"
    first.release()
    first.release()
    await admit(pair[0], who)
    assert (await refused(pair[0], who)).limit_name == "streams"


async def test_a_refusal_counts_nothing_in_any_scope(pair: tuple[FleetLimits, FleetLimits]) -> None:
    who = caller(Limits(requests_per_minute=5, concurrent_streams=10), Limits(requests_per_minute=1))
    (await admit(pair[0], who)).release()
    for _ in range(10):
        assert (await refused(pair[0], who)).scope == "tenant"
    alone = caller(Limits(requests_per_minute=5))
    for _ in range(4):
        await admit(pair[0], alone)
    assert (await refused(pair[0], alone)).scope == "key"


async def test_the_headers_are_those_of_the_tighter_limit_and_of_the_whole_fleet(
    pair: tuple[FleetLimits, FleetLimits], clock: FakeClock
) -> None:
    who = caller(Limits(requests_per_minute=10), Limits(requests_per_minute=4))
    await admit(pair[0], who)
    await admit(pair[1], who)
    headers = dict(pair[1].headers(who))
    assert headers[b"x-ratelimit-limit-requests"] == b"4"
    assert int(headers[b"x-ratelimit-remaining-requests"]) <= 2
    assert headers[b"x-ratelimit-reset-requests"] in {b"59s", b"1m0s"}


@pytest.mark.fault("B54")
async def test_without_the_hot_store_the_limit_still_refuses(
    pair: tuple[FleetLimits, FleetLimits], line: HotLine
) -> None:
    line.trip("a test says so")
    who = caller(Limits(requests_per_minute=3, concurrent_streams=3))
    held = [await admit(pair[0], who) for _ in range(3)]
    assert (await refused(pair[0], who)).limit_name == "streams"
    for one in held:
        one.release()
    assert (await refused(pair[0], who)).limit_name == "requests"
    assert dict(pair[0].headers(who))[b"x-ratelimit-remaining-requests"] == b"0"


async def test_a_key_whose_limit_was_changed_is_counted_by_the_new_one(pair: tuple[FleetLimits, FleetLimits]) -> None:
    for _ in range(2):
        await admit(pair[0], caller(Limits(requests_per_minute=2)))
    await refused(pair[0], caller(Limits(requests_per_minute=2)))
    await admit(pair[1], caller(Limits(requests_per_minute=3)))
