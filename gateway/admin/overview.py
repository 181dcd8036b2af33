"""``/admin/api/overview``: the gateway at a glance, from records and counters; nothing is asked of the outside.

``usable`` counts the accounts of a pool that could take a request now. What nobody counts or foresees is null.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.admin.accounts import Accounts
from gateway.admin.answers import AccountAnswer, AccountCounts, OverviewAnswer, PoolView
from gateway.admin.types import Call, Counter, Handlers, Oracle, Reply
from ops.clock import Clock
from store.base import AccountStore

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class About:
    """What the process knows of itself."""

    version: str
    workers: int


class Overview:
    def __init__(
        self,
        accounts: Accounts,
        store: AccountStore,
        about: About,
        clock: Clock,
        counter: Counter | None,
        oracle: Oracle | None,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._about = about
        self._clock = clock
        self._counter = counter
        self._oracle = oracle

    def handlers(self) -> Handlers:
        return {"overview": self.show}

    async def show(self, _call: Call) -> Reply:
        every = await self._accounts.answers(await self._store.accounts())
        dry = {} if self._oracle is None else await self._oracle.dry_at_s()
        last_hour = None if self._counter is None else await self._counter.since(self._clock.now_s() - HOUR_S)
        return Reply(
            OverviewAnswer(
                accounts=AccountCounts(total=len(every), by_state=dict(Tally(one.state for one in every))),
                requests_1h=None if last_hour is None else last_hour.requests,
                tokens_1h=None if last_hour is None else last_hour.input_tokens + last_hour.output_tokens,
                pools=[_pool(name, every, dry.get(name)) for name in sorted({one.pool for one in every})],
                version=self._about.version,
                workers=self._about.workers,
            )
        )


def _pool(name: str, every: Sequence[AccountAnswer], dry_at_s: float | None) -> PoolView:
    mine = [one for one in every if one.pool == name]
    return PoolView(name=name, accounts=len(mine), usable=sum(one.state == "ready" for one in mine), dry_at_s=dry_at_s)
