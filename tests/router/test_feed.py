"""Health as records and back: whose word counts, and what is told."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from router.feed import KEYS_MAX, Feed, apply_breaker, apply_cooldown, breaker_record, records_of
from router.health import AccountHealth
from router.types import ACCOUNT_SCOPE, Cause, Moment, Outcome, OutcomeKind, PoolRules
from store.records import HealthRecord

NOW = Moment(1000.0, 1_795_000_000.0)
FAR_S = 1e6
KEY = ("a0", ACCOUNT_SCOPE, "breaker")


def health(worker: str = "w1") -> AccountHealth:
    return AccountHealth(PoolRules(), random.Random(1), worker)


def opened() -> AccountHealth:
    one = health()
    one.settle(Outcome(OutcomeKind.AUTH, evidence="401", after_refresh=True), "m", 999.0, (), NOW)
    return one


def record_of(one: AccountHealth) -> HealthRecord:
    return breaker_record("a0", one.breaker, one.breaker_owner, NOW)


def test_a_breaker_survives_the_journey_between_two_clocks() -> None:
    """State, cause, level, evidence and deadline arrive, on the other's monotonic time."""
    one, other = opened(), health("w2")
    there = Moment(5.0, NOW.wall_s)
    apply_breaker(other, record_of(one), there, FAR_S)
    assert other.breaker.until_s - there.mono_s == pytest.approx(one.breaker.until_s - NOW.mono_s)
    assert (other.breaker.state, other.breaker.cause, other.breaker.evidence) == (one.breaker.state, Cause.AUTH, "401")
    assert other.breaker_owner == "w1"


def test_a_rest_survives_the_journey() -> None:
    """And an authoritative one stays authoritative."""
    one, other = health(), health("w2")
    limited = Outcome(OutcomeKind.RATE_LIMITED, resets_at_s=NOW.wall_s + 900, authoritative=True)
    one.settle(limited, "m", 999.0, (), NOW)
    (record,) = records_of("a0", one, NOW)
    assert apply_cooldown(other, record, NOW, FAR_S)
    rest, copy = one.cooldowns[ACCOUNT_SCOPE], other.cooldowns[ACCOUNT_SCOPE]
    assert (copy.until_s, copy.authoritative, copy.resets_at_s) == (rest.until_s, True, NOW.wall_s + 900)
    assert copy.next_probe_s == pytest.approx(rest.next_probe_s)


def test_a_word_of_a_newer_version_is_understood_as_broken() -> None:
    """An unknown cause is no reason to fail."""
    other = health()
    apply_breaker(other, replace(record_of(opened()), cause="from-the-future"), NOW, FAR_S)
    assert other.breaker.cause is Cause.BROKEN


def test_the_later_stamp_wins_and_an_echo_is_no_news() -> None:
    """Equal stamps are echoes."""
    feed = Feed("w1")
    record = record_of(opened())
    assert feed.is_news(record)
    assert not feed.is_news(record)
    assert not feed.is_news(replace(record, updated_at_s=record.updated_at_s - 1))
    assert feed.is_news(replace(record, updated_at_s=record.updated_at_s + 1))


def test_our_stamps_grow_although_the_wall_clock_falls() -> None:
    """Two changes with a clock set back in between are told in their true order."""
    feed = Feed("w1")
    stamps = []
    for wall_s in (NOW.wall_s, NOW.wall_s - 3600):
        feed.mark(KEY, wall_s)
        stamps += [record.updated_at_s for record in feed.take({KEY: record_of(opened())}, NOW)]
    assert stamps[0] < stamps[1]


def test_what_is_well_again_is_told_once_as_closed_by_us() -> None:
    """The others learn of the recovery from the one that saw it."""
    feed = Feed("w2")
    feed.is_news(record_of(opened()))
    feed.mark(KEY, NOW.wall_s)
    (record,) = feed.take({}, NOW)
    assert (record.state, record.owner, record.until_s) == ("closed", "w2", NOW.wall_s)
    assert feed.take({}, NOW) == []


def test_memory_of_stamps_is_bounded() -> None:
    """Scopes carry model names that clients chose."""
    feed = Feed("w1")
    for number in range(KEYS_MAX + 10):
        feed.mark(("a0", f"model:{number}", "cooldown"), NOW.wall_s)
        feed.take({}, NOW)
    assert len(feed._stamps) <= KEYS_MAX
