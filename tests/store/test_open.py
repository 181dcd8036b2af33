"""A URL opens one store; a key is made for a new database only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.errors import StoreUnusable, WrongKey
from store.keyfile import FileKeys
from store.memory import MemoryStore
from store.open import open_store, prepare_key, sqlite_path
from store.sqlite import SqliteStore
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_account, make_credential
from tests.store.conftest import contents


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path / "secret" / "vault.key")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/relay.db"


def test_urls_name_relative_and_absolute_files_and_memory() -> None:
    assert sqlite_path("sqlite:///data/relay.db") == Path("data/relay.db")
    assert sqlite_path("sqlite:////var/lib/relay.db") == Path("/var/lib/relay.db")
    assert sqlite_path("memory://") is None


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "sqlite:relay.db", "memory:", "postgres://user:hunter2@host/db", "relay.db"]
)
def test_an_unknown_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(StoreUnusable, match="use sqlite:///PATH, redis://HOST:PORT/DB or memory://") as caught:
        sqlite_path(url)
    assert "hunter2" not in str(caught.value)


async def test_a_first_start_makes_the_key_once_and_a_restart_finds_everything(keys: FileKeys, url: str) -> None:
    made = prepare_key(keys, url)
    assert made is not None
    assert made.name == "vault.key"
    assert prepare_key(keys, url) is None
    store = await open_store(url, keys=keys, busy_timeout_s=1.0)
    assert isinstance(store, SqliteStore)
    await store.add_account(make_account(), make_credential())
    await store.close()
    assert prepare_key(keys, url) is None
    again = await open_store(url, keys=keys, busy_timeout_s=1.0, verify=False)
    assert await again.credential("acct-1") == make_credential()
    await again.close()


@pytest.mark.fault("B58")
async def test_no_key_is_made_beside_a_database(keys: FileKeys, url: str, tmp_path: Path) -> None:
    made = prepare_key(keys, url)
    assert made is not None
    await (await open_store(url, keys=keys, busy_timeout_s=1.0)).close()
    made.unlink()
    before = contents(tmp_path)
    with pytest.raises(WrongKey, match=r"vault\.key is missing, but database .* exists"):
        prepare_key(keys, url)
    with pytest.raises(WrongKey, match="is missing"):
        await open_store(url, keys=keys, busy_timeout_s=1.0)
    assert contents(tmp_path) == before


def test_no_key_is_made_beside_a_log_that_lost_its_database(keys: FileKeys, tmp_path: Path) -> None:
    (tmp_path / "relay.db-wal").write_bytes(b"left")
    with pytest.raises(WrongKey):
        prepare_key(keys, f"sqlite:///{tmp_path}/relay.db")


def test_a_key_that_others_may_read_stops_the_start(keys: FileKeys, url: str) -> None:
    made = prepare_key(keys, url)
    assert made is not None
    os.chmod(made, 0o644)
    with pytest.raises(WrongKey, match="chmod 600"):
        prepare_key(keys, url)


async def test_memory_needs_no_key(keys: FileKeys) -> None:
    assert prepare_key(keys, "memory://") is None
    assert not keys.present()
    store = await open_store("memory://", keys=keys, busy_timeout_s=1.0, clock=FakeClock())
    assert isinstance(store, MemoryStore)
    await store.check()


async def test_claims_run_by_the_databases_own_clock_unless_one_is_given(keys: FileKeys, url: str) -> None:
    import time

    prepare_key(keys, url)
    store = await open_store(url, keys=keys, busy_timeout_s=1.0)
    before_s = time.time()
    claim = await store.claim("scope", "one", 60.0)
    assert claim is not None
    assert before_s + 59.9 <= claim.expires_at_s <= time.time() + 60.1
    assert await store.claim("scope", "two", 60.0) is None
    gone = await store.claim("other scope", "one", -1.0)
    assert gone is not None
    assert await store.claim("other scope", "two", 60.0) is not None
    await store.close()
