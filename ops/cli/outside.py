"""What a command needs to speak to the issuer and the upstream: the gateway's own parts, for the length of a command.

A refresh by an operator takes the same claim, intent and compare-and-put as one by a worker, so it may run beside a
serving gateway. An exchange that was sent is waited for until its tokens are stored, also when the command is
interrupted.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from auth.importer import Importer
from auth.oauth import OAuthClient
from auth.refresh import RefreshPolicy
from auth.tokens import TokenSource
from ops.cli.session import Session
from ops.house_logins import Entrance, entrance, importer_of
from ops.house_relay import client_settings
from ops.house_store import keys_of, spool_of
from store.records import AuditRecord
from upstream.client import CodexClient
from upstream.dial import Dialer, tls_context
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class Outside:
    """Tokens that live, the backend that takes them, and the way in and out for accounts."""

    tokens: TokenSource
    codex: CodexClient
    entrance: Entrance


@asynccontextmanager
async def outside(session: Session) -> AsyncIterator[Outside]:
    """Built from the session's settings; everything is closed afterwards."""
    settings = session.settings
    pool = ConnectionPool(Dialer(tls_context(settings.upstream.ca_file), settings.upstream.proxy), session.clock)
    running: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    async with httpx.AsyncClient(transport=PoolTransport(pool), trust_env=False) as http:
        oauth = OAuthClient(http, settings.oauth.issuer, settings.oauth.client_id, settings.oauth.refresh_timeout_s)
        policy = RefreshPolicy(
            scope=f"{settings.oauth.issuer} {settings.oauth.client_id}",
            exchange_s=settings.oauth.refresh_timeout_s,
            spacing_s=settings.oauth.refresh_spacing_s,
        )
        tokens = TokenSource(
            session.store,
            oauth,
            spawn,
            session.clock,
            random.SystemRandom(),
            policy,
            spool=spool_of(settings, keys_of(settings)),
        )
        codex = CodexClient(client_settings(settings), pool, http, session.clock)

        async def record(one: AuditRecord) -> None:
            await session.store.append_audit([one])

        noted = record if settings.audit.enabled else None
        logins = entrance(settings, session.store, http, codex, session.clock, f"cli:{os.getpid()}", noted)
        try:
            yield Outside(tokens, codex, logins)
        finally:
            await tokens.drain()
            await logins.onboarding.drain()
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await pool.aclose()


def importer(session: Session, codex: CodexClient | None) -> Importer:
    """The importer of this session; with ``codex`` it asks the backend about each account."""
    return importer_of(session.settings, session.store, codex, session.clock)
