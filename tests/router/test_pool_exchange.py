"""Two workers, one truth: what one finds out the other knows, and only one of them tries first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from router.breaker import BreakerState
from router.pool import AccountPool
from router.types import OK, AccountState, NoAccount, NoAccountReason, Outcome, OutcomeKind, RouteQuery
from store.records import ROUTE, HealthRecord
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BARE_429, BROKEN, MODEL, ROUTE_FAULT, account, lease_of, pool_of, put, usage_limit

QUERY = RouteQuery(MODEL)


@dataclass(frozen=True)
class Reported:
    name: str
    used_percent: float
    window_minutes: int | None = None
    resets_at_s: float | None = None


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def pair(clock: FakeClock, size: int = 2) -> tuple[AccountPool, AccountPool]:
    return pool_of(size, clock, worker="w1"), pool_of(size, clock, worker="w2", seed=2)


def tell(one: AccountPool, other: AccountPool) -> list[HealthRecord]:
    """What one found goes through the store to both."""
    records = one.take_changes()
    one.apply(records)
    other.apply(records)
    return records


def leasable(pool: AccountPool, account_id: str) -> bool:
    try:
        lease_of(pool, account_id).release(Outcome(OutcomeKind.CANCELLED))
    except NoAccount:
        return False
    return True


def state_of(pool: AccountPool, account_id: str) -> AccountState:
    found = pool.explain(account_id)
    assert found is not None
    return found.state


@pytest.mark.fault("B19")
def test_the_other_worker_respects_a_rest_until_its_reset(clock: FakeClock) -> None:
    """And names the same reset."""
    one, other = pair(clock, size=1)
    put(one, "a0", usage_limit(clock, 3600))
    tell(one, other)
    with pytest.raises(NoAccount) as refusal:
        other.lease(QUERY)
    assert refusal.value.reason is NoAccountReason.EXHAUSTED
    assert refusal.value.resets_at_s == pytest.approx(clock.now_s() + 3600)


@pytest.mark.fault("B19")
def test_a_rest_survives_a_restart_and_is_still_probed_in_the_background(clock: FakeClock) -> None:
    """The next run reads the records before its accounts, keeps the rest, and looks after it."""
    one = pool_of(1, clock)
    put(one, "a0", usage_limit(clock, 86_400))
    stored = one.take_changes()
    clock.advance(100)
    fresh = pool_of(0, clock, worker="w9")
    fresh.apply(stored)
    fresh.set_accounts([account(0)])
    assert not leasable(fresh, "a0")
    clock.advance(361)
    assert [found.id for found in fresh.due_probes()] == ["a0"]
    fresh.probe_result("a0", OK)
    assert leasable(fresh, "a0")


def test_only_the_worker_that_found_it_tries_first(clock: FakeClock) -> None:
    """The other waits for its verdict, and learns it."""
    one, other = pair(clock)
    put(one, "a0", BARE_429)
    tell(one, other)
    clock.advance(6.1)
    assert not leasable(other, "a0")
    lease_of(one, "a0").release(OK)
    tell(one, other)
    assert leasable(other, "a0")
    assert not lease_of(other, "a0").probe


def test_without_a_verdict_the_other_takes_over_after_five_seconds(clock: FakeClock) -> None:
    """A worker that died with the knowledge keeps nobody out."""
    one, other = pair(clock)
    for _ in range(5):
        put(one, "a0", BROKEN)
    tell(one, other)
    rest_s = (
        next(block.until_s or 0.0 for block in found.blocks) - clock.now_s() if (found := other.explain("a0")) else 0
    )
    assert rest_s > 20
    clock.advance(rest_s + 4.9)
    assert not leasable(other, "a0")
    clock.advance(0.2)
    probe = lease_of(other, "a0")
    assert probe.probe
    tell(other, one)
    assert not leasable(one, "a0"), "the other one is probing now"
    probe.release(OK)
    lease_of(other, "a0").release(OK)
    tell(other, one)
    assert leasable(one, "a0")
    assert state_of(one, "a0") is AccountState.OK


def test_parallel_evidence_of_two_workers_keeps_the_known_reset(clock: FakeClock) -> None:
    """A later estimate from elsewhere does not shorten it, here or there."""
    one, other = pair(clock, size=1)
    late = lease_of(other, "a0")
    put(one, "a0", usage_limit(clock, 3600))
    clock.advance(0.1)
    late.release(BARE_429)
    from_one, from_other = one.take_changes(), other.take_changes()
    one.apply(from_other)
    other.apply(from_one)
    again = one.take_changes()
    other.apply(again)
    clock.advance(60)
    assert not leasable(one, "a0")
    assert not leasable(other, "a0")


def test_old_news_and_own_echoes_change_nothing(clock: FakeClock) -> None:
    """What was told before a success does not undo the success."""
    one, other = pair(clock)
    put(one, "a0", BARE_429)
    old = tell(one, other)
    clock.advance(6.1)
    put(one, "a0", OK)
    tell(one, other)
    one.apply(old)
    other.apply(old)
    assert leasable(one, "a0")
    assert leasable(other, "a0")
    assert one.take_changes() == []


@pytest.mark.fault("B40")
def test_news_after_the_clock_was_set_back_still_counts(clock: FakeClock) -> None:
    """Stamps of one matter only grow."""
    one, other = pair(clock)
    put(one, "a0", BARE_429)
    tell(one, other)
    clock.jump_wall(-3600)
    clock.advance(6.1)
    put(one, "a0", OK)
    tell(one, other)
    assert leasable(other, "a0")


def test_a_rest_from_a_worker_with_a_wrong_clock_is_cut_to_the_cap(clock: FakeClock) -> None:
    """No record locks an account away for years."""
    one, other = pair(clock)
    put(one, "a0", usage_limit(clock, 3600))
    records = [replace(record, until_s=record.until_s + 1e9) for record in one.take_changes()]
    other.apply(records)
    clock.advance(7 * 86_400 + 6)
    assert leasable(other, "a0")


def test_a_route_that_is_down_is_known_to_the_other_and_so_is_its_recovery(clock: FakeClock) -> None:
    """Each worker may try by itself; a good answer of one is enough for both."""
    one, other = pair(clock)
    for _ in range(5):
        one.lease(QUERY).release(ROUTE_FAULT)
    assert [record.account_id for record in tell(one, other)] == [ROUTE]
    with pytest.raises(NoAccount):
        other.lease(QUERY)
    clock.advance(1.3)
    one.lease(QUERY).release(OK)
    tell(one, other)
    assert other.snapshot().route is BreakerState.CLOSED


def test_what_healed_before_it_was_told_is_not_told(clock: FakeClock) -> None:
    """No noise about what nobody heard of."""
    one, _ = pair(clock)
    put(one, "a0", BARE_429)
    one.clear("a0")
    assert one.take_changes() == []


def test_an_operators_clear_reaches_the_other_worker(clock: FakeClock) -> None:
    """Both use the account again."""
    one, other = pair(clock)
    put(one, "a0", usage_limit(clock, 3600))
    tell(one, other)
    other.clear("a0")
    tell(other, one)
    assert leasable(one, "a0")
    assert leasable(other, "a0")


def test_windows_are_shared_and_the_later_sight_wins(clock: FakeClock) -> None:
    """Whichever order they arrive in."""
    one, other = pair(clock)
    one.note_windows("a0", [Reported("primary", 10.0)])
    early = one.take_window_changes()
    clock.advance(5)
    other.note_windows("a0", [Reported("primary", 30.0)])
    other.apply_windows(early)
    one.apply_windows(other.take_window_changes())
    for pool in (one, other):
        found = pool.explain("a0")
        assert found is not None
        assert [window.used_percent for window in found.windows] == [30.0]
    assert one.take_window_changes() == []


def test_placements_travel(clock: FakeClock) -> None:
    """A conversation that began at one worker goes on with the same account at the other."""
    one, other = pair(clock)
    home = one.lease(RouteQuery(MODEL, affinity=b"k")).account.id
    moment = one.moment()
    other.placements.apply(one.placements.take_changes(moment), moment)
    for _ in range(4):
        assert other.lease(RouteQuery(MODEL, affinity=b"k")).account.id == home
