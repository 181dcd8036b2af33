"""What runs beside the requests: one small loop each, all in one task group, none on the hot path.

    share      publishes what this process learned of accounts, and takes in what others wrote, 5 times a second
    keep       refreshes access tokens ahead of their expiry
    discover   keeps the model list fresh
    probe      asks an account with a far reset now and then whether it is back already
    watch      measures the lag of the event loop
    revoke     ends what runs under a key that was revoked or has expired
    sweep      removes what has expired from the shared state

A store that does not answer stops none of them: they go on with what they know and try again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from auth.errors import CredentialError
from auth.keys import KeyDirectory
from auth.tokens import TokenSource
from gateway.attribution import outcome_of
from gateway.catalog import ModelCatalog
from gateway.revocation import RunningRequests
from ops.audit import AuditLog
from ops.clock import Clock
from ops.log import get_logger
from router.pool import AccountPool
from router.types import OK, Cause, Outcome, OutcomeKind
from store.base import Store
from store.errors import StoreError
from store.records import Account, HealthRecord, Placement, WindowRecord
from upstream.client import CodexClient
from upstream.errors import UpstreamError
from upstream.pool import ConnectionPool

SHARE_INTERVAL_S: Final = 0.2
KEEP_INTERVAL_S: Final = 5.0
DISCOVER_INTERVAL_S: Final = 15.0
PROBE_INTERVAL_S: Final = 1.0
WATCH_INTERVAL_S: Final = 0.5
LAG_KEPT_S: Final = 60.0
REVOKE_INTERVAL_S: Final = 5.0
SWEEP_INTERVAL_S: Final = 600.0
PROBE_CLAIM_S: Final = 20.0
PUBLISH_GAP_S: Final = 0.01
FAILED_PAUSE_S: Final = 1.0
UNSENT_MAX: Final = 50_000


K = TypeVar("K")
V = TypeVar("V")


class Sampler(Protocol):
    """Takes readings that nobody reports by himself; must not block or raise."""

    def loop_lag(self, seconds: float) -> None: ...

    def shared_state(self, *, reachable: bool) -> None: ...

    def sample(self, pool: AccountPool, connections: ConnectionPool, audit: AuditLog | None, inflight: int) -> None: ...


@dataclass(slots=True)
class Unsent:
    """What the other workers have not been told yet: the latest of each kind. Bounded; the oldest are left out."""

    health: dict[tuple[str, str, str], HealthRecord] = field(default_factory=dict)
    windows: dict[tuple[str, str], WindowRecord] = field(default_factory=dict)
    placements: dict[tuple[str, bytes], Placement] = field(default_factory=dict)

    def add(self, pool: AccountPool) -> None:
        """Takes over what ``pool`` has to tell."""
        self.health |= {(one.account_id, one.scope, one.kind): one for one in pool.take_changes()}
        self.windows |= {(one.account_id, one.name): one for one in pool.take_window_changes()}
        self.placements |= {(one.kind, one.digest): one for one in pool.placements.take_changes(pool.moment())}
        _bound(self.health)
        _bound(self.windows)
        _bound(self.placements)

    def told(
        self, health: dict[tuple[str, str, str], HealthRecord], windows: dict[tuple[str, str], WindowRecord]
    ) -> None:
        _drop(self.health, health)
        _drop(self.windows, windows)

    def placed(self, placements: dict[tuple[str, bytes], Placement]) -> None:
        _drop(self.placements, placements)


def _name(step: Callable[[], Awaitable[None]]) -> str:
    """What the log calls a step: two parts that are both called ``step`` must not share a name."""
    name = getattr(step, "__name__", "step")
    return str(getattr(step, "__qualname__", name)) if name == "step" else name


def _bound(kept: dict[K, V]) -> None:
    while len(kept) > UNSENT_MAX:
        del kept[next(iter(kept))]


def _drop(kept: dict[K, V], done: dict[K, V]) -> None:
    """Forgets what is done, but for what has changed since."""
    for key, value in done.items():
        if kept.get(key) is value:
            del kept[key]


@dataclass(slots=True)
class Background:
    """The loops and what they work on. ``worker`` names this process in claims. ``beside``: further steps, each with
    its interval in seconds. ``away``: why the hot store is not used, if it is not."""

    store: Store
    pool: AccountPool
    tokens: TokenSource
    keys: KeyDirectory
    catalog: ModelCatalog
    codex: CodexClient
    audit: AuditLog | None
    clock: Clock
    observer: Sampler
    connections: ConnectionPool
    running: RunningRequests
    worker: str
    beside: tuple[tuple[Callable[[], Awaitable[None]], float], ...] = ()
    parting: tuple[Callable[[], Awaitable[None]], ...] = ()
    away: Callable[[], str | None] = lambda: None
    accounts: tuple[Account, ...] = ()
    revision: int = -1
    cursor: int = 0
    _unsent: Unsent = field(default_factory=Unsent)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _failing: set[str] = field(default_factory=set)

    def start(self) -> list[asyncio.Task[None]]:
        """Starts every loop; cancelling the tasks ends them."""
        steps = (
            (self.keep, KEEP_INTERVAL_S),
            (self.discover, DISCOVER_INTERVAL_S),
            (self.probe, PROBE_INTERVAL_S),
            (self.revoke, REVOKE_INTERVAL_S),
            (self.sweep, SWEEP_INTERVAL_S),
            *self.beside,
        )
        loops = [self._every(interval_s, step) for step, interval_s in steps]
        loops += [self._share_on(), self._watch()]
        if self.audit is not None:
            loops.append(self._every(FAILED_PAUSE_S, self.audit.run))
        return [asyncio.create_task(loop) for loop in loops]

    def hurry(self) -> None:
        """Something was learned that another worker may need within milliseconds; safe to call at any rate."""
        self._news.set()

    async def _every(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._try(step)
            await self.clock.sleep(interval_s)

    async def _share_on(self) -> None:
        """``share`` at its interval; what is hurried is published in between, at most a hundred times a second."""
        while True:
            await self._try(self.share)
            self.observer.shared_state(reachable="share" not in self._failing and self.away() is None)
            until_s = self.clock.monotonic_s() + SHARE_INTERVAL_S
            while await self._news_before(until_s):
                await self._try(self.publish)
                await self.clock.sleep(PUBLISH_GAP_S)

    async def _news_before(self, until_s: float) -> bool:
        """Waits for news; False when there was none until ``until_s``."""
        rest_s = until_s - self.clock.monotonic_s()
        if rest_s > 0 and not self._news.is_set():
            waits = {asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(self.clock.sleep(rest_s))}
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        return rest_s > 0 and self._news.is_set()

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        """One round of a loop that nothing may end; a store that is away is told of once, and when it is back."""
        log, name = get_logger(), _name(step)
        try:
            await step()
        except StoreError as error:
            if name not in self._failing:
                log.warning("store_unavailable", step=name, error=str(error))
            self._failing.add(name)
            return
        except Exception:
            # a loop that dies silently is worse than one that complains; the next round starts afresh
            log.exception("background_step_failed", step=name)
            await self.clock.sleep(FAILED_PAUSE_S)
            return
        if name in self._failing:
            self._failing.discard(name)
            log.info("store_recovered", step=name)

    async def share(self) -> None:
        """Takes in and publishes; reloads accounts and keys when somebody changed them."""
        changes = await self.store.changes(self.cursor)
        if changes.directory_revision != self.revision:
            await self._reload()
            self.revision = changes.directory_revision
        self.pool.apply(changes.health)
        self.pool.apply_windows(changes.windows)
        self.cursor = changes.cursor
        self.observer.sample(self.pool, self.connections, self.audit, len(self.running))
        await self.publish()

    async def publish(self) -> None:
        """Tells the others. What the store did not take is told again next time, unless there is later news of it."""
        self._news.clear()
        unsent = self._unsent
        unsent.add(self.pool)
        if unsent.health or unsent.windows:
            health, windows = dict(unsent.health), dict(unsent.windows)
            await self.store.publish(list(health.values()), list(windows.values()))
            unsent.told(health, windows)
        if unsent.placements:
            placements = dict(unsent.placements)
            await self.store.place(list(placements.values()))
            unsent.placed(placements)

    async def farewell(self) -> None:
        """The last word to the others, at the end of the process."""
        self.observer.sample(self.pool, self.connections, self.audit, len(self.running))
        try:
            await self.publish()
            for step in self.parting:
                await step()
        except StoreError as error:
            get_logger().warning("store_unavailable", step="farewell", error=str(error))

    async def _reload(self) -> None:
        self.accounts = await self.store.accounts()
        self.pool.set_accounts(self.accounts)
        self.catalog.set_accounts(self.accounts)
        await self.tokens.reload(account.id for account in self.accounts)
        self.keys.load(await self.store.keys(), await self.store.tenants())

    async def keep(self) -> None:
        await self.tokens.keep(self.accounts)

    async def discover(self) -> None:
        await self.catalog.refresh()

    async def probe(self) -> None:
        """One probe per due account over all processes: whoever gets the claim asks."""
        for account in self.pool.due_probes():
            claim = await self.store.claim(f"probe:{account.id}", self.worker, PROBE_CLAIM_S)
            if claim is None:
                continue
            try:
                self.pool.probe_result(account.id, await self._ask(account))
            finally:
                await self.store.release(claim)

    async def _ask(self, account: Account) -> Outcome:
        try:
            report = await self.codex.usage(account, await self.tokens.get(account))
        except (UpstreamError, CredentialError) as error:
            return outcome_of(error, "")
        self.pool.note_windows(account.id, report.windows)
        if report.allowed:
            return OK
        resets_at_s = max((w.resets_at_s or 0.0 for w in report.windows if w.used_percent >= 100), default=0.0)
        return Outcome(
            OutcomeKind.RATE_LIMITED,
            cause=Cause.USAGE_LIMIT,
            evidence="the usage report says that the limit is reached",
            resets_at_s=resets_at_s or None,
            authoritative=bool(resets_at_s),
            plan_type=report.plan,
        )

    async def revoke(self) -> None:
        if ended := self.running.look():
            get_logger().warning("requests_revoked", count=ended)

    async def sweep(self) -> None:
        await self.store.purge()

    async def _watch(self) -> None:
        """Tells the worst lag of the last minute: a reader that looks now and then must see a stall, too."""
        lags: deque[float] = deque(maxlen=round(LAG_KEPT_S / WATCH_INTERVAL_S))
        while True:
            before_s = self.clock.monotonic_s()
            await self.clock.sleep(WATCH_INTERVAL_S)
            lags.append(max(0.0, self.clock.monotonic_s() - before_s - WATCH_INTERVAL_S))
            self.observer.loop_lag(max(lags))
