"""The fault catalogue at the level of the router: which account rests, for how long, and what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from router.breaker import BreakerState
from router.pool import AccountPool
from router.types import (
    CANCELLED,
    OK,
    AccountState,
    Cause,
    NoAccount,
    NoAccountReason,
    Outcome,
    OutcomeKind,
    RouteQuery,
    model_scope,
)
from tests.fakes.clock import FakeClock
from tests.fakes.routing import AUTH, BARE_429, BLOCKED, BROKEN, MODEL, lease_of, pool_of, put, put_all, usage_limit

QUERY = RouteQuery(MODEL)


@dataclass(frozen=True)
class Reported:
    name: str
    used_percent: float
    window_minutes: int | None
    resets_at_s: float | None


def refusal_of(pool: AccountPool, query: RouteQuery = QUERY) -> NoAccount:
    with pytest.raises(NoAccount) as caught:
        pool.lease(query)
    return caught.value


def state_of(pool: AccountPool, account_id: str = "a0") -> AccountState:
    found = pool.explain(account_id)
    assert found is not None
    return found.state


@pytest.mark.fault("B19")
def test_an_exhausted_account_rests_until_its_reset_and_the_others_serve() -> None:
    """No request sees the exhausted one before its reset; after it, one does at once."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a1", usage_limit(clock, 3600))
    for _ in range(300):
        clock.advance(10)
        lease = pool.lease(QUERY)
        assert lease.account.id != "a1"
        lease.release(OK)
    clock.advance(601)
    put(pool, "a1", OK)
    assert state_of(pool, "a1") is AccountState.OK


@pytest.mark.fault("B19")
@pytest.mark.fault("B42")
def test_all_exhausted_names_the_earliest_known_reset_and_its_plan() -> None:
    """Estimates decide when to come back, known resets what a client is told."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a0", usage_limit(clock, 7200, "pro"))
    put(pool, "a1", usage_limit(clock, 3600, "plus"))
    put(pool, "a2", Outcome(OutcomeKind.RATE_LIMITED, status=429, retry_after_s=30))
    found = refusal_of(pool)
    assert found.reason is NoAccountReason.EXHAUSTED
    assert found.retry_after_s == pytest.approx(30)
    assert found.resets_at_s == pytest.approx(clock.now_s() + 3600)
    assert found.plan_type == "plus"


@pytest.mark.fault("B42")
def test_without_a_known_reset_none_is_named() -> None:
    """An estimate is never shown as a reset."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", BARE_429)
    found = refusal_of(pool)
    assert (found.reason, found.resets_at_s) == (NoAccountReason.EXHAUSTED, None)
    assert found.retry_after_s is not None
    assert 5 <= found.retry_after_s <= 6


@pytest.mark.fault("B19")
def test_an_exhausted_account_never_speaks_while_another_is_usable_again_sooner() -> None:
    """One rests for hours, the other for a minute after faults: not exhausted, come back in a minute."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    put(pool, "a0", usage_limit(clock, 7200))
    for _ in range(2):
        put(pool, "a1", BLOCKED)
    put(pool, "a2", usage_limit(clock, 3600))
    assert refusal_of(pool).reason is NoAccountReason.EXHAUSTED
    busy = pool_of(2, clock)
    put(busy, "a0", usage_limit(clock, 7200))
    put_all(busy, "a1", *[Outcome(OutcomeKind.OVERLOADED, status=503, retry_after_s=20)])
    found = refusal_of(busy)
    assert found.reason is NoAccountReason.UNUSABLE
    assert found.retry_after_s == pytest.approx(20)


@pytest.mark.fault("B20")
def test_a_burst_of_bare_refusals_rests_once() -> None:
    """Fifty parallel 429s are one rest of five seconds; the next burst, after it, rests ten."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put_all(pool, "a0", *[BARE_429] * 50)
    first = refusal_of(pool).retry_after_s
    assert first is not None
    assert 5 <= first <= 6
    clock.advance(first + 5.1)
    put_all(pool, "a0", *[BARE_429] * 50)
    second = refusal_of(pool).retry_after_s
    assert second is not None
    assert 10 <= second <= 12


@pytest.mark.fault("B20")
def test_after_a_rest_one_request_tries_first() -> None:
    """The others wait for its word; with the first event it is given."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", BARE_429)
    clock.advance(6.1)
    trial = pool.lease(QUERY)
    assert trial.probe
    assert refusal_of(pool).reason is NoAccountReason.BUSY
    trial.confirm()
    assert not pool.lease(QUERY).probe


def test_a_rest_that_nobody_judged_is_simply_over() -> None:
    """A trial that hangs does not keep the account from the others for longer than five seconds."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", BARE_429)
    clock.advance(6.1)
    pool.lease(QUERY)
    clock.advance(5)
    assert not pool.lease(QUERY).probe


@pytest.mark.fault("B20")
def test_a_limit_of_one_model_leaves_the_others_alone() -> None:
    """The scope of the evidence is the scope of the rest."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", Outcome(OutcomeKind.RATE_LIMITED, scope=model_scope(MODEL), retry_after_s=60))
    assert refusal_of(pool).reason is NoAccountReason.EXHAUSTED
    assert pool.lease(RouteQuery("another")).account.id == "a0"
    assert state_of(pool) is AccountState.OK


@pytest.mark.fault("B21")
def test_a_credential_that_fails_after_its_refresh_opens_the_breaker_at_once() -> None:
    """The account is left alone; parallel requests with one stale token are one strike."""
    pool = pool_of(2, FakeClock())
    put_all(pool, "a0", *[AUTH] * 20)
    assert state_of(pool) is AccountState.OK
    put(pool, "a0", Outcome(OutcomeKind.AUTH, status=401, after_refresh=True))
    assert state_of(pool) is AccountState.OPEN


@pytest.mark.fault("B23")
def test_two_refusals_by_policy_in_a_row_block_the_account() -> None:
    """One 403 is borne, the second is not; a success in between forgives."""
    pool = pool_of(2, FakeClock())
    for outcome in (BLOCKED, OK, BLOCKED):
        put(pool, "a0", outcome)
    assert state_of(pool) is AccountState.OK
    put(pool, "a0", BLOCKED)
    found = pool.explain("a0")
    assert found is not None
    assert (found.state, found.blocks[0].cause) == (AccountState.OPEN, Cause.BLOCKED)


@pytest.mark.fault("B24")
def test_one_fault_is_a_strike_and_five_in_a_row_open_the_breaker() -> None:
    """A1: and after its rest two good probes, one at a time, close it."""
    clock = FakeClock()
    pool = pool_of(3, clock)
    for _ in range(4):
        put(pool, "a0", BROKEN)
        assert state_of(pool) is AccountState.OK
    put(pool, "a0", BROKEN)
    assert state_of(pool) is AccountState.OPEN
    clock.advance(36.1)
    for _ in range(2):
        probe = pool.lease(QUERY)
        assert probe.account.id == "a0"
        others = {pool.lease(QUERY).account.id for _ in range(6)}
        assert others == {"a1", "a2"}
        probe.release(OK)
    assert state_of(pool) is AccountState.OK


def test_a_cancelled_probe_frees_its_slot_without_a_verdict() -> None:
    """Half-open stays half-open, and the next request is the probe."""
    clock = FakeClock()
    pool = pool_of(2, clock)
    for _ in range(5):
        put(pool, "a0", BROKEN)
    clock.advance(36.1)
    pool.lease(QUERY).release(CANCELLED)
    assert state_of(pool) is AccountState.HALF_OPEN
    again = pool.lease(QUERY)
    assert (again.account.id, again.probe) == ("a0", True)


def test_a_probe_that_fails_is_not_followed_by_another_in_the_same_request() -> None:
    """The retry goes to an account that is well, though another one is due for a trial."""
    clock = FakeClock()
    pool = pool_of(6, clock)
    for account_id in ("a0", "a1"):
        for _ in range(5):
            put(pool, account_id, BROKEN)
            put(pool, "a5", OK)
        clock.advance(11)
    clock.advance(36.1)
    first = pool.lease(QUERY)
    assert first.probe
    first.release(BROKEN)
    assert not pool.lease(RouteQuery(MODEL, excluded=frozenset({first.account.id}))).probe


@pytest.mark.fault("B29")
def test_a_plan_without_the_model_is_passed_over_for_that_model() -> None:
    """402 moves that model's requests elsewhere; when nobody has it, the reason is the model."""
    pool = pool_of(2, FakeClock())
    lacking = Outcome(OutcomeKind.MODEL, status=402)
    put(pool, "a0", lacking)
    assert {pool.lease(QUERY).account.id for _ in range(4)} == {"a1"}
    assert pool.lease(RouteQuery("another", owner="a0")).account.id == "a0"
    put(pool, "a1", lacking)
    assert refusal_of(pool).reason is NoAccountReason.MODEL_UNAVAILABLE


@pytest.mark.fault("B30")
def test_requests_go_only_to_accounts_that_list_the_model() -> None:
    """An empty list is a list; an unknown one is not."""
    pool = pool_of(3, FakeClock())
    pool.set_models("a0", frozenset())
    pool.set_models("a1", frozenset({MODEL}))
    assert {pool.lease(QUERY).account.id for _ in range(6)} == {"a1", "a2"}
    pool.set_models("a2", frozenset({"other"}))
    pool.set_models("a1", frozenset({"other"}))
    assert refusal_of(pool).reason is NoAccountReason.MODEL_UNAVAILABLE


@pytest.mark.fault("B40")
@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_jump_of_the_wall_clock_moves_no_rest(jump_s: float) -> None:
    """Rests run on monotonic time."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=60))
    clock.jump_wall(jump_s)
    assert refusal_of(pool).retry_after_s == pytest.approx(60)
    clock.advance(60.1)
    assert pool.lease(QUERY).account.id == "a0"


def test_a_far_reset_is_probed_in_the_background_and_an_early_one_noticed() -> None:
    """Due once an interval; OK frees the account days before its reset."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    put(pool, "a0", usage_limit(clock, 6 * 86_400))
    assert pool.due_probes() == []
    clock.advance(361)
    assert [one.id for one in pool.due_probes()] == ["a0"]
    assert pool.due_probes() == []
    pool.probe_result("a0", Outcome(OutcomeKind.BROKEN))
    assert refusal_of(pool).reason is NoAccountReason.EXHAUSTED
    clock.advance(361)
    assert [one.id for one in pool.due_probes()] == ["a0"]
    pool.probe_result("a0", OK)
    assert not pool.lease(QUERY).probe


def test_a_full_window_blocks_nothing_until_the_upstream_refuses() -> None:
    """Then its reset is the rest that a bare refusal means."""
    clock = FakeClock()
    pool = pool_of(1, clock)
    resets_at_s = clock.now_s() + 4000
    pool.note_windows("a0", [Reported("primary", 100.0, 300, resets_at_s), Reported("secondary", 40.0, 10_080, None)])
    put(pool, "a0", OK)
    put(pool, "a0", BARE_429)
    found = refusal_of(pool)
    assert found.resets_at_s == pytest.approx(resets_at_s)
    assert found.retry_after_s == pytest.approx(4000)


def test_a_refusal_after_failures_names_the_tried_accounts() -> None:
    """When the only well accounts were tried by this request, that is the reason."""
    pool = pool_of(2, FakeClock())
    assert refusal_of(pool, RouteQuery(MODEL, excluded=frozenset({"a0", "a1"}))).reason is NoAccountReason.EXCLUDED


def test_a_pool_without_accounts_and_one_without_logins_say_so() -> None:
    """Nothing configured, nothing in these pools, nothing usable."""
    empty = pool_of(0, FakeClock())
    assert refusal_of(empty).reason is NoAccountReason.NONE_CONFIGURED
    pool = pool_of(1, FakeClock())
    assert refusal_of(pool, RouteQuery(MODEL, pools=("elsewhere",))).reason is NoAccountReason.NONE_CONFIGURED
    pool.set_accounts([])
    assert refusal_of(pool).reason is NoAccountReason.NONE_CONFIGURED


@pytest.mark.fault("B14")
def test_streams_that_always_break_after_their_first_event_still_open_the_breaker() -> None:
    """A first event is no success: five broken streams in a row count."""
    pool = pool_of(3, FakeClock())
    for _ in range(5):
        lease = lease_of(pool, "a0")
        lease.confirm()
        lease.release(BROKEN)
    assert state_of(pool) is AccountState.OPEN
    assert pool.snapshot().route is BreakerState.CLOSED
