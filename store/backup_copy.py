"""How is a store that is no file backed up and restored?

By way of a database file that lives for the length of the command, in a private folder, sealed as any other: the
store is copied into it (store.copying) and that file is backed up; a restore goes the other way, into an empty store.
So there is one format of backups, whatever the store, and a backup of one kind can be restored into the other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from ops.clock import Clock
from store.backup import Restored, make_backup, restore_backup
from store.backup_file import Made
from store.base import Store
from store.copying import copy_store
from store.private_file import make_private_folders
from store.sqlite import SqliteStore
from store.vault import Vault

_BUSY_S: Final = 5.0


async def backup_through_file(source: Store, folder: Path, target: Path, vault: Vault, clock: Clock) -> Made:
    """Writes the backup ``target`` of ``source``; ``folder`` holds the file in between. Raises StoreError."""
    async with _passing(folder) as path:
        copy = await SqliteStore.open(path, vault, busy_timeout_s=_BUSY_S)
        try:
            await copy_store(source, copy)
        finally:
            await copy.close()
        return await asyncio.to_thread(make_backup, path, target, vault, clock)


async def restore_through_file(
    source: Path, open_target: Callable[[], Awaitable[Store]], folder: Path, vault: Vault, clock: Clock, actor: str
) -> Restored:
    """Fills the empty store that ``open_target`` gives from the backup ``source``. Raises StoreError."""
    async with _passing(folder) as path:
        done = await asyncio.to_thread(restore_backup, source, path, vault, clock, actor, force=False)
        copy = await SqliteStore.open(path, vault, busy_timeout_s=_BUSY_S)
        try:
            target = await open_target()
            try:
                await copy_store(copy, target)
            finally:
                await target.close()
        finally:
            await copy.close()
        return done


@asynccontextmanager
async def _passing(folder: Path) -> AsyncIterator[Path]:
    """A path in ``folder`` that nothing of is left at the end."""
    make_private_folders(folder)
    path = folder / f".passing-{secrets.token_hex(6)}.db"
    try:
        yield path
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
