"""A fault that all share is the route's: no account is benched, and all are usable soon after."""

from __future__ import annotations

import random

import pytest

from router.breaker import BreakerState
from router.pool import AccountPool
from router.route import Blame, RouteBreaker
from router.types import (
    CANCELLED,
    OK,
    AccountState,
    NoAccount,
    NoAccountReason,
    Outcome,
    OutcomeKind,
    RouteQuery,
)
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BARE_429, BROKEN, CLIENT_ERROR, MODEL, ROUTE_FAULT, pool_of, put

QUERY = RouteQuery(MODEL)


def states(pool: AccountPool) -> set[AccountState]:
    return set(pool.snapshot().counts)


def serve(pool: AccountPool, outcome: Outcome, attempts: int = 3) -> int:
    """One client request that fails over like the relay does; how many calls went up."""
    excluded: frozenset[str] = frozenset()
    calls = 0
    while calls < attempts:
        try:
            lease = pool.lease(RouteQuery(MODEL, excluded=excluded))
        except NoAccount:
            break
        calls += 1
        excluded |= {lease.account.id}
        lease.release(outcome)
        if outcome is OK:
            break
    return calls


@pytest.mark.fault("B25")
@pytest.mark.parametrize("size", [1, 2, 3, 8, 50])
def test_after_a_storm_every_account_is_usable_within_five_seconds(size: int) -> None:
    """Five minutes of 500 from all, then health: within 5 s all are leasable, and none was ever benched for long."""
    clock = FakeClock()
    pool = pool_of(size, clock)
    clients = calls = 0
    for _ in range(600):
        clock.advance(0.5)
        clients += 1
        calls += serve(pool, BROKEN)
    assert calls <= 2 * clients, "the storm was amplified"
    for _ in range(50):
        clock.advance(0.1)
        serve(pool, OK)
    assert pool.snapshot().usable == size
    assert {pool.lease(RouteQuery(MODEL, owner=f"a{number}")).account.id for number in range(size)} == {
        f"a{number}" for number in range(size)
    }


@pytest.mark.fault("B25")
def test_during_a_storm_almost_every_request_is_refused_at_once() -> None:
    """Once the route is known to be down, calls go up about once per rest."""
    clock = FakeClock()
    pool = pool_of(4, clock)
    for _ in range(20):
        serve(pool, BROKEN)
    calls = 0
    for _ in range(300):
        clock.advance(0.1)
        calls += serve(pool, BROKEN)
    assert calls <= 30


@pytest.mark.fault("B1")
@pytest.mark.fault("B22")
def test_route_faults_bench_no_account_and_open_the_route() -> None:
    """Refused connects and Cloudflare pages: the fifth in a row stops the calls, with a time to come back."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    for _ in range(5):
        pool.lease(QUERY).release(ROUTE_FAULT)
    assert states(pool) == {AccountState.OK}
    with pytest.raises(NoAccount) as refusal:
        pool.lease(QUERY)
    assert refusal.value.reason is NoAccountReason.ROUTE_DOWN
    assert refusal.value.retry_after_s is not None
    assert 0.8 <= refusal.value.retry_after_s <= 1.2


def test_a_half_open_route_lets_one_request_through_at_a_time() -> None:
    """The others are refused until its verdict; a departed client frees the trial without one."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    for _ in range(5):
        pool.lease(QUERY).release(ROUTE_FAULT)
    clock.advance(1.3)
    probe = pool.lease(QUERY)
    assert probe.probe
    with pytest.raises(NoAccount):
        pool.lease(QUERY)
    probe.release(CANCELLED)
    again = pool.lease(QUERY)
    assert again.probe
    again.release(OK)
    assert pool.snapshot().route is BreakerState.CLOSED
    assert not pool.lease(QUERY).probe


def test_the_first_event_of_a_trial_is_verdict_enough() -> None:
    """A long stream does not keep the others out until it ends."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    for _ in range(5):
        pool.lease(QUERY).release(ROUTE_FAULT)
    clock.advance(1.3)
    probe = pool.lease(QUERY)
    probe.confirm()
    assert pool.snapshot().route is BreakerState.CLOSED
    pool.lease(QUERY).release(OK)
    probe.release(OK)


@pytest.mark.parametrize("outcome", [BARE_429, CLIENT_ERROR, Outcome(OutcomeKind.AUTH, status=401)])
def test_any_answer_of_the_upstream_itself_proves_the_way(outcome: Outcome) -> None:
    """A 429, a 400 or a 401 closes the route."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    for _ in range(5):
        pool.lease(QUERY).release(ROUTE_FAULT)
    clock.advance(1.3)
    pool.lease(QUERY).release(outcome)
    assert pool.snapshot().route is BreakerState.CLOSED


def test_one_bad_account_among_many_is_no_storm() -> None:
    """Its own breaker opens; the route stays closed."""
    clock = FakeClock()
    pool = pool_of(4, clock)
    for _ in range(60):
        clock.advance(0.1)
        lease = pool.lease(QUERY)
        lease.release(BROKEN if lease.account.id == "a1" else OK)
    assert pool.snapshot().route is BreakerState.CLOSED
    assert pool.snapshot().counts == {AccountState.OPEN: 1, AccountState.OK: 3}


def test_a_suspected_storm_lets_the_next_request_find_the_well_account() -> None:
    """Half of the accounts fail and the third attempt still gets through: nobody well is left out."""
    clock = FakeClock()
    pool = pool_of(4, clock)
    tried: frozenset[str] = frozenset()
    for _ in range(2):
        lease = pool.lease(RouteQuery(MODEL, excluded=tried))
        tried |= {lease.account.id}
        lease.release(BROKEN)
    assert pool.snapshot().route is BreakerState.OPEN
    pool.lease(RouteQuery(MODEL, excluded=tried)).release(OK)
    assert pool.snapshot().route is BreakerState.CLOSED


def test_strikes_of_a_storm_are_taken_back() -> None:
    """One strike short of its breaker, an account has none after the storm."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    for _ in range(4):
        put(pool, "a0", BROKEN)
    put(pool, "a1", BROKEN)
    found = pool.explain("a0")
    assert found is not None
    assert found.failures == 0
    assert states(pool) == {AccountState.OK}


def test_late_victims_of_a_storm_are_nobodys_strikes() -> None:
    """Leases that began before the route recovered and fail afterwards are charged to the route."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    victims = [pool.lease(QUERY) for _ in range(12)]
    for lease in victims[:3]:
        lease.release(BROKEN)
    clock.advance(5)
    pool.lease(QUERY).release(OK)
    clock.advance(60)
    for lease in victims[3:]:
        lease.release(BROKEN)
    assert states(pool) == {AccountState.OK}
    assert pool.snapshot().route is BreakerState.CLOSED


def test_a_single_account_is_never_locked_out_for_long() -> None:
    """Where there is no other account, its faults are probed every few seconds rather than benched."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    longest_s = 0.0
    for _ in range(200):
        clock.advance(1.0)
        try:
            pool.lease(QUERY).release(BROKEN)
        except NoAccount as refusal:
            longest_s = max(longest_s, refusal.retry_after_s or 0.0)
    assert 0 < longest_s <= 4.3


def test_an_outcome_that_never_left_proves_nothing() -> None:
    """A request that we refused ourselves is no sign of life from the upstream."""
    route = RouteBreaker(random.Random(1))
    for _ in range(5):
        route.settle(ROUTE_FAULT, "a", started_s=0, probe=False, now_s=0, serving=2)
    route.begin_probe(2.0)
    unsent = Outcome(OutcomeKind.CLIENT_ERROR, sent=False)
    assert route.settle(unsent, "a", started_s=2, probe=True, now_s=2, serving=2) is Blame.ACCOUNT
    assert not route.closed
    assert route.admits(2.0)


def test_a_good_answer_between_two_faults_refutes_the_storm() -> None:
    """Faults of two accounts with a success begun in between are two faults, not one that all share."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a0", BROKEN)
    clock.advance(1)
    put(pool, "a2", OK)
    clock.advance(1)
    put(pool, "a1", BROKEN)
    assert pool.snapshot().route is BreakerState.CLOSED


def test_faults_further_apart_than_the_window_are_no_storm() -> None:
    """Eleven seconds lie between them."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a0", BROKEN)
    clock.advance(11)
    put(pool, "a1", BROKEN)
    assert pool.snapshot().route is BreakerState.CLOSED


def adopted(until_s: float, now_s: float) -> RouteBreaker:
    route = RouteBreaker(random.Random(1))
    route.adopt(is_open=True, since_s=now_s - 1, until_s=until_s, level=0, evidence="x", now_s=now_s)
    return route


def test_a_stale_record_of_a_route_that_was_down_is_passed_over() -> None:
    """What was true before a restart an hour ago keeps nobody waiting for a trial."""
    assert adopted(until_s=100.0, now_s=3700.0).closed
    assert not adopted(until_s=100.0, now_s=99.0).closed


def test_a_wrong_clock_elsewhere_keeps_the_route_down_for_seconds_only() -> None:
    """The rest of a stranger is cut to our own longest."""
    assert adopted(until_s=1e9, now_s=10.0).admits(14.0)
