"""One account's health: what strikes, what rests, and who may try."""

from __future__ import annotations

import random

import pytest

from router.breaker import BreakerState
from router.health import BREAKER, SCOPES_MAX, AccountHealth, Standing
from router.types import ACCOUNT_SCOPE, CANCELLED, OK, Moment, Outcome, OutcomeKind, PoolRules, model_scope

WALL_S = 1_795_000_000.0


def at(mono_s: float) -> Moment:
    return Moment(mono_s, WALL_S + mono_s)


def health() -> AccountHealth:
    return AccountHealth(PoolRules(), random.Random(1), "w1")


def end(one: AccountHealth, outcome: Outcome, *, now_s: float = 10.0, slots: tuple[str, ...] = ()) -> None:
    one.settle(outcome, "m", now_s - 1, slots, at(now_s))


@pytest.mark.parametrize("kind", OutcomeKind)
def test_only_faults_of_the_account_strike(kind: OutcomeKind) -> None:
    """The closed list of what counts towards the breaker."""
    one = health()
    end(one, Outcome(kind))
    struck = kind in (OutcomeKind.BROKEN, OutcomeKind.OVERLOADED, OutcomeKind.BLOCKED, OutcomeKind.AUTH)
    assert one.breaker.failures == int(struck)


@pytest.mark.parametrize(
    "kind", [OutcomeKind.CLIENT_ERROR, OutcomeKind.CANCELLED, OutcomeKind.ROUTE, OutcomeKind.FOREIGN]
)
def test_the_blameless_only_give_back_the_trial(kind: OutcomeKind) -> None:
    """No verdict: the slot is free, the state the same."""
    one = health()
    for _ in range(5):
        end(one, Outcome(OutcomeKind.BROKEN))
    one.begin_probe((BREAKER,), 60.0)
    assert one.settle(Outcome(kind), "m", 60.0, (BREAKER,), at(61.0)) == []
    assert one.probing == set()
    assert one.breaker.state is BreakerState.HALF_OPEN


def test_a_strike_that_is_not_blamed_on_the_account_changes_nothing() -> None:
    """The route's faults pass by."""
    one = health()
    assert one.settle(Outcome(OutcomeKind.BROKEN), "m", 1.0, (), at(2.0), blame=False) == []
    assert one.quiet


def test_a_trial_holds_the_slot_of_each_thing_that_is_tried() -> None:
    """A breaker and a model's rest that are both over are both tried by one lease."""
    one = health()
    for _ in range(5):
        end(one, Outcome(OutcomeKind.BROKEN))
    end(one, Outcome(OutcomeKind.RATE_LIMITED, scope=model_scope("m"), retry_after_s=50))
    gate = one.gate("m", 61.0)
    assert gate.standing is Standing.TRIAL
    assert set(gate.slots) == {BREAKER, model_scope("m")}
    assert one.gate("other", 61.0).slots == (BREAKER,)


def test_the_longest_of_several_rests_decides() -> None:
    """A breaker that is due does not let anything through while the account rests."""
    one = health()
    for _ in range(5):
        end(one, Outcome(OutcomeKind.BROKEN))
    end(one, Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=500))
    assert one.gate("m", 100.0).standing is Standing.RESTS
    assert one.opens_s("m", 100.0) == 510.0


def test_a_late_success_of_a_lease_from_before_does_not_end_a_rest() -> None:
    """Only what began after the refusal knows better."""
    one = health()
    end(one, Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=2))
    one.settle(OK, "m", 5.0, (), at(13.0))
    assert ACCOUNT_SCOPE in one.cooldowns
    one.settle(OK, "m", 12.5, (), at(13.0))
    assert one.quiet


def test_rests_of_many_models_are_bounded() -> None:
    """Names come from clients; the rest that is over first is forgotten first, the account's own is not."""
    one = health()
    end(one, Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=9000))
    for number in range(500):
        end(one, Outcome(OutcomeKind.MODEL, scope=model_scope(f"m{number}")))
    assert len(one.cooldowns) <= SCOPES_MAX
    assert ACCOUNT_SCOPE in one.cooldowns


def test_a_success_forgets_a_single_refusal_by_policy() -> None:
    """Two must follow each other directly."""
    one = health()
    for kind in (OutcomeKind.BLOCKED, OutcomeKind.BROKEN, OutcomeKind.BLOCKED):
        end(one, Outcome(kind))
    assert one.breaker.closed


def test_a_storm_does_not_pardon_a_bad_credential() -> None:
    """What opened for AUTH was not the storm's doing."""
    one = health()
    end(one, Outcome(OutcomeKind.AUTH, after_refresh=True))
    assert one.forgive(0.0, 11.0) == []
    assert not one.breaker.closed


def test_a_trial_in_flight_is_counted_though_another_worker_reopened_the_breaker() -> None:
    """Its slot stays taken until its own end."""
    one = health()
    one.breaker.trip(0.0, 5.0, one.breaker.cause, "x")
    slots = one.gate("m", 6.0).slots
    one.begin_probe(slots, 6.0)
    one.breaker.adopt_open(6.0, 7.0, 1, one.breaker.cause, "other")
    assert not one.probing.isdisjoint(one.gate("m", 8.0).slots)
    end(one, CANCELLED, now_s=9.0, slots=slots)
    assert one.probing == set()
