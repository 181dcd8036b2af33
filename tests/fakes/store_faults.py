"""A memory store whose writes fail, hang or are cut off where a test says so."""

from __future__ import annotations

import asyncio
from collections import Counter

from ops.clock import Clock
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from store.records import Claim, Credential, RefreshIntent


class FailingStore(MemoryStore):
    """``failing`` counts down per method name: so many calls fail before they change anything. A name in ``late``
    fails after the change was made, as a write does whose confirmation is lost."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.failing: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self.gates: dict[str, asyncio.Event] = {}

    async def _before(self, name: str) -> None:
        if name in self.gates:
            await self.gates[name].wait()
        self._count(self.failing, name)

    def _count(self, which: Counter[str], name: str) -> None:
        if which[name] > 0:
            which[name] -= 1
            raise StoreUnavailable(f"{name}: the database is locked")

    async def credential(self, account_id: str) -> Credential | None:
        await self._before("credential")
        return await super().credential(account_id)

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        await self._before("claim")
        return await super().claim(scope, holder, ttl_s)

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        await self._before("begin_refresh")
        return await super().begin_refresh(account_id, claim, token_digest)

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        await self._before("finish_refresh")
        stored = await super().finish_refresh(credential, claim, expected_version)
        self._count(self.late, "finish_refresh")
        return stored

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        await self._before("abandon_refresh")
        await super().abandon_refresh(account_id, claim, state)
