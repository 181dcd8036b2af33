"""Which store does a URL mean, and which key opens it?

    sqlite:///data/relay.db      a file, relative to the working directory
    sqlite:////var/lib/relay.db  a file, absolute
    redis://host:6379/0          a Redis server, for replicas on several hosts (rediss://, unix:// too)
    memory://                    this process only, nothing kept

Rules that hold:

* a key is made for a database that does not exist yet, and never beside one that does: a new key cannot open it. In
  Redis the store under the prefix is the database;
* keys are made by the supervisor alone, with :func:`prepare_key`, before it starts workers; opening never makes one.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Final

from ops.clock import Clock
from store.base import Store
from store.errors import StoreUnusable, WrongKey
from store.keyfile import KeyProvider
from store.memory import MemoryStore
from store.redis_link import is_redis
from store.redis_open import nothing_there
from store.redis_store import RedisStore
from store.sqlite import SqliteStore
from store.vault import Vault

_SQLITE: Final = "sqlite:///"
_MEMORY: Final = "memory://"


DEFAULT_PREFIX: Final = "codex-relay"
_REDIS_TIMEOUT_S: Final = 5.0  # for the one question whether there is a store, before anything is opened


class StoreKind(StrEnum):
    """What a store can be shared by: the workers of one machine, replicas of several, or nobody."""

    SQLITE = "sqlite"
    REDIS = "redis"
    MEMORY = "memory"


def store_kind(url: str) -> StoreKind:
    """What the URL means. Raises StoreUnusable when that is not known."""
    if url == _MEMORY:
        return StoreKind.MEMORY
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return StoreKind.SQLITE
    if is_redis(url):
        return StoreKind.REDIS
    scheme = url.partition(":")[0][:20]  # the rest may hold a password
    raise StoreUnusable(
        f"store.url of scheme {scheme!r} is not known; use sqlite:///PATH, redis://HOST:PORT/DB or memory://"
    )


def sqlite_path(url: str) -> Path | None:
    """The file that the URL names; None when it names none. Raises StoreUnusable for a URL that is not known."""
    return Path(url.removeprefix(_SQLITE)) if store_kind(url) is StoreKind.SQLITE else None


def prepare_key(keys: KeyProvider, url: str, *, prefix: str = DEFAULT_PREFIX) -> Path | None:
    """Sees to it that there is a key for the store of ``url``; blocking, before anything is opened.

    ``prefix`` is where the store rests in Redis, which is asked only when the key is missing. Returns the path of the
    key file when one was made now (tell the operator to back it up), else None. Raises WrongKey when the key cannot
    be used, or is missing while the database exists; StoreUnavailable or StoreUnusable when Redis cannot be asked.
    Then nothing was made.
    """
    kind = store_kind(url)
    if kind is StoreKind.MEMORY:
        return None
    if keys.present():
        keys.load()
        return None
    path = sqlite_path(url)
    if path is not None and (os.path.lexists(path) or os.path.lexists(f"{path}-wal")):
        raise WrongKey(f"{keys.source} is missing, but database {path} exists; restore the key from its backup")
    if kind is StoreKind.REDIS and not nothing_there(url, prefix, _REDIS_TIMEOUT_S):
        raise WrongKey(
            f"{keys.source} is missing, but Redis holds a store under {prefix!r}; copy the key from the other replicas "
            "or its backup"
        )
    return keys.create()


async def open_store(
    url: str,
    *,
    keys: KeyProvider,
    busy_timeout_s: float,
    clock: Clock | None = None,
    verify: bool = True,
    prefix: str = DEFAULT_PREFIX,
    create: bool = True,
) -> Store:
    """The store of ``url``, ready for use; close it when done.

    Args: ``busy_timeout_s`` bounds the wait for a lock, or for an answer of Redis; ``clock`` replaces the database's
    own clock (tests); ``verify`` reads the whole file first, and warns of settings of Redis that may lose records: a
    worker may leave it out when its supervisor has done so; ``prefix`` is where the store rests in Redis; ``create``
    lets a store begin there: a worker leaves it out, as a server that lost its data must not look like a new one.
    Raises StoreUnusable (StoreCorrupt, FutureSchema, WrongKey) with the file untouched, StoreUnavailable when the
    file is locked or the disk refuses. Nothing stays open then.
    """
    kind = store_kind(url)
    if kind is StoreKind.MEMORY:
        return MemoryStore(clock)
    vault = Vault(keys.load(), keys)
    if kind is StoreKind.REDIS:
        return await RedisStore.open(
            url, vault, prefix=prefix, timeout_s=busy_timeout_s, clock=clock, create=create, warn=verify
        )
    path = Path(url.removeprefix(_SQLITE))
    return await SqliteStore.open(path, vault, busy_timeout_s=busy_timeout_s, clock=clock, verify=verify)
