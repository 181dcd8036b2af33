"""What a command needs to speak to the issuer and the upstream: the gateway's own parts, for the length of a command.

A refresh by an operator takes the same claim, intent and compare-and-put as one by a worker, so it may run beside a
serving gateway. An exchange that was sent is waited for until its tokens are stored, also when the command is
interrupted.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from auth.check import AccountCheck
from auth.errors import ImportRefused
from auth.importer import Importer
from auth.oauth import OAuthClient
from auth.refresh import RefreshPolicy
from auth.tokens import TokenSource
from ops.cli.session import Session
from ops.house_relay import client_settings
from ops.house_store import keys_of, spool_of
from store.records import Secret
from upstream.client import CodexClient
from upstream.dial import Dialer, parse_origin, tls_context
from upstream.errors import UpstreamError
from upstream.httpx_transport import PoolTransport
from upstream.pool import ConnectionPool


@dataclass(frozen=True, slots=True)
class Outside:
    """Tokens that live, and the backend that takes them."""

    tokens: TokenSource
    codex: CodexClient


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
        try:
            yield Outside(tokens, codex)
        finally:
            await tokens.drain()
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await pool.aclose()


def importer(session: Session, codex: CodexClient | None) -> Importer:
    """The importer of this session; with ``codex`` it asks the backend about each account."""
    upstream = session.settings.upstream
    origin, _ = parse_origin(upstream.base_url)

    async def check(access_token: Secret, account_id: str) -> AccountCheck | None:
        if codex is None:
            return None
        try:
            entries = await codex.accounts_check(access_token, account_id)
        except UpstreamError:
            return None  # the importer says so, and goes on
        mine = [one for one in entries if one.account_id == account_id]
        if len(mine) != 1:
            raise ImportRefused(
                "account_not_listed",
                "the backend does not list this account for its token; log in again with the workspace that you want",
            )
        return AccountCheck(mine[0].plan, mine[0].workspace_origin, mine[0].routing_override)

    return Importer(
        session.store,
        check if codex is not None else None,
        session.clock,
        home_origin=f"{origin.scheme}://{origin.authority.decode()}",
        allowed_origins=upstream.allowed_origins,
    )
