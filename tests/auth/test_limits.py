"""How many requests a caller may send, and what a refusal leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from auth.errors import LimitExceeded
from auth.limits import CallerLimits
from auth.types import Caller
from store.counters import LocalCounters, LocalStreams
from store.errors import StoreUnavailable
from store.records import Limits
from tests.fakes.clock import FakeClock


def caller(key: Limits | None = None, tenant: Limits | None = None, key_id: str = "k1") -> Caller:
    return Caller("t1", "team", key_id, frozenset({"relay"}), (), (), key or Limits(), tenant or Limits())


def fresh(clock: FakeClock | None = None) -> tuple[CallerLimits, LocalStreams]:
    clock = clock or FakeClock()
    streams = LocalStreams("w1")
    return CallerLimits(LocalCounters(clock), streams, clock), streams


def test_without_limits_everything_is_admitted_and_nothing_is_counted() -> None:
    limits, streams = fresh()
    for _ in range(1000):
        limits.admit(caller()).release()
    assert streams.running("key:k1") == 0
    assert limits.headers(caller()) == ()


@pytest.mark.parametrize("scope", ["key", "tenant"])
def test_the_request_after_the_last_of_the_minute_is_refused_until_the_minute_is_over(scope: str) -> None:
    clock = FakeClock()
    limits, _ = fresh(clock)
    bound = Limits(requests_per_minute=3)
    who = caller(bound, None) if scope == "key" else caller(None, bound)
    for _ in range(3):
        limits.admit(who)
    clock.advance(20)
    with pytest.raises(LimitExceeded) as refused:
        limits.admit(who)
    assert (refused.value.limit_name, refused.value.scope, refused.value.limit) == ("requests", scope, 3)
    assert refused.value.retry_after_s == pytest.approx(40, abs=0.5)
    clock.advance(40.5)
    limits.admit(who)


@pytest.mark.parametrize("scope", ["key", "tenant"])
def test_streams_at_once_are_bounded_and_a_released_place_is_free_again(scope: str) -> None:
    limits, streams = fresh()
    bound = Limits(concurrent_streams=2)
    who = caller(bound, None) if scope == "key" else caller(None, bound)
    first, _ = limits.admit(who), limits.admit(who)
    with pytest.raises(LimitExceeded) as refused:
        limits.admit(who)
    assert (refused.value.limit_name, refused.value.scope) == ("streams", scope)
    assert refused.value.retry_after_s > 0
    first.release()
    first.release()
    limits.admit(who)
    with pytest.raises(LimitExceeded):
        limits.admit(who)
    assert streams.running("key:k1" if scope == "key" else "tenant:t1") == 2


def test_a_refused_request_holds_no_place_and_does_not_eat_into_the_other_scopes_minute() -> None:
    limits, streams = fresh()
    tenant = Limits(requests_per_minute=1, concurrent_streams=10)
    who = caller(Limits(requests_per_minute=5, concurrent_streams=10), tenant)
    limits.admit(who).release()
    for _ in range(20):
        with pytest.raises(LimitExceeded) as refused:
            limits.admit(who)
        assert refused.value.scope == "tenant"
    assert streams.running("key:k1") == streams.running("tenant:t1") == 0
    alone = caller(Limits(requests_per_minute=5))
    for _ in range(4):
        limits.admit(alone)
    with pytest.raises(LimitExceeded):
        limits.admit(alone)


def test_a_refusal_for_streams_does_not_count_as_a_request() -> None:
    limits, _ = fresh()
    who = caller(Limits(requests_per_minute=2, concurrent_streams=1))
    held = limits.admit(who)
    for _ in range(5):
        with pytest.raises(LimitExceeded):
            limits.admit(who)
    held.release()
    limits.admit(who)


@pytest.mark.fault("C27")
def test_many_keys_of_one_tenant_share_its_limit() -> None:
    limits, _ = fresh()
    admitted = 0
    for number in range(100):
        try:
            limits.admit(caller(Limits(requests_per_minute=5), Limits(requests_per_minute=20), f"k{number % 10}"))
            admitted += 1
        except LimitExceeded:
            pass
    assert admitted == 20


def test_the_headers_are_those_of_the_tighter_limit() -> None:
    clock = FakeClock()
    limits, _ = fresh(clock)
    who = caller(Limits(requests_per_minute=10), Limits(requests_per_minute=4))
    limits.admit(who)
    clock.advance(15)
    assert dict(limits.headers(who)) == {
        b"x-ratelimit-limit-requests": b"4",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": b"45s",
    }


class Deaf(LocalCounters):
    """Shared counters that do not answer for a while."""

    deaf = False

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        if self.deaf:
            raise StoreUnavailable("locked")
        return super().incr(key, expiry, amount)

    def get(self, key: str) -> int:
        if self.deaf:
            raise StoreUnavailable("locked")
        return super().get(key)


class DeafStreams(LocalStreams):
    deaf = False

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        if self.deaf:
            raise StoreUnavailable("locked")
        return super().acquire(limits)

    def release(self, names: Sequence[str]) -> None:
        if self.deaf:
            raise StoreUnavailable("locked")
        super().release(names)


def test_when_the_shared_counters_do_not_answer_this_process_counts_for_itself() -> None:
    clock = FakeClock()
    counters, streams = Deaf(clock), DeafStreams("w1")
    limits = CallerLimits(counters, streams, clock)
    counters.deaf = streams.deaf = True
    who = caller(Limits(requests_per_minute=2, concurrent_streams=2))
    held = [limits.admit(who), limits.admit(who)]
    with pytest.raises(LimitExceeded):
        limits.admit(who)
    assert limits.headers(who)
    for one in held:
        one.release()


def test_a_place_that_could_not_be_given_back_is_given_back_later() -> None:
    clock = FakeClock()
    streams = DeafStreams("w1")
    limits = CallerLimits(LocalCounters(clock), streams, clock)
    who = caller(Limits(concurrent_streams=1))
    held = limits.admit(who)
    streams.deaf = True
    held.release()
    streams.deaf = False
    assert streams.running("key:k1") == 1
    limits.admit(who)


def test_counting_starts_no_thread() -> None:
    limits, _ = fresh()
    before = threading.active_count()
    for _ in range(50):
        limits.admit(caller(Limits(requests_per_minute=100, concurrent_streams=100)))
    assert threading.active_count() == before
