"""Any order of leases, outcomes, waits and administrator's acts: what always holds for the pool."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from router.breaker import BreakerState
from router.explain import Explanation
from router.health import BREAKER
from router.lease import Lease
from router.pool import AccountPool
from router.types import (
    ACCOUNT_SCOPE,
    CANCELLED,
    OK,
    AccountState,
    NoAccount,
    NoAccountReason,
    Outcome,
    OutcomeKind,
    PoolRules,
    RouteQuery,
    model_scope,
)
from store.records import AccountStatus
from tests.fakes.clock import FakeClock
from tests.fakes.routing import BARE_429, BROKEN, CLIENT_ERROR, ROUTE_FAULT, account, usage_limit

MODELS = ("m1", "m2")
BLAMELESS = {OutcomeKind.CLIENT_ERROR, OutcomeKind.CANCELLED, OutcomeKind.ROUTE, OutcomeKind.FOREIGN}
FIXED = [
    OK,
    OK,
    CANCELLED,
    CLIENT_ERROR,
    BROKEN,
    BROKEN,
    BROKEN,
    ROUTE_FAULT,
    BARE_429,
    Outcome(OutcomeKind.OVERLOADED, status=503),
    Outcome(OutcomeKind.OVERLOADED, status=503, retry_after_s=20),
    Outcome(OutcomeKind.AUTH, status=401),
    Outcome(OutcomeKind.AUTH, status=401, after_refresh=True),
    Outcome(OutcomeKind.BLOCKED, status=403),
    Outcome(OutcomeKind.FOREIGN, status=400),
    Outcome(OutcomeKind.MODEL, status=402, scope=model_scope("m1")),
    Outcome(OutcomeKind.RATE_LIMITED, status=429, retry_after_s=3),
    Outcome(OutcomeKind.RATE_LIMITED, status=429, retry_after_s=float("nan")),
]


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.leases: list[Lease] = []

    @initialize(size=st.integers(1, 4), most=st.sampled_from([0, 0, 1, 2]), seed=st.integers(0, 1000))
    def start(self, size: int, most: int, seed: int) -> None:
        self.most = most
        rules = PoolRules(per_account_concurrency=most, breaker_failures=3)
        self.pool = AccountPool(rules, self.clock, random.Random(seed), "w1")
        self.accounts = {f"a{number}": account(number, weight=number % 3) for number in range(size)}
        self.pool.set_accounts(list(self.accounts.values()))

    @rule(
        model=st.sampled_from(MODELS),
        affinity=st.sampled_from([None, None, b"k1", b"k2"]),
        owner=st.sampled_from([None, None, None, "a0", "a1"]),
        excluded=st.sets(st.sampled_from(["a0", "a1", "a2"]), max_size=2),
    )
    def lease(self, model: str, affinity: bytes | None, owner: str | None, excluded: set[str]) -> None:
        query = RouteQuery(model, affinity=affinity, owner=owner, excluded=frozenset(excluded))
        before = {name: self.explain(name) for name in self.accounts}
        route_closed = self.pool.snapshot().route is BreakerState.CLOSED
        try:
            lease = self.pool.lease(query)
        except NoAccount as refusal:
            self.check_refusal(query, refusal, before, route_closed=route_closed)
            return
        chosen = before[lease.account.id]
        assert lease.account.id not in excluded
        assert chosen.state not in (AccountState.DISABLED, AccountState.NEEDS_REAUTH)
        assert owner in (None, lease.account.id) or owner not in self.accounts or not before[owner].usable
        for block in chosen.blocks:
            if block.scope in (ACCOUNT_SCOPE, model_scope(model)) and block.until_s and block.next_probe_s:
                assert min(block.until_s, block.next_probe_s) <= self.clock.now_s() + 1e-6
        if chosen.breaker != BreakerState.CLOSED:
            assert BREAKER in lease.slots
        if not route_closed:
            assert lease.route_probe
        self.leases.append(lease)

    def check_refusal(
        self, query: RouteQuery, refusal: NoAccount, before: dict[str, Explanation], *, route_closed: bool
    ) -> None:
        if refusal.retry_after_s is not None:
            assert refusal.retry_after_s > 0
        if not route_closed:
            return
        assert refusal.reason is not NoAccountReason.ROUTE_DOWN
        if query.owner is not None:
            return
        for name, found in before.items():
            blocks = [one for one in found.blocks if one.scope in (ACCOUNT_SCOPE, model_scope(query.model))]
            full = self.most and (found.inflight or 0) >= self.most
            trial = any(lease.account.id == name and lease.slots for lease in self.leases)
            if found.usable and not blocks and not full and not trial:
                assert name in query.excluded, f"{name} was left out: {refusal.reason}"

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.one_of(st.sampled_from(FIXED), st.floats(-10, 1e6)))
    def release(self, data: st.DataObject, outcome: Outcome | float) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        found = usage_limit(self.clock, outcome) if isinstance(outcome, float) else outcome
        before = self.health(lease.account.id)
        lease.release(found)
        lease.release(BROKEN)  # a second release says nothing
        if found.kind in BLAMELESS and found.kind is not OutcomeKind.ROUTE:
            assert self.health(lease.account.id) == before

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.leases)).confirm()

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 4.0, 6.0, 40.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(model=st.sampled_from(MODELS), outcome=st.sampled_from(FIXED), times=st.integers(2, 8))
    def hammer(self, model: str, outcome: Outcome, times: int) -> None:
        """One outcome again and again: what opens breakers and makes storms."""
        for _ in range(times):
            before = len(self.leases)
            self.lease(model, None, None, set())
            if len(self.leases) > before:
                self.leases.pop().release(outcome)

    @rule(extra=st.sampled_from([0.001, 0.001, 1.0, 5.0]))
    def wait_for_the_next_return(self, extra: float) -> None:
        """To where trials happen: just after the first thing that rests is back."""
        blocks = [block for name in self.accounts for block in self.explain(name).blocks]
        rests_s = [block.until_s - self.clock.now_s() for block in blocks if block.until_s is not None]
        self.clock.advance(max(0.0, min(rests_s, default=0.0)) + extra)

    @rule(model=st.sampled_from(MODELS), times=st.integers(2, 6))
    def crowd(self, model: str, times: int) -> None:
        """Many requests at once."""
        for _ in range(times):
            self.lease(model, None, None, set())

    @rule(seconds=st.sampled_from([-3600.0, 3600.0]))
    def jump(self, seconds: float) -> None:
        self.clock.jump_wall(seconds)

    @rule(
        name=st.sampled_from(["a0", "a1", "a2"]),
        changes=st.sampled_from(
            [
                {"enabled": False},
                {"enabled": True},
                {"status": AccountStatus.NEEDS_REAUTH},
                {"status": AccountStatus.ACTIVE},
            ]
        ),
    )
    def administer(self, name: str, changes: dict[str, Any]) -> None:
        if name in self.accounts:
            self.accounts[name] = replace(self.accounts[name], **changes)
            self.pool.set_accounts(list(self.accounts.values()))

    @rule(name=st.sampled_from(["a0", "a1"]), outcome=st.sampled_from([OK, BARE_429, BROKEN]))
    def probe(self, name: str, outcome: Outcome) -> None:
        self.pool.due_probes()
        self.pool.probe_result(name, outcome)

    @rule()
    def publish(self) -> None:
        now_s = self.clock.now_s()
        for record in self.pool.take_changes():
            assert record.until_s - now_s <= 7 * 86_400 * 1.21
        assert self.pool.take_changes() == []

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "pool"):
            return
        for name in self.accounts:
            assert self.explain(name).inflight == sum(one.account.id == name for one in self.leases)
            trials = [slot for one in self.leases if one.account.id == name for slot in one.slots]
            assert len(trials) == len(set(trials)), "two leases hold one trial"
        assert sum(one.route_probe for one in self.leases) <= 1

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        for lease in self.leases:
            lease.release(CANCELLED)
        self.leases = []
        self.clock.advance(8 * 86_400)
        for model in MODELS:
            for name, one in self.accounts.items():
                if one.enabled and one.status is AccountStatus.ACTIVE:
                    for _ in range(2):
                        self.pool.lease(RouteQuery(model, owner=name)).release(OK)
        for name, one in self.accounts.items():
            if one.enabled and one.status is AccountStatus.ACTIVE:
                assert self.explain(name).state is AccountState.OK

    def explain(self, name: str) -> Explanation:
        found = self.pool.explain(name)
        assert found is not None
        return found

    def health(self, name: str) -> tuple[object, ...]:
        found = self.explain(name)
        blocks = [(one.kind, one.scope, one.level) for one in found.blocks if one.scope != "route"]
        return found.state, found.failures, found.breaker, blocks


def runs(examples: int) -> settings:
    """Long stories, and no clock on the machine that runs them."""
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=40
    )


def test_the_pool_keeps_its_promises_in_any_order_of_events() -> None:
    """Trials are single, counts are right, nobody well is left out, the blameless change nothing, all heal."""
    run_state_machine_as_test(PoolMachine, settings=runs(150))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_pool_keeps_its_promises_in_ten_thousand_runs() -> None:
    """The same, 10,000 times."""
    run_state_machine_as_test(PoolMachine, settings=runs(10_000))
