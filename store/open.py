"""Which store does a URL mean, and which key opens it?

    sqlite:///data/relay.db      a file, relative to the working directory
    sqlite:////var/lib/relay.db  a file, absolute
    memory://                    this process only, nothing kept

Rules that hold:

* a key is made for a database that does not exist yet, and never beside one that does: a new key cannot open it;
* keys are made by the supervisor alone, with :func:`prepare_key`, before it starts workers; opening never makes one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ops.clock import Clock
from store.base import Store
from store.errors import StoreUnusable, WrongKey
from store.keyfile import KeyProvider
from store.memory import MemoryStore
from store.sqlite import SqliteStore
from store.vault import Vault

_SQLITE: Final = "sqlite:///"
_MEMORY: Final = "memory://"


def sqlite_path(url: str) -> Path | None:
    """The file that the URL names; None for ``memory://``. Raises StoreUnusable for anything else."""
    if url == _MEMORY:
        return None
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return Path(url.removeprefix(_SQLITE))
    scheme = url.partition(":")[0][:20]  # the rest may hold a password
    raise StoreUnusable(f"store.url of scheme {scheme!r} is not known; use sqlite:///PATH or memory://")


def prepare_key(keys: KeyProvider, url: str) -> Path | None:
    """Sees to it that there is a key for the store of ``url``; blocking, before anything is opened.

    Returns the path of the key file when one was made now (tell the operator to back it up), else None. Raises
    WrongKey when the key cannot be used, or is missing while the database exists; then nothing was made.
    """
    path = sqlite_path(url)
    if path is None:
        return None
    if not keys.present():
        if os.path.lexists(path) or os.path.lexists(f"{path}-wal"):
            raise WrongKey(f"{keys.source} is missing, but database {path} exists; restore the key from its backup")
        return keys.create()
    keys.load()
    return None


async def open_store(
    url: str, *, keys: KeyProvider, busy_timeout_s: float, clock: Clock | None = None, verify: bool = True
) -> Store:
    """The store of ``url``, ready for use; close it when done.

    Args: ``busy_timeout_s`` bounds the wait for a lock; ``clock`` replaces the database's own clock (tests);
    ``verify`` reads the whole file first: a worker may leave it out when its supervisor has done so.
    Raises StoreUnusable (StoreCorrupt, FutureSchema, WrongKey) with the file untouched, StoreUnavailable when the
    file is locked or the disk refuses. Nothing stays open then.
    """
    path = sqlite_path(url)
    if path is None:
        return MemoryStore(clock)
    return await SqliteStore.open(
        path, Vault(keys.load(), keys), busy_timeout_s=busy_timeout_s, clock=clock, verify=verify
    )
