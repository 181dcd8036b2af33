"""The composition root: settings in, a running gateway out. Everything is built here and handed its values.

``open_gateway`` builds one process's gateway, loads its first snapshot, starts what runs beside the requests, and on
the way out stores what must not be lost (refreshed tokens, audit records) before it closes the store. The parts stand
beside it: house_store, house_relay, house_front, house_logins, house_admin.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import httpx

from auth.spool import Spool
from auth.tokens import TokenSource
from gateway.app import Endpoints, build_app
from gateway.catalog import ModelCatalog
from gateway.handshake import Handshake
from gateway.info import ReadyEndpoint
from gateway.middleware import App, Inflight
from gateway.observe import Observer
from gateway.ownership import Ownership
from gateway.relay import Relay, RelayPolicy
from gateway.responses import Gates
from gateway.revocation import RunningRequests
from ops.audit import AuditLog
from ops.background import Background
from ops.clock import Clock
from ops.house_fleet import Sharing, sharing_of
from ops.house_front import endpoints_of, frames_of, metrics_app, metrics_endpoint, model_table
from ops.house_late import LateDoors, Shared, with_late_doors
from ops.house_logins import ONBOARD_INTERVAL_S, Entrance, entrance
from ops.house_relay import codex_client, key_directory, pool_rules, task_budgets, token_source
from ops.house_runs import RUNS_INTERVAL_S, runs_of
from ops.house_store import keys_of, spool_of
from ops.house_watch import alerts_of, webhooks_of
from ops.log import get_logger
from ops.metrics import Metrics
from ops.polling import WindowPoll
from ops.seat import Seat
from ops.settings import Settings
from ops.usage import UsageBook
from ops.webhooks import Webhooks
from router.pool import AccountPool
from router.retry import RetryBudget
from store.base import Store
from store.open import open_store
from upstream.client import CodexClient
from upstream.dial import Dialer, tls_context
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool

WEBHOOK_INTERVAL_S: Final = 2.0
USAGE_INTERVAL_S: Final = 5.0
POLL_INTERVAL_S: Final = 5.0


@dataclass(slots=True)
class Readiness:
    """Whether this process wants traffic, as far as it knows without asking the store."""

    audit: AuditLog | None
    draining: bool = False

    def reason(self) -> str | None:
        """Why not; None when all is well."""
        if self.draining:
            return "draining"
        if self.audit is not None and self.audit.failing:
            return "audit_unavailable: the audit log takes no records"
        return None


@dataclass(slots=True)
class Gateway:
    """One process's gateway, running. ``metrics_app`` is /metrics alone, when it has a port of its own."""

    app: App
    metrics_app: App | None
    inflight: Inflight
    readiness: Readiness
    background: Background
    pool: AccountPool
    tokens: TokenSource
    metrics: Metrics
    audit: AuditLog | None
    store: Store
    connections: ConnectionPool
    entrance: Entrance


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings, seat: Seat, clock: Clock, metrics: Metrics) -> AsyncIterator[Gateway]:
    """Builds and starts; drains and closes on the way out. Raises StoreError before anything runs.

    The store has been checked and migrated before: ops.main.prepare.
    """
    keys = keys_of(settings)
    values = settings.store
    store = await open_store(
        values.url,
        keys=keys,
        busy_timeout_s=values.busy_timeout_s,
        verify=False,
        prefix=values.redis_prefix,
        create=False,  # the supervisor has seen to it
    )
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        connections = ConnectionPool(Dialer(tls_context(settings.upstream.ca_file), settings.upstream.proxy), clock)
        stack.push_async_callback(connections.aclose)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=PoolTransport(connections), follow_redirects=False, trust_env=False)
        )
        worker = f"{seat.replica}/{seat.name}:{os.getpid()}"
        sharing = sharing_of(settings, seat, store, clock, worker, stack)
        stack.push_async_callback(sharing.leave)
        builder = _Builder(settings, seat, clock, metrics, sharing.store, connections, http, sharing, worker)
        gateway = await builder.build(stack, spool_of(settings, keys))
        await gateway.tokens.recover()
        await gateway.background.share()
        await sharing.join(gateway.pool, gateway.background)
        stack.push_async_callback(_settle, gateway, gateway.background.start())
        yield gateway


async def _settle(gateway: Gateway, tasks: list[asyncio.Task[None]]) -> None:
    """The end: refreshes first, then logins, then what other workers should know, then the audit log."""
    await gateway.tokens.drain()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await gateway.entrance.onboarding.drain()
    await gateway.background.farewell()
    if gateway.audit is not None:
        await gateway.audit.close()


async def _doors(
    endpoints: Endpoints, settings: Settings, shared: Shared, stack: contextlib.AsyncExitStack
) -> Endpoints:
    from ops.house_admin import with_admin  # noqa: PLC0415 - loaded when somebody knocks

    return await with_admin(endpoints, settings, shared, stack)


async def _tasks(
    endpoints: Endpoints, settings: Settings, shared: Shared, webhooks: Webhooks | None, draining: Callable[[], bool]
) -> Endpoints:
    from ops.house_tasks import with_tasks  # noqa: PLC0415 - as above

    return await with_tasks(endpoints, settings, shared, webhooks, draining)


def _late(
    endpoints: Endpoints,
    settings: Settings,
    shared: Shared,
    webhooks: Webhooks | None,
    readiness: Readiness,
    stack: contextlib.AsyncExitStack,
) -> Endpoints:
    """The doors that the settings open, to be built when somebody knocks."""
    if settings.admin.enabled:
        doors = LateDoors(partial(_doors, endpoints, settings, shared, stack), "ops.house_admin")
        endpoints = with_late_doors(endpoints, doors)
    if settings.sandbox.enabled:
        late = partial(_tasks, endpoints, settings, shared, webhooks, lambda: readiness.draining)
        endpoints = replace(endpoints, tasks=LateDoors(late, "ops.house_tasks").tasks)
    return endpoints


@dataclass(slots=True)
class _Builder:
    """The parts in the order in which they need each other."""

    settings: Settings
    seat: Seat
    clock: Clock
    metrics: Metrics
    store: Store
    connections: ConnectionPool
    http: httpx.AsyncClient
    sharing: Sharing
    worker: str

    async def build(self, stack: contextlib.AsyncExitStack, spool: Spool) -> Gateway:
        settings, clock, seat = self.settings, self.clock, self.seat
        worker = self.worker
        audit = self._audit()
        webhooks = await webhooks_of(settings, self.store, clock, worker, self.metrics, stack)
        observer = Observer(get_logger(), self.metrics, audit, clock, alerts_of(self.metrics, webhooks, clock))
        book = observer.book = UsageBook(self.store, worker, clock)
        codex = codex_client(settings, self.connections, self.http, clock, stack)
        pool = AccountPool(pool_rules(settings, seat), clock, random.SystemRandom(), worker)
        tokens = token_source(settings, self.store, self.http, clock, spool, observer)
        keys = await key_directory(settings, self.store)
        catalog = ModelCatalog(codex, tokens, pool, model_table(settings), settings.models.cache_s, clock)
        running = RunningRequests(keys, clock)
        sharing = self.sharing
        budgets = task_budgets(settings, self.store, clock)
        gates = Gates(sharing.limits, sharing.idempotency, running, observer.shed, sharing.gate, budgets)
        relay = self._relay(pool, tokens, codex, observer)
        readiness = Readiness(audit)
        frames = frames_of(settings, clock, keys, observer, audit)
        scrape = metrics_endpoint(settings, self.metrics)
        ready = ReadyEndpoint(self.store, readiness.reason, sharing.away)
        record = None if audit is None else audit.act
        logins = entrance(settings, self.store, self.http, codex, clock, worker, record, webhooks)
        runs = await runs_of(settings, self.store, running, clock)
        endpoints = endpoints_of(settings, clock, gates, relay, catalog, ready, scrape, runs)
        shared = Shared(self.store, keys, tokens, codex, logins, clock, lambda: max(len(sharing.members()), seat.count))
        endpoints = _late(endpoints, settings, shared, webhooks, readiness, stack)
        app, inflight = build_app(endpoints, frames)

        async def onboard() -> None:
            await logins.onboarding.step()

        poll = WindowPoll(pool, codex, tokens, self.store, clock, worker, settings.router.usage_poll_s)
        webhook_steps = () if webhooks is None else ((webhooks.step, WEBHOOK_INTERVAL_S),)
        background = Background(
            store=self.store, pool=pool, tokens=tokens, keys=keys, catalog=catalog, codex=codex, audit=audit,
            clock=clock, observer=observer, connections=self.connections, running=running, worker=worker,
            away=sharing.away,
            parting=(book.flush,),
            beside=(
                (onboard, ONBOARD_INTERVAL_S),
                (book.flush, USAGE_INTERVAL_S),
                (poll.step, POLL_INTERVAL_S),
                *webhook_steps,
                *(() if runs is None else ((runs.step, RUNS_INTERVAL_S),)),
                *sharing.steps(pool),
            ),
        )  # fmt: skip
        return Gateway(
            app, metrics_app(settings, seat, scrape, frames), inflight, readiness, background, pool, tokens,
            self.metrics, audit, self.store, self.connections, logins,
        )  # fmt: skip

    def _relay(self, pool: AccountPool, tokens: TokenSource, codex: CodexClient, observer: Observer) -> Relay:
        settings, clock = self.settings, self.clock
        return Relay(
            pool=pool,
            tokens=tokens,
            codex=codex,
            handshake=Handshake(settings.router.commit_hold_ms / 1e3, clock),
            ownership=Ownership(pool.placements, self.store, clock, others=self.sharing.others),
            budget=RetryBudget(settings.router.retry_budget_ratio, settings.router.retry_budget_min, clock),
            policy=RelayPolicy(settings.router.max_attempts, settings.router.wait_max_s),
            clock=clock,
            observer=observer,
        )

    def _audit(self) -> AuditLog | None:
        audit = self.settings.audit
        if not audit.enabled:
            return None
        return AuditLog(
            self.store, flush_s=audit.flush_ms / 1e3, queue_size=audit.queue, on_full=audit.on_full, clock=self.clock
        )
