"""Leases: who gets them, in which order, and what the pool counts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from router.pool import AccountPool
from router.types import CANCELLED, OK, NoAccount, NoAccountReason, Outcome, OutcomeKind, PoolRules, RouteQuery
from store.records import Account, AccountStatus
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BROKEN, CLIENT_ERROR, MODEL, account, lease_of, pool_of, put, usage_limit

QUERY = RouteQuery(MODEL)


def pool_with(*accounts: Account, clock: FakeClock | None = None, **rules: Any) -> AccountPool:
    pool = AccountPool(PoolRules(**rules), clock or FakeClock(), random.Random(1), "w1")
    pool.set_accounts(accounts)
    return pool


def picks(pool: AccountPool, times: int, query: RouteQuery = QUERY) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(times):
        lease = pool.lease(query)
        found[lease.account.id] += 1
        lease.release(OK)
    return found


def test_requests_are_spread_by_weight() -> None:
    """Exactly by share over whole rounds."""
    pool = pool_with(account(0, weight=3), account(1, weight=1), account(2, weight=0))
    assert picks(pool, 400) == {"a0": 300, "a1": 100}


def test_the_rotation_stays_fair_over_several_models() -> None:
    """Requests for two models in turn do not all land on the same accounts."""
    pool = pool_of(2, FakeClock())
    found: Counter[str] = Counter()
    for number in range(100):
        lease = pool.lease(RouteQuery(("m1", "m2", "m2")[number % 3]))
        found[lease.account.id] += 1
        lease.release(OK)
    assert found == {"a0": 50, "a1": 50}


def test_a_conversation_stays_with_its_account_while_that_is_well() -> None:
    """The same key, the same account; new keys are spread."""
    pool = pool_of(3, FakeClock())
    first = {key: picks(pool, 1, RouteQuery(MODEL, affinity=key)) for key in (b"x", b"y", b"z")}
    assert {next(iter(found)) for found in first.values()} == {"a0", "a1", "a2"}
    for key, found in first.items():
        assert picks(pool, 20, RouteQuery(MODEL, affinity=key)).keys() == found.keys()


def test_a_conversation_moves_with_a_failover_and_stays_there() -> None:
    """Affinity yields to health, and the cache is warm where the conversation went."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    query = RouteQuery(MODEL, affinity=b"x")
    home = pool.lease(query)
    home.release(usage_limit(clock, 60))
    away = pool.lease(query)
    away.release(OK)
    assert away.account.id != home.account.id
    clock.advance(70)
    assert picks(pool, 5, query) == {away.account.id: 5}


def test_a_conversation_is_not_moved_because_its_account_is_full_for_a_moment() -> None:
    """It goes elsewhere once and comes back."""
    pool = pool_with(account(0), account(1), per_account_concurrency=1)
    query = RouteQuery(MODEL, affinity=b"x")
    first = pool.lease(query)
    second = pool.lease(query)
    assert second.account.id != first.account.id
    first.release(OK)
    second.release(OK)
    assert pool.lease(query).account.id == first.account.id


def test_an_owner_is_a_constraint() -> None:
    """The owner or nobody: out, tried, of another pool, without the model, gone."""
    clock = FakeClock()
    pool = pool_with(account(0), account(1, pool="other"), account(2, enabled=False), clock=clock)
    pool.set_models("a1", frozenset({"m2"}))
    assert pool.lease(RouteQuery(MODEL, owner="a0")).account.id == "a0"
    for query in (
        RouteQuery(MODEL, owner="a1"),
        RouteQuery(MODEL, owner="a2"),
        RouteQuery(MODEL, owner="gone"),
        RouteQuery("m2", owner="a0", excluded=frozenset({"a0"})),
        RouteQuery("m2", owner="a1", pools=("default",)),
    ):
        with pytest.raises(NoAccount) as refusal:
            pool.lease(query)
        assert refusal.value.reason is NoAccountReason.OWNER_OUT, query
        assert refusal.value.retry_after_s is None


def test_an_owner_that_rests_says_when_it_is_back() -> None:
    """So that a short rest can be waited for."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    put(pool, "a0", usage_limit(clock, 4))
    with pytest.raises(NoAccount) as refusal:
        lease_of(pool, "a0")
    assert refusal.value.reason is NoAccountReason.OWNER_OUT
    assert refusal.value.retry_after_s == pytest.approx(4)


def test_when_nobody_can_serve_an_owned_turn_the_general_reason_is_given() -> None:
    """Dropping the reasoning would not help, so it is not suggested."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    put(pool, "a0", usage_limit(clock, 400))
    put(pool, "a1", usage_limit(clock, 300))
    with pytest.raises(NoAccount) as refusal:
        lease_of(pool, "a0")
    assert refusal.value.reason is NoAccountReason.EXHAUSTED


def test_a_lease_is_released_once_and_by_leaving_its_context() -> None:
    """Counts return to zero on every path, and a second word changes nothing."""
    pool = pool_of(1, FakeClock())
    with pool.lease(QUERY) as lease:
        assert pool.snapshot().inflight == 1
    assert lease.released
    assert pool.snapshot().inflight == 0
    for _ in range(9):
        lease.release(BROKEN)
    found = pool.explain("a0")
    assert found is not None
    assert (found.failures, found.inflight) == (0, 0)
    with pytest.raises(RuntimeError), pool.lease(QUERY):
        raise RuntimeError
    assert pool.snapshot().inflight == 0


def test_concurrency_per_account_is_bounded_and_says_busy() -> None:
    """The limit holds, and a release makes room."""
    pool = pool_with(account(0), account(1), per_account_concurrency=2)
    leases = [pool.lease(QUERY) for _ in range(4)]
    with pytest.raises(NoAccount) as refusal:
        pool.lease(QUERY)
    assert refusal.value.reason is NoAccountReason.BUSY
    assert refusal.value.retry_after_s
    leases[2].release(CANCELLED)
    assert pool.lease(QUERY).account.id == leases[2].account.id


def test_models_and_pools_narrow_the_choice() -> None:
    """Unknown models are assumed; known ones are obeyed; a tenant's pools are."""
    pool = pool_with(account(0, pool="p"), account(1, pool="p"), account(2, pool="q"))
    pool.set_models("a0", frozenset({"m2"}))
    assert picks(pool, 10, RouteQuery(MODEL, pools=("p",))) == {"a1": 10}
    assert picks(pool, 10, RouteQuery("m2", pools=("p", "q"))).keys() == {"a0", "a1"}
    pool.set_models("a0", None)
    found = picks(pool, 10, RouteQuery(MODEL, pools=("p",)))
    assert abs(found["a0"] - found["a1"]) <= 2


def test_changes_of_the_directory_keep_the_health_and_leases_of_survivors() -> None:
    """A label that changes heals nobody; a removed account's lease still ends well; a new one is used at once."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    put(pool, "a0", usage_limit(clock, 600))
    lease = lease_of(pool, "a1")
    pool.set_accounts([account(0, label="new name", version=2), account(2)])
    assert picks(pool, 4) == {"a2": 4}
    lease.confirm()
    lease.release(BROKEN)
    assert pool.snapshot().inflight == 0
    assert {one.account.id for one in pool.snapshot().accounts} == {"a0", "a2"}


def test_an_account_that_is_removed_and_added_again_counts_from_zero() -> None:
    """The old lease's end does not make the new one's count negative."""
    pool = pool_of(1, FakeClock())
    lease = pool.lease(QUERY)
    pool.set_accounts([])
    pool.set_accounts([account(0)])
    lease.release(OK)
    assert pool.snapshot().inflight == 0


def test_a_person_who_signs_an_account_in_again_clears_its_faults() -> None:
    """It does not go on resting for what has been repaired."""
    pool = pool_of(2, FakeClock())
    put(pool, "a0", Outcome(OutcomeKind.AUTH, status=401, after_refresh=True))
    gone = account(0, status=AccountStatus.NEEDS_REAUTH)
    pool.set_accounts([gone, account(1)])
    assert picks(pool, 2) == {"a1": 2}
    pool.set_accounts([replace(gone, status=AccountStatus.ACTIVE), account(1)])
    assert picks(pool, 2) == {"a0": 1, "a1": 1}


def test_an_operator_can_clear_an_account() -> None:
    """It is usable at once; an unknown one is said to be unknown."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", usage_limit(clock, 6000))
    assert pool.clear("a0")
    assert pool.lease(QUERY).account.id == "a0"
    assert not pool.clear("nobody")


def test_clients_and_their_departures_never_harm_an_account() -> None:
    """A hundred bad requests and a hundred departures leave no strike."""
    pool = pool_of(1, FakeClock())
    for _ in range(100):
        put(pool, "a0", CLIENT_ERROR)
        put(pool, "a0", CANCELLED)
        put(pool, "a0", Outcome(OutcomeKind.FOREIGN, status=400))
    found = pool.explain("a0")
    assert found is not None
    assert (found.failures, found.blocks) == (0, ())


def test_many_model_names_from_clients_do_not_grow_memory() -> None:
    """Views are kept for a bounded number of names."""
    pool = pool_of(2, FakeClock())
    for number in range(1000):
        pool.lease(RouteQuery(f"model-{number}")).release(OK)
    assert len(pool._roster._views) <= 64
