"""The composition root: settings in, a running gateway out. Everything is built here and handed its values.

``open_gateway`` builds one process's gateway, loads its first snapshot, starts what runs beside the requests, and on
the way out stores what must not be lost (refreshed tokens, audit records) before it closes the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from auth.hooks import RefreshHooks
from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from auth.limits import CallerLimits
from auth.oauth import OAuthClient
from auth.refresh import RefreshPolicy
from auth.spool import FileSpool, NoSpool, Spool
from auth.tokens import TokenSource
from gateway.adapt import Mode
from gateway.app import Endpoints, Frames, build_app, build_metrics_app
from gateway.catalog import ModelCatalog
from gateway.codex_paths import CodexPaths
from gateway.guard import Guard
from gateway.handshake import Handshake
from gateway.idempotency import IdempotencyGate
from gateway.info import MetricsEndpoint, ModelsEndpoint, ReadyEndpoint
from gateway.middleware import App, Inflight
from gateway.models import ModelTable
from gateway.observe import Observer
from gateway.ownership import Ownership
from gateway.parse import RequestParser
from gateway.relay import Relay, RelayPolicy
from gateway.responses import Gates, ResponsesEndpoint
from gateway.revocation import RunningRequests
from gateway.streaming import StreamingRelay
from gateway.whole import WholeRelay
from ops.audit import AuditLog
from ops.background import Background
from ops.clock import Clock
from ops.log import get_logger
from ops.metrics import Metrics
from ops.settings import Settings
from router.pool import AccountPool
from router.retry import RetryBudget
from router.types import PoolRules
from store.base import Store
from store.counters import CounterFile, LocalCounters, LocalStreams, SharedCounters, SharedStreams
from store.keyfile import KeyProvider
from store.open import key_provider, open_store, sqlite_path
from store.records import Account, Limits, Secret
from store.vault import Place, Vault
from upstream.client import CodexClient
from upstream.dial import Dialer, tls_context
from upstream.http2 import Http2Sender
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool
from upstream.types import ClientSettings, Identity, Timeouts

MIB = 1024 * 1024
KIB = 1024


@dataclass(frozen=True, slots=True)
class Seat:
    """Which worker this is, of how many; ``counters`` is the file that they count in together."""

    index: int = 0
    count: int = 1
    counters: Path | None = None

    @property
    def name(self) -> str:
        return f"worker-{self.index}"

    def share(self, total: int) -> int:
        """This worker's part of ``total``, so that the parts sum up; at least 1 unless ``total`` is 0 (no limit).

        A ``total`` below the number of workers cannot be shared out; ops.main refuses it.
        """
        part = total // self.count + (self.index < total % self.count)
        return max(1, part) if total else 0


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


def key_secret(settings: Settings) -> Secret | None:
    value = settings.vault.key
    return Secret(value.get_secret_value()) if value is not None else None


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings, seat: Seat, clock: Clock, metrics: Metrics) -> AsyncIterator[Gateway]:
    """Builds and starts; drains and closes on the way out. Raises StoreError before anything runs.

    The store has been checked and migrated before: ops.main.prepare.
    """
    keys = key_provider(settings.vault.provider, key_secret(settings), settings.vault.key_file)
    store = await open_store(settings.store.url, keys=keys, busy_timeout_s=settings.store.busy_timeout_s, verify=False)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        connections = ConnectionPool(Dialer(tls_context(settings.upstream.ca_file), settings.upstream.proxy), clock)
        stack.push_async_callback(connections.aclose)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=PoolTransport(connections), follow_redirects=False, trust_env=False)
        )
        builder = _Builder(settings, seat, clock, metrics, store, connections, http)
        gateway = await builder.build(stack, spool_of(settings, keys))
        await gateway.tokens.recover()
        await gateway.background.share()
        stack.push_async_callback(_settle, gateway, gateway.background.start())
        yield gateway


async def _settle(gateway: Gateway, tasks: list[asyncio.Task[None]]) -> None:
    """The end: refreshes first, then what other workers should know, then the audit log."""
    await gateway.tokens.drain()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await gateway.background.farewell()
    if gateway.audit is not None:
        await gateway.audit.close()


def spool_of(settings: Settings, keys: KeyProvider) -> Spool:
    """Beside the database, sealed by the vault; none for a store that keeps nothing."""
    path = sqlite_path(settings.store.url)
    if path is None:
        return NoSpool()
    vault = Vault(keys.load())

    def place(account_id: str) -> Place:
        return Place("spool", account_id, "credential", 1)

    return FileSpool(
        path.with_name(path.name + ".spool"),
        lambda account_id, data: vault.seal(data, place(account_id)),
        lambda account_id, data: vault.open(data, place(account_id)),
    )


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

    async def build(self, stack: contextlib.AsyncExitStack, spool: Spool) -> Gateway:
        settings, clock = self.settings, self.clock
        audit = self._audit()
        observer = Observer(get_logger(), self.metrics, audit, clock)
        codex = await self._codex(stack)
        pool = AccountPool(self._pool_rules(), clock, random.SystemRandom(), f"{self.seat.name}:{os.getpid()}")
        tokens = self._tokens(spool, observer)
        keys = await self._key_directory()
        table = ModelTable(
            dict(settings.models.aliases), frozenset(settings.models.hidden), settings.models.list_efforts
        )
        catalog = ModelCatalog(codex, tokens, pool, table, settings.models.cache_s, clock)
        ownership = Ownership(pool.placements, self.store, clock, others=self.seat.count > 1)
        relay = Relay(
            pool=pool,
            tokens=tokens,
            codex=codex,
            handshake=Handshake(settings.router.commit_hold_ms / 1e3, clock),
            ownership=ownership,
            budget=RetryBudget(settings.router.retry_budget_ratio, settings.router.retry_budget_min, clock),
            policy=RelayPolicy(settings.router.max_attempts, settings.router.wait_max_s),
            clock=clock,
            observer=observer,
        )
        readiness = Readiness(audit)
        running = RunningRequests(keys, clock)
        endpoints = self._endpoints(self._gates(stack, running, observer), relay, table, catalog, readiness)
        frames = self._frames(keys, observer, audit)
        app, inflight = build_app(endpoints, frames)
        background = Background(
            store=self.store,
            pool=pool,
            tokens=tokens,
            keys=keys,
            catalog=catalog,
            codex=codex,
            audit=audit,
            clock=clock,
            observer=observer,
            connections=self.connections,
            running=running,
            worker=f"{self.seat.name}:{os.getpid()}",
        )
        if self.seat.count > 1:
            pool.placements.on_news = background.hurry
        metrics_app = self._metrics_app(frames)
        return Gateway(
            app,
            metrics_app,
            inflight,
            readiness,
            background,
            pool,
            tokens,
            self.metrics,
            audit,
            self.store,
            self.connections,
        )

    def _audit(self) -> AuditLog | None:
        audit = self.settings.audit
        if not audit.enabled:
            return None
        return AuditLog(
            self.store, flush_s=audit.flush_ms / 1e3, queue_size=audit.queue, on_full=audit.on_full, clock=self.clock
        )

    async def _codex(self, stack: contextlib.AsyncExitStack) -> CodexClient:
        upstream = self.settings.upstream
        values = ClientSettings(
            base_url=upstream.base_url,
            chatgpt_base_url=upstream.chatgpt_base_url,
            identity=Identity(upstream.originator, upstream.user_agent, upstream.client_version),
            timeouts=Timeouts(
                connect_s=upstream.connect_timeout_s,
                first_event_s=upstream.first_event_timeout_s,
                idle_s=upstream.idle_timeout_s,
                total_s=upstream.total_timeout_s,
            ),
            max_event_bytes=upstream.max_event_mib * MIB,
            max_stream_bytes=upstream.max_stream_mib * MIB,
        )
        http2 = None
        if upstream.http2:

            def make() -> httpx.AsyncClient:
                return httpx.AsyncClient(
                    http2=True,
                    verify=tls_context(upstream.ca_file),
                    proxy=upstream.proxy,
                    follow_redirects=False,
                    trust_env=False,
                )

            http2 = Http2Sender(make, self.connections, self.clock)
            stack.push_async_callback(http2.aclose)
        return CodexClient(values, self.connections, self.http, self.clock, http2)

    def _pool_rules(self) -> PoolRules:
        router = self.settings.router
        return PoolRules(
            breaker_failures=router.breaker_failures,
            breaker_open_s=router.breaker_open_s,
            breaker_open_max_s=router.breaker_open_max_s,
            breaker_successes=router.breaker_successes,
            cooldown_base_s=router.cooldown_base_s,
            cooldown_max_s=router.cooldown_max_s,
            probe_interval_s=router.probe_interval_s,
            affinity_ttl_s=router.affinity_ttl_s,
            owner_ttl_s=router.owner_ttl_s,
            per_account_concurrency=self.seat.share(router.per_account_concurrency),
        )

    def _tokens(self, spool: Spool, observer: Observer) -> TokenSource:
        oauth = self.settings.oauth
        exchange = OAuthClient(self.http, oauth.issuer, oauth.client_id, oauth.refresh_timeout_s)
        policy = RefreshPolicy(
            scope=f"{oauth.issuer} {oauth.client_id}",
            ahead_s=oauth.refresh_ahead_s,
            wait_s=oauth.refresh_wait_s,
            exchange_s=oauth.refresh_timeout_s,
            spacing_s=oauth.refresh_spacing_s,
        )
        loop = asyncio.get_running_loop()
        hooks = RefreshHooks(event=observer.refresh, alert=observer.alert, changed=self._account_changed)
        return TokenSource(
            self.store, exchange, loop.create_task, self.clock, random.SystemRandom(), policy, hooks=hooks, spool=spool
        )

    def _account_changed(self, account: Account) -> None:
        get_logger().warning("account_changed", account=account.id, status=account.status.value)

    async def _key_directory(self) -> KeyDirectory:
        pepper = await self.store.sealed_value("pepper", secrets.token_bytes(PEPPER_BYTES))
        limits = self.settings.limits
        return KeyDirectory(
            KeyRing(pepper),
            Limits(limits.key_requests_per_minute, limits.key_concurrent_streams),
            Limits(limits.tenant_requests_per_minute, limits.tenant_concurrent_streams),
        )

    def _gates(self, stack: contextlib.AsyncExitStack, running: RunningRequests, observer: Observer) -> Gates:
        """Local counters for one process; a small shared file for several."""
        clock = self.clock
        if self.seat.counters is None:
            limits = CallerLimits(LocalCounters(clock), LocalStreams(self.seat.name), clock)
            return Gates(limits, IdempotencyGate(clock), running, observer.shed)
        file = CounterFile(self.seat.counters)
        stack.callback(file.close)
        streams = SharedStreams(file, self.seat.name)
        streams.clear_owner(self.seat.name)
        counters = SharedCounters(file, clock)
        return Gates(CallerLimits(counters, streams, clock), IdempotencyGate(clock, counters), running, observer.shed)

    def _endpoints(
        self, gates: Gates, relay: Relay, table: ModelTable, catalog: ModelCatalog, readiness: Readiness
    ) -> Endpoints:
        settings, server = self.settings, self.settings.server
        parser = RequestParser(
            table,
            lambda: catalog.known,
            Mode(settings.models.adaptation),
            server.max_body_mib * MIB,
            settings.upstream.total_timeout_s,
        )
        streaming = StreamingRelay(relay, relay.ownership, gates.running, server.heartbeat_s, self.clock)
        whole = WholeRelay(relay, relay.ownership, self.clock)
        https = server.tls_cert_file is not None or (server.public_url or "").startswith("https://")
        return Endpoints(
            responses=ResponsesEndpoint(parser, gates, streaming, whole),
            models=ModelsEndpoint(catalog),
            native_models=ModelsEndpoint(catalog, native=True),
            codex_paths=CodexPaths(relay.pool, self.clock, https=https),
            ready=ReadyEndpoint(self.store, readiness.reason),
            metrics=self._metrics() if settings.metrics.port is None else None,
        )

    def _metrics(self) -> MetricsEndpoint | None:
        metrics = self.settings.metrics
        return MetricsEndpoint(self.metrics.render, require_key=metrics.require_key) if metrics.enabled else None

    def _metrics_app(self, frames: Frames) -> App | None:
        """For a port of its own; of several workers the first serves it."""
        metrics = self._metrics()
        if metrics is None or self.settings.metrics.port is None or self.seat.index:
            return None
        return build_metrics_app(metrics, frames)

    def _frames(self, keys: KeyDirectory, observer: Observer, audit: AuditLog | None) -> Frames:
        server = self.settings.server
        return Frames(
            guard=partial(
                Guard,
                max_headers=server.max_headers,
                max_header_bytes=server.max_header_kib * KIB,
                max_body_bytes=server.max_body_mib * MIB,
            ),
            keys=keys,
            clock=self.clock,
            observer=observer,
            max_inflight=server.max_inflight,
            on_shed=observer.shed,
            audit_full=lambda: audit is not None and audit.full,
            metrics_open=not self.settings.metrics.require_key,
        )
