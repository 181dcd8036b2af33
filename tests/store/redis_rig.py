"""Redis stores of a test, on a server of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from store.redis_link import RedisLink
from store.redis_store import RedisStore
from store.vault import KeyRing, Vault

KEY = b"k" * 32
PREFIX = "test"


def a_vault(key: bytes = KEY) -> Vault:
    return Vault(KeyRing([key]))


async def opened(url: str, key: bytes = KEY, **options: Any) -> RedisStore:
    values: dict[str, Any] = {"prefix": PREFIX, "timeout_s": 2.0, **options}
    return await RedisStore.open(url, a_vault(key), **values)


@contextlib.asynccontextmanager
async def store_on(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = await opened(url, **options)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def line_to(url: str) -> AsyncIterator[RedisLink]:
    """A bare line, to do to the data what only a stranger would."""
    link = RedisLink(url, name="stranger", timeout_s=2.0)
    try:
        yield link
    finally:
        await link.close()


async def everything(link: RedisLink) -> dict[bytes, bytes | None]:
    """Every key with a dump of its value."""
    keys = sorted(await link.call("KEYS", "*"))
    return {key: await link.call("DUMP", key) for key in keys}
