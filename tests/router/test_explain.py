"""Why an account gets no requests: the same answer from the worker and from the stored records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router.explain import explain_records
from router.types import AccountState, Cause, Outcome, OutcomeKind, RouteQuery, model_scope
from store.records import AccountStatus, HealthRecord, WindowRecord
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BARE_429, BROKEN, MODEL, ROUTE_FAULT, account, lease_of, pool_of, put, usage_limit


def test_the_worker_and_the_stored_records_give_the_same_answer() -> None:
    """Through every kind of trouble; only what no record holds is the worker's own."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    stored: dict[tuple[str, str, str], HealthRecord] = {}
    steps = [
        BARE_429,
        usage_limit(clock, 40_000),
        Outcome(OutcomeKind.RATE_LIMITED, scope=model_scope("m"), retry_after_s=900),
        BROKEN,
        Outcome(OutcomeKind.AUTH, status=401, after_refresh=True),
        ROUTE_FAULT,
    ]
    for outcome in steps:
        for one in [lease_of(pool, "a1") for _ in range(5)]:
            one.release(outcome)
        for record in pool.take_changes():
            stored[record.account_id, record.scope, record.kind] = record
        here = pool.explain("a1")
        there = explain_records(account(1), stored.values(), (), clock.now_s())
        assert here is not None
        assert replace(here, failures=None, inflight=None) == there, outcome.kind
        pool.clear("a1")
        for record in pool.take_changes():
            stored[record.account_id, record.scope, record.kind] = record
        assert explain_records(account(1), stored.values(), (), clock.now_s()).state is AccountState.OK


def test_a_usage_limit_is_explained_with_cause_evidence_and_times() -> None:
    """Everything that a person needs to believe it."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", usage_limit(clock, 40_000))
    found = pool.explain("a0")
    assert found is not None
    (block,) = found.blocks
    assert (found.state, found.usable) == (AccountState.COOLING, False)
    assert (block.cause, block.evidence, block.scope) == (Cause.USAGE_LIMIT, "usage_limit_reached", "account")
    assert block.since_s == pytest.approx(clock.now_s())
    assert block.until_s == pytest.approx(clock.now_s() + 40_000)
    assert clock.now_s() < (block.next_probe_s or 0) < clock.now_s() + 40_000
    assert block.owner == "w1"


def test_an_open_breaker_is_explained_with_its_count() -> None:
    """How many in a row, and the last of them."""
    pool = pool_of(3, FakeClock())
    for _ in range(5):
        put(pool, "a0", BROKEN)
    found = pool.explain("a0")
    assert found is not None
    assert (found.state, found.breaker, found.failures) == (AccountState.OPEN, "open", 5)
    assert found.blocks[0].evidence == "5 in a row, last: status 500"


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"enabled": False}, AccountState.DISABLED),
        ({"status": AccountStatus.NEEDS_REAUTH, "status_reason": "invalid_grant"}, AccountState.NEEDS_REAUTH),
    ],
)
def test_what_a_person_did_or_must_do_is_said_first(changes: dict[str, Any], state: AccountState) -> None:
    """Disabled and signed out come before any health."""
    found = explain_records(account(0, **changes), (), (), 0.0)
    assert (found.state, found.usable) == (state, False)
    assert found.blocks[0].kind == "admin"
    assert found.blocks[0].until_s is None
    assert found.blocks[0].evidence in ("switched off by an administrator", "invalid_grant")


def test_a_route_that_is_down_is_part_of_every_accounts_answer() -> None:
    """It is not the account's state, but the account is not usable."""
    pool = pool_of(2, FakeClock())
    for _ in range(5):
        pool.lease(RouteQuery(MODEL)).release(ROUTE_FAULT)
    found = pool.explain("a1")
    assert found is not None
    assert (found.state, found.usable, found.blocks[0].scope) == (AccountState.OK, False, "route")


def test_what_is_over_and_what_is_others_is_left_out() -> None:
    """Only what is in force, and only of this account."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    put(pool, "a0", usage_limit(clock, 60))
    records = pool.take_changes()
    windows = [WindowRecord(name, "primary", 5.0, 300, None, 0.0) for name in ("a0", "a1")]
    assert explain_records(account(1), records, windows, clock.now_s()).blocks == ()
    assert [one.account_id for one in explain_records(account(1), records, windows, 0.0).windows] == ["a1"]
    assert explain_records(account(0), records, (), clock.now_s() + 61).state is AccountState.OK


def test_an_unknown_account_has_no_explanation() -> None:
    """None, not an invention."""
    assert pool_of(1, FakeClock()).explain("nobody") is None


def test_the_snapshot_counts_states_and_streams() -> None:
    """For metrics and readiness."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a0", usage_limit(clock, 60))
    lease_of(pool, "a1")
    found = pool.snapshot()
    assert found.counts == {AccountState.COOLING: 1, AccountState.OK: 2}
    assert (found.inflight, found.usable) == (1, 2)
    assert {one.account.id: one.inflight for one in found.accounts} == {"a0": 0, "a1": 1, "a2": 0}
