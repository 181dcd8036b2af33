"""What does this process share with the others, and through what?

    one process                  nothing, and it counts in its memory
    several workers, one host    hot state in the durable store, counters in a small file
    ``store.hot_url``            hot state and counters in Redis, whatever the number of hosts and workers

With a hot store the process joins a fleet: it says that it lives, learns who else does, starts its rotation somewhere
else than the others, takes its part of each account's concurrency, and tells everything anew when Redis has lost it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from auth.fleet_limits import FleetLimits
from auth.limits import CallerLimits
from gateway.fleet import FleetGate
from gateway.idempotency import IdempotencyGate
from ops.background import Background
from ops.clock import Clock
from ops.house_store import counting
from ops.seat import Seat
from ops.settings import Settings
from router.pool import AccountPool
from store.base import Store
from store.errors import StoreUnavailable
from store.hot_line import HotLine
from store.redis_counters import LeasedCounts
from store.redis_hot import RedisHot
from store.redis_link import RedisLink
from store.redis_once import FleetOnce
from store.tiered import tiered

LEASE_GAP_S: Final = 0.01
Step = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Hot:
    """The parts that stand on the hot store."""

    line: HotLine
    state: RedisHot
    counts: LeasedCounts
    once: FleetOnce
    gate: FleetGate


@dataclass(slots=True)
class Sharing:
    """See the module. ``store`` is the durable one with the hot one before it, if there is one."""

    store: Store
    limits: CallerLimits | FleetLimits
    idempotency: IdempotencyGate
    worker: str
    others: bool
    most_per_account: int
    hot: Hot | None = None

    @property
    def gate(self) -> FleetGate | None:
        return None if self.hot is None else self.hot.gate

    def away(self) -> str | None:
        """Why the hot store is not used now; None while it is, or when there is none."""
        return None if self.hot is None else self.hot.line.away

    def members(self) -> tuple[str, ...]:
        """The processes that live, by name; this one alone when there is no fleet."""
        return (self.worker,) if self.hot is None else self.hot.counts.members or (self.worker,)

    def steps(self, pool: AccountPool) -> tuple[tuple[Step, float], ...]:
        """What runs beside the requests, with its interval in seconds."""
        hot = self.hot
        if hot is None:
            return ()

        async def lease() -> None:
            await hot.counts.tend()
            self._share_accounts(pool)

        async def once() -> None:
            await hot.once.tend()

        return (lease, LEASE_GAP_S), (once, LEASE_GAP_S)

    async def join(self, pool: AccountPool, background: Background) -> None:
        """Before the first request, when the accounts are known. A hot store that is away is joined later."""
        if self.others:
            pool.placements.on_news = background.hurry
            pool.fleet.begin_elsewhere(self.worker)
        if self.hot is None:
            return
        hot = self.hot

        def lost() -> None:
            pool.fleet.retell()
            hot.counts.restate()
            background.hurry()

        hot.state.on_lost = lost
        with contextlib.suppress(StoreUnavailable):
            await hot.counts.beat()
        self._share_accounts(pool)

    async def leave(self) -> None:
        """At the end, before the store is closed: what this process holds is free at once."""
        if self.hot is not None:
            with contextlib.suppress(StoreUnavailable):
                await self.hot.once.tell()
            await self.hot.counts.farewell()
            await self.hot.line.close()

    def _share_accounts(self, pool: AccountPool) -> None:
        """This process's part of each account's concurrency; at least one stream, as none could be served with less."""
        if self.hot is not None and self.most_per_account:
            pool.most = max(1, self.hot.counts.share(self.most_per_account))


def sharing_of(
    settings: Settings, seat: Seat, durable: Store, clock: Clock, worker: str, stack: contextlib.AsyncExitStack
) -> Sharing:
    """How this process shares, by the settings. ``durable`` stays the caller's to close, with what is opened here."""
    values = settings.store
    most = settings.router.per_account_concurrency
    hot_state = _hot_state(settings, clock)
    if hot_state is None:
        limits, idempotency = counting(seat, clock, stack)
        return Sharing(durable, limits, idempotency, worker, seat.count > 1, most)
    prefix = values.redis_prefix
    line, state = hot_state
    counts = LeasedCounts(line, prefix, worker, clock, rank=seat.index, count=seat.count)
    once = FleetOnce(line, prefix, worker)
    fleet_limits, keys = FleetLimits(counts, clock), IdempotencyGate(clock, fleet=once)
    hot = Hot(line, state, counts, once, FleetGate(fleet_limits, keys, line.begin))
    return Sharing(tiered(durable, state, line), fleet_limits, keys, worker, True, most, hot)


def with_hot(settings: Settings, durable: Store, clock: Clock) -> Store:
    """For a command: ``durable`` with the hot store before it, if there is one; both are closed with it."""
    found = _hot_state(settings, clock)
    if found is None:
        return durable
    line, state = found
    return tiered(durable, state, line)


def _hot_state(settings: Settings, clock: Clock) -> tuple[HotLine, RedisHot] | None:
    values = settings.store
    if values.hot_url is None:
        return None
    line = HotLine(RedisLink(values.hot_url, name=values.redis_prefix, timeout_s=values.redis_timeout_ms / 1e3), clock)
    return line, RedisHot(line, values.redis_prefix, clock)
