"""The parts that relay: the client of the upstream, the tokens, the rules of the pool, the keys of the callers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets

import httpx

from auth.hooks import RefreshHooks
from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from auth.oauth import OAuthClient
from auth.refresh import RefreshPolicy
from auth.spool import Spool
from auth.tokens import TokenSource
from gateway.budget import BudgetRules, TaskBudgets
from gateway.observe import Observer
from ops.clock import Clock
from ops.log import get_logger
from ops.seat import Seat
from ops.settings import Settings
from router.types import PoolRules
from store.base import Store
from store.records import Account, Limits
from upstream.client import CodexClient
from upstream.dial import tls_context
from upstream.http2 import Http2Sender
from upstream.pool import ConnectionPool
from upstream.types import ClientSettings, Identity, Timeouts

MIB = 1024 * 1024


def client_settings(settings: Settings) -> ClientSettings:
    """The values that the upstream's client works by."""
    upstream = settings.upstream
    return ClientSettings(
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


def codex_client(
    settings: Settings,
    connections: ConnectionPool,
    http: httpx.AsyncClient,
    clock: Clock,
    stack: contextlib.AsyncExitStack,
) -> CodexClient:
    """The client of the upstream; what it opens for HTTP/2 is closed with ``stack``."""
    upstream = settings.upstream
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

        http2 = Http2Sender(make, connections, clock)
        stack.push_async_callback(http2.aclose)
    return CodexClient(client_settings(settings), connections, http, clock, http2)


def pool_rules(settings: Settings, seat: Seat) -> PoolRules:
    router = settings.router
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
        policy=router.policy,
        reserve_percent=router.reserve_percent,
        per_account_concurrency=seat.share(router.per_account_concurrency),
    )


def token_source(
    settings: Settings, store: Store, http: httpx.AsyncClient, clock: Clock, spool: Spool, observer: Observer
) -> TokenSource:
    """The accounts' tokens, refreshed by the claim protocol. Call it inside the running loop."""
    oauth = settings.oauth
    exchange = OAuthClient(http, oauth.issuer, oauth.client_id, oauth.refresh_timeout_s)
    policy = RefreshPolicy(
        scope=f"{oauth.issuer} {oauth.client_id}",
        ahead_s=oauth.refresh_ahead_s,
        wait_s=oauth.refresh_wait_s,
        exchange_s=oauth.refresh_timeout_s,
        spacing_s=oauth.refresh_spacing_s,
    )
    loop = asyncio.get_running_loop()
    hooks = RefreshHooks(event=observer.refresh, alert=observer.alert, changed=_account_changed)
    return TokenSource(
        store, exchange, loop.create_task, clock, random.SystemRandom(), policy, hooks=hooks, spool=spool
    )


def _account_changed(account: Account) -> None:
    get_logger().warning("account_changed", account=account.id, status=account.status.value)


async def key_directory(settings: Settings, store: Store) -> KeyDirectory:
    """The keys of the callers, still empty: the first share loads them."""
    pepper = await store.sealed_value("pepper", secrets.token_bytes(PEPPER_BYTES))
    limits = settings.limits
    return KeyDirectory(
        KeyRing(pepper),
        Limits(limits.key_requests_per_minute, limits.key_concurrent_streams),
        Limits(limits.tenant_requests_per_minute, limits.tenant_concurrent_streams),
    )


def task_budgets(settings: Settings, store: Store, clock: Clock) -> TaskBudgets:
    """The budgets of tasks; what a call holds outlasts the longest stream."""
    return TaskBudgets(store, clock, BudgetRules(hold_s=settings.upstream.total_timeout_s + 60.0))
