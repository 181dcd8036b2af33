"""Stores for what stands on documents: the one of memory, and SQLite in a folder, both on the test's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from store.base import Store
from store.memory import MemoryStore
from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault
from tests.fakes.clock import FakeClock

KINDS = ("memory", "sqlite")


@asynccontextmanager
async def opened(kind: str, clock: FakeClock, folder: Path) -> AsyncIterator[tuple[Store, Store]]:
    """Two handles on the same records, as two processes would have."""
    if kind == "memory":
        store = MemoryStore(clock)
        yield store, store
        return
    vault = Vault(KeyRing([b"k" * 32]))
    first = await SqliteStore.open(folder / "relay.db", vault, busy_timeout_s=5.0, clock=clock)
    second = await SqliteStore.open(folder / "relay.db", vault, busy_timeout_s=5.0, clock=clock)
    try:
        yield first, second
    finally:
        await first.close()
        await second.close()
