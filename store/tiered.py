"""A durable store and a hot one as one Store.

Accounts, credentials, claims, keys, documents, audit: everything that must be kept goes to the durable store, by name
and unchanged, so that a method that is added there needs nothing here. Health, windows and placements go to the hot
store. The directory revision comes from the durable one.

Rules that hold when the hot store does not answer:

* ``changes`` goes on and tells the directory's news, with nothing hot and the cursor where it was;
* ``publish``, ``place``, ``placements``, ``purge`` raise StoreUnavailable, at once after the first time;
* ``check`` asks the durable store alone: a gateway without its hot store is degraded, and ready.

What the durable store still holds of health from a time without a hot store is handed over once, at the start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, cast

from store.base import Changes, Store
from store.errors import StoreUnavailable
from store.hot_line import HotLine
from store.records import HealthRecord, Placement, WindowRecord
from store.redis_hot import RedisHot


class _TieredStore:
    """Implements store.base.Store. Built by :func:`tiered`."""

    def __init__(self, durable: Store, hot: RedisHot, line: HotLine) -> None:
        self._durable = durable
        self._hot = hot
        self._line = line
        self._directory_cursor = 0

    def __getattr__(self, name: str) -> Any:
        """What is not hot is the durable store's."""
        return getattr(self._durable, name)

    async def changes(self, cursor: int) -> Changes:
        directory = await self._durable.changes(self._directory_cursor)
        self._directory_cursor = directory.cursor
        health, windows = directory.health, directory.windows
        with contextlib.suppress(StoreUnavailable):
            hot = await self._hot.changes(cursor)
            health, windows, cursor = health + hot.health, windows + hot.windows, hot.cursor
        return Changes(directory.directory_revision, health, windows, cursor)

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        await self._hot.publish(health, windows)

    async def place(self, placements: Sequence[Placement]) -> None:
        await self._hot.place(placements)

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        return await self._hot.placements(kind, digests)

    async def purge(self) -> int:
        return await self._durable.purge() + await self._hot.purge()

    async def remove_account(self, account_id: str) -> bool:
        """The account is gone when this returns; its health may stay until it ages when the hot store is away."""
        removed = await self._durable.remove_account(account_id)
        with contextlib.suppress(StoreUnavailable):
            await self._hot.forget_account(account_id)
        return removed

    async def close(self) -> None:
        try:
            await self._line.close()
        finally:
            await self._durable.close()


def tiered(durable: Store, hot: RedisHot, line: HotLine) -> Store:
    """``durable`` with ``hot`` (over ``line``) in place of its shared state; both are closed with it."""
    return cast("Store", _TieredStore(durable, hot, line))
