"""The breaker opens on faults in a row, rests longer each time, and closes by probes; only our clock decides."""

from __future__ import annotations

import random

import pytest

from router.breaker import Breaker, BreakerRules, BreakerState
from router.types import Cause

RULES = BreakerRules(failures=5, successes=2, open_s=30.0, open_max_s=900.0)


def breaker(seed: int = 1) -> Breaker:
    return Breaker(RULES, random.Random(seed))


def strike(one: Breaker, now_s: float = 0.0, times: int = 1, *, probe: bool = False) -> list[bool]:
    return [one.strike(now_s, Cause.BROKEN, "status 500", probe=probe) for _ in range(times)]


def test_it_opens_at_the_fifth_fault_in_a_row() -> None:
    """Four are borne; the fifth opens it and says how many they were."""
    one = breaker()
    assert strike(one, times=5) == [False, False, False, False, True]
    assert one.state is BreakerState.OPEN
    assert one.evidence == "5 in a row, last: status 500"


def test_a_success_starts_the_count_over() -> None:
    """Faults must be in a row."""
    one = breaker()
    strike(one, times=4)
    one.success()
    assert one.quiet
    strike(one, times=4)
    assert one.closed


@pytest.mark.parametrize("seed", range(20))
def test_the_rest_doubles_up_to_the_maximum_give_or_take_a_fifth(seed: int) -> None:
    """30 s, 60 s, 120 s ... 900 s, each within 20 %."""
    one = breaker(seed)
    strike(one, 0.0, times=5)
    now_s = 0.0
    for expected_s in (30, 60, 120, 240, 480, 900, 900):
        rest_s = one.until_s - now_s
        assert expected_s * 0.8 <= rest_s <= expected_s * 1.2
        now_s = one.until_s
        one.begin_probe(now_s)
        assert strike(one, now_s, probe=True) == [True]


def test_rests_of_many_breakers_are_spread() -> None:
    """Jitter keeps accounts that failed together from coming back together."""
    rests = set()
    for seed in range(20):
        one = breaker(seed)
        strike(one, times=5)
        rests.add(round(one.until_s, 3))
    assert len(rests) > 15


def test_it_closes_after_two_good_probes_and_forgets_its_level() -> None:
    """One good probe is not enough; after the second the next rest is the first again."""
    one = breaker()
    strike(one, times=5)
    one.begin_probe(30.0)
    strike(one, 30.0, probe=True)
    assert one.level == 1
    one.begin_probe(100.0)
    assert not one.success(probe=True)
    assert one.state is BreakerState.HALF_OPEN
    assert one.success(probe=True)
    assert (one.state, one.level, one.failures) == (BreakerState.CLOSED, 0, 0)
    strike(one, 200.0, times=5)
    assert one.until_s - 200.0 <= 36.0


def test_outcomes_of_leases_from_before_say_nothing_while_it_is_open() -> None:
    """Neither late faults nor late successes move an open or half-open breaker."""
    one = breaker()
    strike(one, times=5)
    until_s = one.until_s
    assert strike(one, 1.0) == [False]
    assert not one.success()
    assert (one.state, one.until_s) == (BreakerState.OPEN, until_s)
    one.begin_probe(until_s)
    assert strike(one, until_s) == [False]
    assert not one.success()
    assert one.state is BreakerState.HALF_OPEN


def test_real_time_has_no_say() -> None:
    """It stays open and is probed by the times handed in, though no real second passes."""
    one = breaker()
    strike(one, 1e9, times=5)
    assert one.state is BreakerState.OPEN
    assert one.until_s > 1e9
    one.begin_probe(one.until_s)
    one.success(probe=True)
    assert one.success(probe=True)


def test_one_fault_can_open_it_at_once() -> None:
    """What is certain does not wait for the count."""
    one = breaker()
    assert one.strike(0.0, Cause.AUTH, "status 401", at_once=True)
    assert one.cause is Cause.AUTH
    assert one.evidence == "status 401"


def test_forgiving_takes_back_the_strikes_of_a_storm_only() -> None:
    """Strikes from before the storm still count."""
    one = breaker()
    strike(one, 0.0, times=2)
    strike(one, 100.0, times=3)
    assert one.state is BreakerState.OPEN
    assert one.forgive(90.0, 101.0)
    assert (one.state, one.failures) == (BreakerState.CLOSED, 2)
    assert strike(one, 102.0, times=3)[-1]


def test_forgiving_leaves_a_breaker_alone_that_opened_before() -> None:
    """An account that was out before the storm stays out."""
    one = breaker()
    strike(one, 0.0, times=5)
    assert not one.forgive(5.0, 10.0)
    assert one.state is BreakerState.OPEN


def test_forgiving_a_failed_probe_takes_back_its_longer_rest() -> None:
    """It stays open at its old level and may be probed at once."""
    one = breaker()
    strike(one, 0.0, times=5)
    one.begin_probe(40.0)
    strike(one, 41.0, probe=True)
    assert one.forgive(35.0, 42.0)
    assert (one.state, one.level, one.until_s) == (BreakerState.OPEN, 0, 42.0)
