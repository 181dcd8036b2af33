"""What a lease costs: lease() and release(OK) on the healthy path, and a refusal when all rest.

Run: ``python -m benchmarks.micro_router``. Prints microseconds per operation, the best of five rounds.
"""

from __future__ import annotations

import random
import timeit
from collections.abc import Callable
from typing import Any

from ops.clock import SystemClock
from router.pool import AccountPool
from router.types import OK, NoAccount, Outcome, OutcomeKind, PoolRules, RouteQuery
from store.records import Account

ROUNDS = 5
TARGETS_US = {3: 5.0, 200: 30.0}


def pool_of(size: int, **rules: Any) -> AccountPool:
    pool = AccountPool(PoolRules(**rules), SystemClock(), random.Random(1), "bench")
    pool.set_accounts(
        [Account(id=f"a{number}", chatgpt_account_id=f"c{number}", label="bench") for number in range(size)]
    )
    return pool


def best_us(act: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(act, number=number, repeat=ROUNDS)) / number * 1e6


def measure(size: int) -> dict[str, float]:
    number = 20_000 if size < 10 else 4_000
    pool = pool_of(size)
    plain, sticky = RouteQuery("m"), RouteQuery("m", affinity=b"key")
    capped = pool_of(size, per_account_concurrency=8)
    resting = pool_of(size)
    limited = Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=3600)
    for account in resting.accounts():
        resting.lease(RouteQuery("m", owner=account.id)).release(limited)

    def refused() -> None:
        try:
            resting.lease(plain)
        except NoAccount:
            return

    return {
        "round robin": best_us(lambda: pool.lease(plain).release(OK), number),
        "affinity": best_us(lambda: pool.lease(sticky).release(OK), number),
        "with a concurrency limit": best_us(lambda: capped.lease(plain).release(OK), number),
        "all rest (refusal)": best_us(refused, number // 20),
    }


def main() -> None:
    for size, target_us in TARGETS_US.items():
        print(f"{size} accounts (target for round robin: < {target_us:.0f} us)")
        for name, cost_us in measure(size).items():
            print(f"  {name:26} {cost_us:8.2f} us")


if __name__ == "__main__":
    main()
