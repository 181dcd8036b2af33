"""What the SQLite store promises beyond the contract: nothing opens out of its place, and a crash's log counts."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from store.errors import SealBroken, StoreCorrupt, WrongKey
from store.records import Secret
from store.sqlite import SqliteStore
from tests.fakes.records import make_account, make_credential
from tests.store.conftest import Opener, a_vault, contents


def execute(path: Path, statement: str, *values: object) -> list[tuple[bytes]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement, values).fetchall()


@pytest.mark.fault("C32")
async def test_swapped_tokens_of_two_accounts_do_not_open(store: SqliteStore, path: Path) -> None:
    for name in ("a", "b"):
        await store.add_account(make_account(name), make_credential(name))
    (of_a,), (of_b,) = execute(path, "SELECT tokens FROM credentials ORDER BY account_id")
    execute(path, "UPDATE credentials SET tokens = CASE account_id WHEN 'a' THEN ? ELSE ? END", of_b, of_a)
    for name in ("a", "b"):
        with pytest.raises(SealBroken):
            await store.credential(name)
    assert len(await store.accounts()) == 2


@pytest.mark.fault("C32")
async def test_older_tokens_put_back_do_not_open(store: SqliteStore, path: Path) -> None:
    await store.add_account(make_account(), make_credential())
    ((old,),) = execute(path, "SELECT tokens FROM credentials")
    await store.put_credential(make_credential(refresh_token=Secret("rotated")), 1)
    execute(path, "UPDATE credentials SET tokens = ?", old)
    with pytest.raises(SealBroken):
        await store.credential("acct-1")


@pytest.mark.fault("C32")
async def test_one_sealed_value_does_not_pass_for_another(store: SqliteStore, path: Path) -> None:
    await store.sealed_value("a", b"value of a")
    await store.sealed_value("b", b"value of b")
    ((of_a,),) = execute(path, "SELECT sealed FROM sealed_values WHERE name = 'value:a'")
    execute(path, "UPDATE sealed_values SET sealed = ? WHERE name = 'value:b'", of_a)
    with pytest.raises(SealBroken):
        await store.sealed_value("b", b"new")
    assert await store.sealed_value("a", b"new") == b"value of a"


async def test_no_name_of_a_sealed_value_reaches_the_key_check(store: SqliteStore) -> None:
    assert await store.sealed_value("key-check", b"mine") == b"mine"
    assert await store.sealed_value("value:key-check", b"other") == b"other"


@pytest.mark.fault("B58")
async def test_what_a_crash_left_in_the_log_is_read_and_a_wrong_key_leaves_it_alone(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await store.add_account(make_account(), make_credential())
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("relay.db", "relay.db-wal"):
        shutil.copyfile(path.with_name(name), crashed / name)
    copied = contents(crashed)
    with pytest.raises(WrongKey):
        await SqliteStore.open(crashed / "relay.db", a_vault(b"o" * 32), busy_timeout_s=1.0)
    after = contents(crashed)
    assert {name: after[name] for name in copied} == copied
    found = await SqliteStore.open(crashed / "relay.db", a_vault(), busy_timeout_s=1.0)
    assert await found.credential("acct-1") == make_credential()
    await found.close()


async def test_a_database_that_is_damaged_while_in_use_says_so(opener: Opener, path: Path) -> None:
    store = await opener()
    for number in range(30):
        await store.add_account(make_account(f"a{number}"), make_credential(f"a{number}"))
    execute(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))
    with pytest.raises(StoreCorrupt, match="restore it from a backup"):
        await store.accounts()
