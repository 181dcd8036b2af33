"""A process of its own that serves some requests out of one store: ``python -m tests.auth.worker`` with JSON on stdin.

Prints one JSON line: how each request ended. With ``die`` it kills itself with SIGKILL at that point of the refresh.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from auth.errors import CredentialError
from auth.oauth import OAuthClient, RefreshReason, TokenAnswer, TokenExchange
from auth.refresh import RefreshPolicy, RefreshStore
from auth.tokens import TokenSource
from ops.clock import SystemClock
from store.records import Account, Claim, Credential, RefreshIntent, Secret
from store.redis_link import is_redis
from store.redis_store import RedisStore
from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault
from tests.fakes.mortal import Life, MortalStore

KEY = bytes(range(32))
POINTS = ("before intent", "after intent", "after send", "after answer", "after persist")
QUICK = RefreshPolicy(
    scope="issuer|client",
    wait_s=20.0,
    exchange_s=1.0,
    spacing_s=0.0,
    poll_s=0.02,
    orphan_wait_s=1.6,
    claim_margin_s=0.5,
    backoff_s=0.05,
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(MortalStore):
    def __init__(self, store: RefreshStore, point: str | None) -> None:
        super().__init__(store, Life())
        self._point = point

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        if self._point == "before intent":
            die()
        intent = await super().begin_refresh(account_id, claim, token_digest)
        if self._point == "after intent":
            die()
        return intent

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        if self._point == "after answer":
            die()
        stored = await super().finish_refresh(credential, claim, expected_version)
        if self._point == "after persist":
            die()
        return stored


class DyingExchange:
    def __init__(self, exchange: TokenExchange, point: str | None) -> None:
        self._exchange = exchange
        self._point = point

    async def refresh(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer:
        if self._point == "after send":
            asyncio.get_running_loop().call_later(0.15, die)
        return await self._exchange.refresh(refresh_token, reason)


async def open_store(path: str) -> SqliteStore | RedisStore:
    """The file, or what a Redis URL names."""
    if is_redis(path):
        return await RedisStore.open(path, Vault(KeyRing([KEY])), prefix="codex-relay", timeout_s=5.0)
    return await SqliteStore.open(Path(path), Vault(KeyRing([KEY])), busy_timeout_s=5.0, verify=False)


async def main(order: dict[str, Any]) -> list[str]:
    store = await open_store(order["path"])
    tasks: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(trust_env=False) as http:
        exchange = DyingExchange(OAuthClient(http, order["issuer"], "client", QUICK.exchange_s), order.get("die"))

        def spawn(work: Any) -> asyncio.Task[None]:
            task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            return task

        tokens = TokenSource(
            DyingStore(store, order.get("die")),
            exchange,
            spawn,
            SystemClock(),
            random.Random(os.getpid()),
            replace(QUICK, spacing_s=order.get("spacing_s", 0.0)),
        )
        accounts = {account.id: account for account in await store.accounts()}
        asked = [accounts[account_id] for account_id in order["accounts"] for _ in range(order["requests"])]
        ended = await asyncio.gather(*(serve(tokens, account, order.get("tries", 1)) for account in asked))
        await tokens.drain()
    await store.close()
    return list(ended)


async def serve(tokens: TokenSource, account: Account, tries: int) -> str:
    ended = ""
    for _ in range(tries):
        try:
            return f"version {(await tokens.get(account)).version}"
        except CredentialError as error:
            ended = type(error).__name__
            await asyncio.sleep(0.1)
    return ended


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
