"""A pool on a fake clock, and the outcomes that tests feed it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from router.lease import Lease
from router.pool import AccountPool
from router.types import Outcome, OutcomeKind, PoolRules, RouteQuery
from store.records import Account
from tests.fakes.clock import FakeClock

MODEL = "gpt-5.4"
BROKEN = Outcome(OutcomeKind.BROKEN, evidence="status 500", status=500)
BARE_429 = Outcome(OutcomeKind.RATE_LIMITED, evidence="status 429", status=429)
ROUTE_FAULT = Outcome(OutcomeKind.ROUTE, evidence="connect refused", sent=False)
CLIENT_ERROR = Outcome(OutcomeKind.CLIENT_ERROR, status=400)
AUTH = Outcome(OutcomeKind.AUTH, evidence="status 401", status=401)
BLOCKED = Outcome(OutcomeKind.BLOCKED, evidence="status 403", status=403)


def usage_limit(clock: FakeClock, in_s: float, plan: str = "pro") -> Outcome:
    """A 429 whose body names the reset of the plan's window."""
    return Outcome(
        OutcomeKind.RATE_LIMITED,
        evidence="usage_limit_reached",
        status=429,
        resets_at_s=clock.now_s() + in_s,
        authoritative=True,
        plan_type=plan,
    )


def account(number: int, **changes: Any) -> Account:
    """Account ``a<number>``."""
    made = Account(id=f"a{number}", chatgpt_account_id=f"c{number}", label=f"account {number}")
    return replace(made, **changes)


def pool_of(
    size: int, clock: FakeClock, *, worker: str = "w1", seed: int = 1, rules: PoolRules | None = None
) -> AccountPool:
    """A pool of ``a0`` to ``a<size-1>``."""
    pool = AccountPool(rules or PoolRules(), clock, random.Random(seed), worker)
    pool.set_accounts([account(number) for number in range(size)])
    return pool


def lease_of(pool: AccountPool, account_id: str, model: str = MODEL) -> Lease:
    """A lease on that account and no other."""
    return pool.lease(RouteQuery(model, owner=account_id))


def put(pool: AccountPool, account_id: str, outcome: Outcome, model: str = MODEL) -> None:
    """One attempt on that account, with that outcome."""
    lease_of(pool, account_id, model).release(outcome)


def put_all(pool: AccountPool, account_id: str, *outcomes: Outcome) -> None:
    """Attempts that run at the same time and end in this order."""
    leases = [lease_of(pool, account_id) for _ in outcomes]
    for lease, outcome in zip(leases, outcomes, strict=True):
        lease.release(outcome)
