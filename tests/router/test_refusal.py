"""The words of a refusal: the first that is back speaks, and a person's business does not."""

from __future__ import annotations

import random

import pytest

from router.health import AccountHealth
from router.refusal import BUSY_RETRY_S, refuse, refuse_owner
from router.roster import Member
from router.types import Moment, NoAccountReason, Outcome, OutcomeKind, PoolRules, RouteQuery
from tests.fakes.routing import account

NOW = Moment(1000.0, 1_795_000_000.0)
QUERY = RouteQuery("m")
AUTH = Outcome(OutcomeKind.AUTH, after_refresh=True)
LACKS = Outcome(OutcomeKind.MODEL)


def limited(rest_s: float) -> Outcome:
    return Outcome(OutcomeKind.RATE_LIMITED, resets_at_s=NOW.wall_s + rest_s, authoritative=True)


def members(*outcomes: Outcome | None) -> list[Member]:
    found = []
    for number, outcome in enumerate(outcomes):
        member = Member(account(number, plan="plus"), AccountHealth(PoolRules(), random.Random(1), "w1"))
        if outcome is not None:
            member.health.settle(outcome, "m", 999.0, (), NOW)
        found.append(member)
    return found


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        ((), NoAccountReason.NONE_CONFIGURED),
        ((None, limited(60)), NoAccountReason.BUSY),
        ((limited(60), limited(30)), NoAccountReason.EXHAUSTED),
        ((AUTH,), NoAccountReason.UNUSABLE),
        ((AUTH, limited(7200)), NoAccountReason.EXHAUSTED),
        ((LACKS, LACKS), NoAccountReason.MODEL_UNAVAILABLE),
        ((LACKS, limited(60)), NoAccountReason.EXHAUSTED),
        ((LACKS, AUTH), NoAccountReason.UNUSABLE),
    ],
)
def test_the_reason_is_that_of_the_one_that_is_back_first(
    outcomes: tuple[Outcome | None, ...], reason: NoAccountReason
) -> None:
    """AUTH needs a person and a lacking model a plan: neither speaks for the others."""
    assert refuse(QUERY, members(*outcomes), NOW.mono_s).reason is reason


def test_exhausted_names_reset_plan_and_time() -> None:
    """Of the one that resets first; the account's plan when the upstream named none."""
    found = refuse(QUERY, members(limited(600), limited(60), AUTH), NOW.mono_s)
    assert (found.resets_at_s, found.plan_type) == (NOW.wall_s + 60, "plus")
    assert found.retry_after_s == pytest.approx(60)


def test_disabled_accounts_are_no_exhaustion() -> None:
    """Nobody active is another matter than nobody left."""
    off = Member(account(0, enabled=False), AccountHealth(PoolRules(), random.Random(1), "w1"))
    assert refuse(QUERY, [off], NOW.mono_s).reason is NoAccountReason.UNUSABLE
    assert refuse(QUERY, [off, *members(limited(60))], NOW.mono_s).reason is NoAccountReason.EXHAUSTED


def test_who_was_tried_and_is_still_well_makes_it_excluded() -> None:
    """The last error of the request is then the answer."""
    query = RouteQuery("m", excluded=frozenset({"a0"}))
    assert refuse(query, members(None, limited(60)), NOW.mono_s).reason is NoAccountReason.EXCLUDED


def test_an_owner_says_when_it_is_back_if_it_ever_is() -> None:
    """At rest: its time; full: soon; gone: no time."""
    resting, well = members(limited(60), None)
    assert refuse_owner(QUERY, resting, NOW.mono_s).retry_after_s == pytest.approx(60)
    assert refuse_owner(QUERY, well, NOW.mono_s).retry_after_s == BUSY_RETRY_S
    assert refuse_owner(QUERY, None, NOW.mono_s).retry_after_s is None
