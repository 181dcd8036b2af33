"""A process that can be killed or frozen at any step it takes outside itself.

``Life.step`` stands before and after every call to the store and the issuer. Once dead, every further step raises
Killed too, so that nothing a dying process does in its ``finally`` reaches the store, as with kill -9.
"""

from __future__ import annotations

import asyncio

from auth.oauth import RefreshReason, TokenAnswer, TokenExchange
from auth.refresh import RefreshStore
from store.records import Account, Claim, Credential, RefreshIntent, Secret


class Killed(BaseException):
    """The process is no more."""


class Life:
    """Steps count from 1. At ``die_at`` the process is killed; from ``freeze_at`` on it stands still until ``thaw``."""

    def __init__(self, die_at: int | None = None, freeze_at: int | None = None) -> None:
        self.die_at = die_at
        self.freeze_at = freeze_at
        self.dead = False
        self.steps = 0
        self._awake = asyncio.Event()
        self._awake.set()

    def freeze(self) -> None:
        self._awake.clear()

    def thaw(self) -> None:
        self._awake.set()

    async def step(self) -> None:
        self.steps += 1
        if self.die_at is not None and self.steps >= self.die_at:
            self.dead = True
        if self.steps == self.freeze_at:
            self.freeze()
        if not self.dead:
            await self._awake.wait()
        if self.dead:
            raise Killed


class MortalStore:
    """The store as one process reaches it."""

    def __init__(self, store: RefreshStore, life: Life) -> None:
        self._store = store
        self._life = life

    async def accounts(self) -> tuple[Account, ...]:
        return await self._store.accounts()

    async def account(self, account_id: str) -> Account | None:
        await self._life.step()
        return await self._store.account(account_id)

    async def add_account(self, account: Account, credential: Credential) -> None:
        await self._life.step()
        await self._store.add_account(account, credential)
        await self._life.step()

    async def put_account(self, account: Account, expected_version: int) -> Account:
        await self._life.step()
        stored = await self._store.put_account(account, expected_version)
        await self._life.step()
        return stored

    async def remove_account(self, account_id: str) -> bool:
        await self._life.step()
        return await self._store.remove_account(account_id)

    async def credential(self, account_id: str) -> Credential | None:
        await self._life.step()
        return await self._store.credential(account_id)

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        await self._life.step()
        stored = await self._store.put_credential(credential, expected_version)
        await self._life.step()
        return stored

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        await self._life.step()
        taken = await self._store.claim(scope, holder, ttl_s)
        await self._life.step()
        return taken

    async def release(self, claim: Claim) -> None:
        await self._life.step()
        await self._store.release(claim)
        await self._life.step()

    async def intent(self, account_id: str) -> RefreshIntent | None:
        await self._life.step()
        return await self._store.intent(account_id)

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        await self._life.step()
        intent = await self._store.begin_refresh(account_id, claim, token_digest)
        await self._life.step()
        return intent

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        await self._life.step()
        stored = await self._store.finish_refresh(credential, claim, expected_version)
        await self._life.step()
        return stored

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        await self._life.step()
        await self._store.abandon_refresh(account_id, claim, state)
        await self._life.step()


class MortalExchange:
    """The issuer as one process reaches it: it may die before it sends and after the answer was made."""

    def __init__(self, exchange: TokenExchange, life: Life) -> None:
        self._exchange = exchange
        self._life = life

    async def refresh(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer:
        self._life.steps += 1
        if self._life.dead or self._life.steps == self._life.die_at:
            self._life.dead = True
            raise Killed
        answer = await self._exchange.refresh(refresh_token, reason)
        self._life.steps += 1
        if self._life.dead or self._life.steps == self._life.die_at:
            self._life.dead = True
            raise Killed
        return answer
