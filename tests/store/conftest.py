"""A SQLite store on a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault

KEY = b"k" * 32
Opener = Callable[..., Awaitable[SqliteStore]]


def a_vault(key: bytes = KEY) -> Vault:
    return Vault(KeyRing([key]))


def contents(folder: Path) -> dict[str, str]:
    """Every file of the folder with the digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "relay.db"


@pytest.fixture
async def opener(path: Path) -> AsyncIterator[Opener]:
    """Opens handles on ``path`` and closes them at the end."""
    handles: list[SqliteStore] = []

    async def open_one(busy_timeout_s: float = 2.0, key: bytes = KEY, **options: object) -> SqliteStore:
        handle = await SqliteStore.open(path, a_vault(key), busy_timeout_s=busy_timeout_s, **options)  # type: ignore[arg-type]  # the test's own options
        handles.append(handle)
        return handle

    yield open_one
    for handle in handles:
        await handle.close()


@pytest.fixture
async def store(opener: Opener) -> SqliteStore:
    return await opener()
