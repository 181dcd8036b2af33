"""The stores that the contract is held against. A new backend joins by one class here."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from store.base import Store
from store.memory import MemoryStore
from store.redis_store import RedisStore
from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault
from tests.fakes.clock import FakeClock
from tests.redis_server import RedisServer, redis_server


class Backend(Protocol):
    async def handle(self) -> Store:
        """Another handle on the same records, as another process would have; the same one where there is one only."""

    async def close(self) -> None: ...


class MemoryBackend:
    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self._store = MemoryStore(clock)

    async def handle(self) -> Store:
        return self._store

    async def close(self) -> None:
        await self._store.close()


class SqliteBackend:
    def __init__(self, clock: FakeClock, folder: Path) -> None:
        self._clock = clock
        self._path = folder / "relay.db"
        self._vault = Vault(KeyRing([b"k" * 32]))
        self._open: list[SqliteStore] = []

    async def handle(self) -> Store:
        store = await SqliteStore.open(self._path, self._vault, busy_timeout_s=2.0, clock=self._clock)
        self._open.append(store)
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()


class RedisBackend:
    """A store under a prefix of its own, on a server that all tests of this process share."""

    def __init__(self, clock: FakeClock, server: RedisServer, prefix: str) -> None:
        self._clock = clock
        self._url = server.url
        self._prefix = prefix
        self._vault = Vault(KeyRing([b"k" * 32]))
        self._open: list[RedisStore] = []

    async def handle(self) -> Store:
        store = await RedisStore.open(self._url, self._vault, prefix=self._prefix, timeout_s=5.0, clock=self._clock)
        self._open.append(store)
        return store

    async def close(self) -> None:
        for store in self._open:
            await store.close()


BACKENDS: dict[str, Callable[[FakeClock, Path], Backend]] = {"memory": MemoryBackend, "sqlite": SqliteBackend}
REDIS = "redis"
_PREFIXES = itertools.count()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(params=[*BACKENDS, pytest.param(REDIS, marks=pytest.mark.slow)])
async def backend(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Backend]:
    made: Backend
    if request.param == REDIS:
        made = RedisBackend(clock, request.getfixturevalue("shared_redis"), f"test-{next(_PREFIXES)}")
    else:
        made = BACKENDS[request.param](clock, tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.handle()


@pytest.fixture
async def other(backend: Backend, store: Store) -> Store:
    """A second handle, opened after ``store``."""
    return await backend.handle()
