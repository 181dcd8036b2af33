"""``/admin/api/overview``: the gateway at a glance, from records and counters; nothing is asked of the outside.

``usable`` counts the accounts of a pool that could take a request now. ``dry_at_s`` is when the
pool runs dry (gateway.admin.forecast).
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.admin.accounts import Accounts
from gateway.admin.answers import AccountAnswer, AccountCounts, OverviewAnswer, PoolView
from gateway.admin.forecast import by_pool
from gateway.admin.types import Call, Handlers, Reply
from gateway.admin.usage import HOUR_S
from ops.clock import Clock
from ops.usage import sum_of, usage_by
from store.base import Store


@dataclass(frozen=True, slots=True)
class About:
    """What the process knows of itself."""

    version: str
    workers: Callable[[], int]


class Overview:
    def __init__(
        self,
        accounts: Accounts,
        store: Store,
        about: About,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._store = store
        self._about = about
        self._clock = clock

    def handlers(self) -> Handlers:
        return {"overview": self.show}

    async def show(self, _call: Call) -> Reply:
        accounts = await self._store.accounts()
        every = await self._accounts.answers(accounts)
        foretold = by_pool(accounts, (await self._store.changes(0)).windows, self._clock.now_s())
        last = sum_of(await usage_by(self._store, "account", self._clock.now_s() - HOUR_S))
        return Reply(
            OverviewAnswer(
                accounts=AccountCounts(total=len(every), by_state=dict(Tally(one.state for one in every))),
                requests_1h=last.requests,
                tokens_1h=last.input_tokens + last.output_tokens,
                pools=[_pool(name, every, told.dry_at_s) for name, told in foretold.items()],
                version=self._about.version,
                workers=self._about.workers(),
            )
        )


def _pool(name: str, every: Sequence[AccountAnswer], dry_at_s: float | None) -> PoolView:
    mine = [one for one in every if one.pool == name]
    return PoolView(name=name, accounts=len(mine), usable=sum(one.state == "ready" for one in mine), dry_at_s=dry_at_s)
