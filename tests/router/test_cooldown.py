"""From evidence to a rest: strength, escalation, plausibility and decay."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cooldown import (
    BARE_MAX_S,
    OVERLOAD_MAX_S,
    Cooldown,
    CooldownRules,
    after_success,
    cool,
    opens_s,
)
from router.types import ACCOUNT_SCOPE, Cause, Moment, Outcome, OutcomeKind, model_scope

RULES = CooldownRules(base_s=5.0, max_s=7 * 86_400.0, probe_interval_s=300.0)
WALL_S = 1_795_000_000.0
BARE = Outcome(OutcomeKind.RATE_LIMITED, evidence="status 429")


def at(mono_s: float) -> Moment:
    return Moment(mono_s, WALL_S + mono_s)


def resets(at_s: float, **changes: Any) -> Outcome:
    """The plan's window is full until ``at_s`` (on the monotonic scale of these tests)."""
    found = Outcome(OutcomeKind.RATE_LIMITED, resets_at_s=WALL_S + at_s, authoritative=True, plan_type="pro")
    return replace(found, **changes)


def rest(
    outcome: Outcome,
    current: Cooldown | None = None,
    *,
    now_s: float = 100.0,
    started_s: float | None = None,
    scope: str = ACCOUNT_SCOPE,
) -> Cooldown | None:
    return cool(
        outcome,
        scope,
        current,
        started_s=now_s - 1 if started_s is None else started_s,
        now=at(now_s),
        rules=RULES,
        rng=random.Random(7),
        owner="w1",
    )


def sure(found: Cooldown | None) -> Cooldown:
    assert found is not None
    return found


def test_a_usage_limit_rests_until_its_reset() -> None:
    """The reset is believed to the second and may be shown."""
    found = sure(rest(resets(4000.0)))
    assert (found.cause, found.until_s, found.resets_at_s) == (Cause.USAGE_LIMIT, 4000.0, WALL_S + 4000.0)
    assert found.authoritative
    assert found.plan_type == "pro"


def test_a_far_reset_is_looked_at_about_every_interval_and_a_near_one_never() -> None:
    """So an early reset is noticed."""
    far = sure(rest(resets(40_000.0)))
    assert far.next_probe_s is not None
    assert 100 + 240 <= far.next_probe_s <= 100 + 360
    assert sure(rest(resets(160.0))).next_probe_s is None


def test_a_time_to_come_back_is_kept_but_is_no_reset_of_the_plan() -> None:
    """retry-after is a throttle's word."""
    found = sure(rest(replace(BARE, retry_after_s=12.0)))
    assert (found.cause, found.until_s, found.authoritative, found.resets_at_s) == (
        Cause.RATE_LIMITED,
        112.0,
        False,
        None,
    )


@pytest.mark.parametrize("seconds", [-1e9, -1.0, 0.0, 61 * 86_400.0, 1.795e12, float("nan"), float("inf")])
def test_an_absurd_reset_is_not_believed(seconds: float) -> None:
    """In the past, in two months, in milliseconds or no number: counts as none given."""
    found = sure(rest(resets(100.0 + seconds)))
    assert found.cause is Cause.RATE_LIMITED_BARE
    assert not found.authoritative
    assert found.until_s <= 106.0


def test_an_absurd_reset_leaves_a_believable_retry_after_standing() -> None:
    """One bad field does not spoil the other."""
    assert sure(rest(resets(-50.0, retry_after_s=9.0))).until_s == 109.0


def test_a_reset_beyond_the_cap_is_cut_to_the_cap() -> None:
    """A monthly plan rests for 7 days at most before it is tried, and its true reset is still known."""
    found = sure(rest(resets(100.0 + 30 * 86_400.0)))
    assert found.until_s == 100.0 + 7 * 86_400.0
    assert found.resets_at_s == pytest.approx(WALL_S + 100.0 + 30 * 86_400.0)


def test_bare_refusals_double_up_to_five_minutes_with_jitter() -> None:
    """5, 10, 20 ... 300 s, and up to a fifth more, when each comes after the rest before."""
    current: Cooldown | None = None
    now_s = 100.0
    for expected_s in (5, 10, 20, 40, 80, 160, 300, 300):
        current = sure(rest(BARE, current, now_s=now_s, started_s=now_s - 0.5))
        assert expected_s <= current.until_s - now_s <= expected_s * 1.2
        now_s = current.until_s + 1
    assert BARE_MAX_S == 300.0


def test_a_burst_of_parallel_bare_refusals_escalates_once() -> None:
    """Leases from before the rest began neither raise the level nor prolong it."""
    first = sure(rest(BARE, started_s=90.0))
    for started_s in (91.0, 99.0, 100.0):
        assert rest(BARE, first, now_s=102.0, started_s=started_s) is None


def test_a_straggler_of_the_burst_after_the_rest_keeps_the_level() -> None:
    """It is new evidence, but not of a second failure in a row."""
    first = sure(rest(BARE, started_s=90.0))
    late = sure(rest(BARE, first, now_s=first.until_s + 3, started_s=95.0))
    assert late.level == first.level


def test_after_ten_quiet_minutes_the_level_is_forgotten() -> None:
    """An old trouble says nothing about a new one."""
    first = replace(sure(rest(BARE)), level=4)
    later_s = first.until_s + 601
    assert sure(rest(BARE, first, now_s=later_s, started_s=later_s - 1)).level == 0


def test_a_bare_refusal_never_shortens_a_known_reset() -> None:
    """Neither from the same burst nor from a probe; a probe's refusal only puts off the next look."""
    known = sure(rest(resets(40_000.0)))
    assert rest(BARE, known, now_s=101.0, started_s=99.0) is None
    probed = sure(rest(BARE, known, now_s=500.0, started_s=499.0))
    assert (probed.until_s, probed.authoritative) == (known.until_s, True)
    assert probed.next_probe_s is not None
    assert probed.next_probe_s > 700.0
    assert rest(replace(BARE, retry_after_s=5.0), known, now_s=101.0, started_s=99.0) is None


def test_a_known_reset_replaces_an_estimate_even_when_it_is_sooner() -> None:
    """Stronger evidence wins."""
    guess = sure(rest(replace(BARE, retry_after_s=300.0)))
    assert sure(rest(resets(160.0), guess, now_s=101.0, started_s=99.0)).until_s == 160.0


def test_of_two_known_resets_in_flight_the_later_one_holds() -> None:
    """The weekly window is not forgotten because the daily one was full too."""
    weekly = sure(rest(resets(90_000.0)))
    assert rest(resets(4000.0), weekly, now_s=101.0, started_s=99.0) is None
    daily = sure(rest(resets(4000.0)))
    assert sure(rest(resets(90_000.0), daily, now_s=101.0, started_s=99.0)).until_s == 90_000.0


def test_the_answer_to_a_later_question_renews_a_known_reset() -> None:
    """A probe that is told an earlier reset is believed."""
    weekly = sure(rest(resets(90_000.0)))
    assert sure(rest(resets(4000.0), weekly, now_s=500.0, started_s=499.0)).until_s == 4000.0


def test_success_ends_it_and_the_level_decays_by_one_each_time() -> None:
    """A long trouble is forgotten step by step."""
    current: Cooldown | None = replace(sure(rest(BARE)), level=2)
    levels = []
    while current is not None:
        current = after_success(current, 200.0)
        levels.append(None if current is None else current.level)
    assert levels == [1, 0, None]


def test_an_overload_rests_only_when_it_names_a_time_and_never_long() -> None:
    """Long rests on overload move the load to the others."""
    overloaded = Outcome(OutcomeKind.OVERLOADED, status=503)
    assert rest(overloaded) is None
    found = sure(rest(replace(overloaded, retry_after_s=600.0)))
    assert (found.cause, found.until_s) == (Cause.OVERLOADED, 100.0 + OVERLOAD_MAX_S)


def test_a_model_that_the_plan_lacks_rests_longer_each_time() -> None:
    """First about the probe interval, then twice that."""
    lacking = Outcome(OutcomeKind.MODEL, scope=model_scope("m"))
    first = sure(rest(lacking, scope=model_scope("m")))
    assert 300 <= first.until_s - 100 <= 360
    second = sure(rest(lacking, first, now_s=first.until_s + 1, scope=model_scope("m")))
    assert 600 <= second.until_s - first.until_s - 1 <= 720


def test_a_models_far_reset_opens_for_a_trial_at_its_next_probe() -> None:
    """Only a request for the model can tell; an account's far reset waits for its background probe."""
    of_model = sure(rest(resets(40_000.0), scope=model_scope("m")))
    assert opens_s(of_model) == of_model.next_probe_s
    assert opens_s(sure(rest(resets(40_000.0)))) == 40_000.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bare", "after", "reset"]), st.floats(-100, 1e7), st.floats(0, 500), st.floats(0, 50)
        ),
        max_size=12,
    )
)
def test_rests_never_exceed_the_cap_and_known_resets_hold(steps: list[tuple[str, float, float, float]]) -> None:
    """Whatever comes: within the cap, never in the past, no estimate cuts a known reset short."""
    current: Cooldown | None = None
    now_s = 100.0
    for kind, seconds, wait_s, age_s in steps:
        now_s += wait_s
        outcome = BARE
        if kind == "after":
            outcome = replace(BARE, retry_after_s=seconds)
        if kind == "reset":
            outcome = resets(now_s + seconds)
        found = rest(outcome, current, now_s=now_s, started_s=now_s - age_s)
        if found is None:
            continue
        assert now_s < found.until_s <= now_s + RULES.max_s * 1.2
        if current is not None and current.in_force(now_s) and current.authoritative and not found.authoritative:
            assert found.until_s >= current.until_s
        current = found
