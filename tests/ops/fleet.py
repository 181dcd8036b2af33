"""Two replicas of two workers each, one simulator, one Redis: four gateway processes that should behave as one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ops.simulator import RunningSimulator
from tests.ops.processes import Serving, furnish, kill, start, write_config
from tests.redis_server import RedisServer

WORKERS = 4


@dataclass(slots=True)
class Fleet:
    """``replicas`` share a folder, and with it the database and its key."""

    replicas: list[Serving]
    redis: RedisServer

    @contextlib.asynccontextmanager
    async def client_of(self, number: int) -> AsyncIterator[httpx.AsyncClient]:
        """A client whose one connection is served by process ``number`` of the four."""
        async with self.replicas[number // 2].client_of(number % 2) as client:
            yield client

    @property
    def accounts(self) -> list[str]:
        return self.replicas[0].accounts


@contextlib.asynccontextmanager
async def fleet(
    folder: Path,
    simulator: RunningSimulator,
    redis: RedisServer,
    *,
    accounts: int = 2,
    key_words: tuple[str, ...] = (),
    **sections: Mapping[str, Any],
) -> AsyncIterator[Fleet]:
    """Serving; nothing of it runs when the block ends."""
    store = {"hot_url": redis.url, "busy_timeout_s": 2.0, **sections.pop("store", {})}
    write_config(folder, simulator.base_url, store=store, **sections)
    key, ids = await furnish(folder, simulator, accounts, *key_words)
    replicas: list[Serving] = []
    try:
        for _ in range(2):
            replica = await start(folder, "--workers", "2")
            replica.key, replica.accounts = key, ids
            replicas.append(replica)
        yield Fleet(replicas, redis)
    finally:
        for replica in replicas:
            await kill(replica)
