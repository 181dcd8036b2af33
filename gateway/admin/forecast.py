"""``/admin/api/forecast``: when does each pool run dry, if it goes on as it has?

The windows of the accounts that are in service, as they were reported last, go through router.forecast. Nothing is
asked of the outside. ``confidence`` is low where the windows were seen too short or too long ago to be sure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.admin.answers import ForecastAnswer, PoolForecast
from gateway.admin.types import Call, Handlers, Reply
from gateway.admin.views import state
from ops.clock import Clock
from router.forecast import Forecast, forecast
from store.base import Store
from store.records import Account, AccountStatus, WindowRecord


class Forecasts:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def handlers(self) -> Handlers:
        return {"forecast": self.show}

    async def show(self, _call: Call) -> Reply:
        accounts = await self._store.accounts()
        known = await self._store.changes(0)
        now_s = self._clock.now_s()
        ready = {one.id for one in accounts if state(one, known.health, now_s)[0] == "ready"}
        pools = [
            PoolForecast(
                name=name,
                dry_at_s=told.dry_at_s,
                confidence="high" if told.sure else "low",
                usable=sum(one.id in ready for one in accounts if one.pool == name),
                total=sum(one.pool == name for one in accounts),
            )
            for name, told in by_pool(accounts, known.windows, now_s).items()
        ]
        return Reply(ForecastAnswer(pools=pools))


def by_pool(accounts: Sequence[Account], windows: Iterable[WindowRecord], now_s: float) -> Mapping[str, Forecast]:
    """The forecast of every pool, by name. Accounts that serve nobody bring neither room nor demand."""
    found: dict[str, list[WindowRecord]] = {name: [] for name in sorted({one.pool for one in accounts})}
    pool_of = {one.id: one.pool for one in accounts if one.enabled and one.status is AccountStatus.ACTIVE}
    for window in windows:
        if window.account_id in pool_of:
            found[pool_of[window.account_id]].append(window)
    return {name: forecast(mine, now_s) for name, mine in found.items()}
