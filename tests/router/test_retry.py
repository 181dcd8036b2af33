"""What follows a failed attempt, a refusal, and how many retries a worker may make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.retry import RetryBudget, decide, decide_no_account
from router.types import NoAccount, NoAccountReason, Outcome, OutcomeKind, RetryState, RetryVerb
from tests.fakes.clock import FakeClock

STATE = RetryState(attempt=1, max_attempts=3, committed=False, now_s=100.0, deadline_s=200.0)


def verb(kind: OutcomeKind, state: RetryState = STATE) -> RetryVerb:
    return decide(Outcome(kind), state).verb


@pytest.mark.parametrize(
    "kind",
    [
        OutcomeKind.RATE_LIMITED,
        OutcomeKind.OVERLOADED,
        OutcomeKind.BROKEN,
        OutcomeKind.BLOCKED,
        OutcomeKind.MODEL,
        OutcomeKind.ROUTE,
    ],
)
def test_faults_of_accounts_models_and_the_route_move_on(kind: OutcomeKind) -> None:
    """Another account is tried."""
    assert verb(kind) is RetryVerb.NEXT_ACCOUNT


@pytest.mark.fault("B26")
@pytest.mark.parametrize("kind", [OutcomeKind.CLIENT_ERROR, OutcomeKind.CANCELLED, OutcomeKind.OK])
def test_the_clients_own_fault_and_departure_end_it(kind: OutcomeKind) -> None:
    """Nothing is tried again."""
    assert verb(kind) is RetryVerb.GIVE_UP


@pytest.mark.fault("B21")
def test_a_refused_credential_is_refreshed_once_and_then_left() -> None:
    """The same account with a fresh token, and after that another account."""
    assert verb(OutcomeKind.AUTH) is RetryVerb.REFRESH_SAME
    assert verb(OutcomeKind.AUTH, replace(STATE, attempt=2, refreshed=True)) is RetryVerb.NEXT_ACCOUNT
    assert decide(Outcome(OutcomeKind.AUTH, after_refresh=True), STATE).verb is RetryVerb.NEXT_ACCOUNT


@pytest.mark.fault("B5")
def test_a_dead_reused_connection_gets_the_same_account_once() -> None:
    """A stale keep-alive connection is not the account's fault."""
    reused = replace(STATE, reused_connection=True)
    assert verb(OutcomeKind.BROKEN, reused) is RetryVerb.SAME
    assert verb(OutcomeKind.BROKEN, replace(reused, attempt=2, reconnected=True)) is RetryVerb.NEXT_ACCOUNT


@pytest.mark.fault("B1")
@pytest.mark.fault("B22")
def test_the_route_gets_two_attempts() -> None:
    """The second route fault ends it, though a third attempt would be left."""
    assert verb(OutcomeKind.ROUTE, replace(STATE, route_attempts=1)) is RetryVerb.NEXT_ACCOUNT
    assert verb(OutcomeKind.ROUTE, replace(STATE, attempt=2, route_attempts=2)) is RetryVerb.GIVE_UP


def test_foreign_reasoning_is_dropped_once() -> None:
    """A second complaint about it is the client's to hear."""
    assert verb(OutcomeKind.FOREIGN) is RetryVerb.STRIP_AND_MOVE
    assert verb(OutcomeKind.FOREIGN, replace(STATE, attempt=2, stripped=True)) is RetryVerb.GIVE_UP


@given(
    st.sampled_from(OutcomeKind),
    st.sampled_from([{"committed": True}, {"now_s": 200.0}, {"now_s": 201.0}, {"attempt": 3}, {"attempt": 4}]),
    st.booleans(),
)
def test_nothing_is_tried_after_commit_deadline_or_the_last_attempt(
    kind: OutcomeKind, spent: dict[str, Any], reused: bool
) -> None:
    """The three walls hold for every outcome."""
    assert verb(kind, replace(STATE, reused_connection=reused, **spent)) is RetryVerb.GIVE_UP


@given(st.lists(st.tuples(st.sampled_from(OutcomeKind), st.booleans()), min_size=12, max_size=12))
def test_a_request_makes_at_most_three_attempts_whatever_happens(story: list[tuple[OutcomeKind, bool]]) -> None:
    """A3: attempts stay within the maximum for every sequence of outcomes."""
    state = STATE
    for kind, reused in story:
        action = decide(Outcome(kind), replace(state, reused_connection=reused))
        if action.verb is RetryVerb.GIVE_UP:
            break
        state = replace(
            state,
            attempt=state.attempt + 1,
            refreshed=state.refreshed or action.verb is RetryVerb.REFRESH_SAME,
            stripped=state.stripped or action.verb is RetryVerb.STRIP_AND_MOVE,
            reconnected=state.reconnected or action.verb is RetryVerb.SAME,
        )
    assert state.attempt <= 3


def test_the_budget_holds_back_what_amplifies_an_overload_and_nothing_else() -> None:
    """Quota and credential failover stay unseen though the budget is spent, and do not spend it."""
    spent = replace(STATE, budget=False)
    for kind in (OutcomeKind.BROKEN, OutcomeKind.OVERLOADED, OutcomeKind.ROUTE):
        assert verb(kind, spent) is RetryVerb.GIVE_UP
        assert decide(Outcome(kind), STATE).charged
    for kind in (OutcomeKind.RATE_LIMITED, OutcomeKind.AUTH, OutcomeKind.BLOCKED, OutcomeKind.MODEL):
        action = decide(Outcome(kind), spent)
        assert action.verb is not RetryVerb.GIVE_UP
        assert not action.charged


@pytest.mark.fault("B42")
@pytest.mark.parametrize(
    ("rest_s", "waited_s", "expected"),
    [
        (3.0, 0.0, RetryVerb.WAIT),
        (5.0, 0.0, RetryVerb.WAIT),
        (5.1, 0.0, RetryVerb.GIVE_UP),
        (3.0, 2.1, RetryVerb.GIVE_UP),
    ],
)
def test_a_short_rest_of_all_is_waited_for(rest_s: float, waited_s: float, expected: RetryVerb) -> None:
    """All waits of one request together stay within the setting."""
    refusal = NoAccount(NoAccountReason.EXHAUSTED, retry_after_s=rest_s)
    assert decide_no_account(refusal, replace(STATE, waited_s=waited_s), 5.0).verb is expected


def test_no_wait_goes_past_the_deadline() -> None:
    """A wait that would end at the deadline is not begun."""
    refusal = NoAccount(NoAccountReason.BUSY, retry_after_s=2.0)
    assert decide_no_account(refusal, replace(STATE, now_s=198.0), 5.0).verb is RetryVerb.GIVE_UP


def test_a_route_that_is_down_is_not_waited_for() -> None:
    """The client hears at once, with a time to come back."""
    refusal = NoAccount(NoAccountReason.ROUTE_DOWN, retry_after_s=1.0)
    assert decide_no_account(refusal, STATE, 5.0).verb is RetryVerb.GIVE_UP


def test_an_owner_that_is_back_soon_is_waited_for_and_else_its_reasoning_is_dropped_once() -> None:
    """Keeping the reasoning is worth seconds, not minutes."""
    soon, late, never = (NoAccount(NoAccountReason.OWNER_OUT, retry_after_s=rest_s) for rest_s in (2.0, 60.0, None))
    assert decide_no_account(soon, STATE, 5.0).wait_s == 2.0
    assert decide_no_account(late, STATE, 5.0).verb is RetryVerb.STRIP_AND_MOVE
    assert decide_no_account(never, STATE, 5.0).verb is RetryVerb.STRIP_AND_MOVE
    assert decide_no_account(never, replace(STATE, stripped=True), 5.0).verb is RetryVerb.GIVE_UP


def test_the_budget_is_a_share_of_the_last_ten_seconds_plus_a_minimum() -> None:
    """100 requests at 20 % and 10 for free allow 30 retries, and ten seconds later the count starts over."""
    clock = FakeClock()
    budget = RetryBudget(0.2, 10, clock)
    for _ in range(100):
        budget.request()
        clock.advance(0.05)
    taken = 0
    while budget.allow():
        budget.spend()
        taken += 1
    assert taken == 30
    clock.advance(11)
    assert budget.allow()
    taken = 0
    while budget.allow():
        budget.spend()
        taken += 1
    assert taken == 10


def test_in_a_long_storm_retries_stay_a_share_of_the_requests() -> None:
    """A3: calls per request stay below 2 at every rate when each call fails."""
    clock = FakeClock()
    budget = RetryBudget(0.2, 10, clock)
    calls = 0
    for _ in range(2000):
        clock.advance(0.01)
        budget.request()
        calls += 1
        for _ in range(2):
            if budget.allow():
                budget.spend()
                calls += 1
    assert calls / 2000 <= 1.25
