"""In what order: pools of a tenant, policies among the well, and what is kept in reserve."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pool import AccountPool
from router.types import OK, AccountState, NoAccount, NoAccountReason, PoolRules, RouteQuery
from store.records import Account
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BROKEN, MODEL, account, lease_of, put, usage_limit


@dataclass
class Seen:
    """A window as an upstream reports it."""

    used_percent: float
    resets_at_s: float | None
    name: str = "primary"
    window_minutes: int | None = 300


def pool_with(clock: FakeClock, *accounts: Account, **rules: Any) -> AccountPool:
    pool = AccountPool(PoolRules(**rules), clock, random.Random(1), "w1")
    pool.set_accounts(accounts)
    return pool


def picks(pool: AccountPool, times: int, query: RouteQuery) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(times):
        lease = pool.lease(query)
        found[lease.account.id] += 1
        lease.release(OK)
    return found


def test_a_later_pool_serves_while_the_earlier_one_cannot() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0, pool="p"), account(1, pool="q"), account(2, pool="q"))
    first, turned = RouteQuery(MODEL, pools=("p", "q")), RouteQuery(MODEL, pools=("q", "p"))
    assert picks(pool, 6, first) == {"a0": 6}
    assert picks(pool, 6, turned) == {"a1": 3, "a2": 3}
    put(pool, "a0", usage_limit(clock, 600))
    assert picks(pool, 6, first) == {"a1": 3, "a2": 3}
    clock.advance(601)
    assert picks(pool, 6, first) == {"a0": 6}


def test_a_later_pool_serves_when_the_earlier_one_is_full_or_tried() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0, pool="p"), account(1, pool="q"), per_account_concurrency=1)
    query = RouteQuery(MODEL, pools=("p", "q"))
    held = pool.lease(query)
    assert (held.account.id, pool.lease(query).account.id) == ("a0", "a1")
    with pytest.raises(NoAccount) as busy:
        pool.lease(query)
    assert busy.value.reason is NoAccountReason.BUSY
    held.release(OK)
    tried = RouteQuery(MODEL, pools=("p", "q"), excluded=frozenset({"a0"}))
    with pytest.raises(NoAccount):
        pool.lease(tried)


def test_after_a_failure_a_well_account_of_a_later_pool_comes_before_one_on_trial() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0, pool="p"), account(1, pool="p"), account(2, pool="q"), breaker_failures=1)
    put(pool, "a0", BROKEN)
    clock.advance(60)
    query = RouteQuery(MODEL, pools=("p", "q"), excluded=frozenset({"a1"}))
    assert pool.lease(query).account.id == "a2"


def test_a_wish_in_a_later_pool_yields_to_the_order() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0, pool="p"), account(1, pool="q"))
    query = RouteQuery(MODEL, affinity=b"key", pools=("p", "q"))
    put(pool, "a0", usage_limit(clock, 600))
    assert picks(pool, 3, query) == {"a1": 3}
    clock.advance(601)
    assert picks(pool, 3, query) == {"a0": 3}


@given(
    st.lists(st.sampled_from("pqr"), min_size=1, max_size=6),
    st.lists(st.sampled_from("pqr"), min_size=1, max_size=3, unique=True),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
)
def test_no_request_ever_crosses_into_a_pool_that_its_tenant_was_not_given(
    homes: list[str], pools: list[str], faults: list[tuple[int, bool]]
) -> None:
    clock = FakeClock()
    pool = pool_with(clock, *(account(n, pool=home) for n, home in enumerate(homes)), breaker_failures=1)
    query = RouteQuery(MODEL, pools=tuple(pools))
    for number, full in [*faults, (99, False)]:
        if number < len(homes):
            try:
                lease_of(pool, f"a{number}").release(usage_limit(clock, 60) if full else BROKEN)
            except NoAccount:
                clock.advance(5)
        for owner in (None, "a0"):
            try:
                lease = pool.lease(RouteQuery(MODEL, pools=query.pools, owner=owner, affinity=b"k"))
            except NoAccount:
                continue
            assert lease.account.pool in pools
            lease.release(OK)


def test_least_used_goes_where_most_room_is() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0), account(1), account(2), account(3, weight=0), policy="least_used")
    reset_s = clock.now_s() + 600
    for name, used in (("a0", 50.0), ("a1", 20.0), ("a2", 22.0), ("a3", 0.0)):
        pool.note_windows(name, [Seen(used, reset_s)])
    assert picks(pool, 10, RouteQuery(MODEL)) == {"a1": 5, "a2": 5}
    pool.note_windows("a1", [Seen(20.0, reset_s), Seen(90.0, reset_s, "secondary")])
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a2": 4}


def test_fill_first_keeps_the_later_ones_fresh() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0, weight=0), account(1), account(2), policy="fill_first")
    assert picks(pool, 5, RouteQuery(MODEL)) == {"a1": 5}
    put(pool, "a1", usage_limit(clock, 600))
    assert picks(pool, 5, RouteQuery(MODEL)) == {"a2": 5}
    put(pool, "a2", usage_limit(clock, 600))
    assert picks(pool, 5, RouteQuery(MODEL)) == {"a0": 5}
    clock.advance(601)
    assert picks(pool, 2, RouteQuery(MODEL)).keys() == {"a1", "a2"}, "each is tried once"
    assert picks(pool, 5, RouteQuery(MODEL)) == {"a1": 5}


def test_an_account_in_its_reserve_rests_until_its_reset_or_better_news() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0), account(1), reserve_percent=10.0)
    reset_s = clock.now_s() + 600
    pool.note_windows("a0", [Seen(91.0, reset_s)])
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a1": 4}
    found = pool.explain("a0")
    assert found is not None
    assert found.state is AccountState.COOLING
    assert [record.cause for record in pool.take_changes()] == ["reserve"]
    pool.note_windows("a1", [Seen(95.0, reset_s - 100)])
    with pytest.raises(NoAccount) as refused:
        pool.lease(RouteQuery(MODEL))
    assert (refused.value.reason, refused.value.resets_at_s) == (NoAccountReason.EXHAUSTED, reset_s - 100)
    pool.note_windows("a1", [Seen(3.0, reset_s)])
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a1": 4}
    clock.advance(601)
    assert picks(pool, 8, RouteQuery(MODEL)).keys() == {"a0", "a1"}


def test_a_reserve_never_shortens_the_upstreams_own_word() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0), account(1), reserve_percent=10.0)
    put(pool, "a0", usage_limit(clock, 5000))
    pool.note_windows("a0", [Seen(1.0, clock.now_s() + 600)])
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a1": 4}
    pool.note_windows("a0", [Seen(99.0, clock.now_s() + 600)])
    clock.advance(700)
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a1": 4}


def test_a_probe_that_finds_the_account_allowed_does_not_open_its_reserve() -> None:
    clock = FakeClock()
    pool = pool_with(clock, account(0), account(1), reserve_percent=10.0)
    pool.note_windows("a0", [Seen(95.0, clock.now_s() + 6000)])
    pool.probe_result("a0", OK)
    assert picks(pool, 4, RouteQuery(MODEL)) == {"a1": 4}
