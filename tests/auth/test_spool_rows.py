"""Spooled credentials come under another key, and newer tokens are never written over by older ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from auth.spool import FileSpool, Spooled
from auth.spool_rows import SpoolRows
from store.errors import StoreUnavailable
from store.rewrap import census, sweep
from store.sealed import Swap
from store.vault import KeyRing, Place, Vault, key_id
from tests.fakes.records import make_credential
from tests.store.sealed_rig import QUICK, all_rows

OLD, NEW = b"o" * 32, b"n" * 32
ODD = "account with / and spaces"


def place(account_id: str) -> Place:
    return Place("spool", account_id, "credential", 1)


def spool(folder: Path, vault: Vault) -> FileSpool:
    return FileSpool(
        folder, lambda name, data: vault.seal(data, place(name)), lambda name, data: vault.open(data, place(name))
    )


async def nothing() -> None:
    return None


async def test_a_sweep_brings_the_spool_under_the_new_key(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    old, both, new = Vault(KeyRing([OLD])), Vault(KeyRing([NEW, OLD])), Vault(KeyRing([NEW]))
    for name in ("a1", "a2", ODD):
        await spool(folder, old).put(Spooled(make_credential(name), "digest"))
    rows = SpoolRows(folder, place, ["a1", ODD])
    done = await sweep([rows], both, QUICK, nothing)
    assert (done.rewrapped, done.left, done.broken) == (3, 0, ())
    assert (await census([rows])).under(key_id(NEW)) == 3
    for name in ("a1", "a2", ODD):
        found = await spool(folder, new).get(name)
        assert found is not None
        assert found.credential.account_id == name
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


async def test_pages_show_each_file_once(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    for number in range(5):
        await spool(folder, Vault(KeyRing([OLD]))).put(Spooled(make_credential(f"a{number}"), "digest"))
    (folder / "stray").write_text("not a spooled file")
    for limit in (1, 2, 5, 9):
        rows = await all_rows(SpoolRows(folder, place, ()), limit)
        assert [row.place.row_id for row in rows] == [f"a{number}" for number in range(5)]
    assert await all_rows(SpoolRows(tmp_path / "none", place, ())) == []


async def test_newer_tokens_stay(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    old = spool(folder, Vault(KeyRing([OLD])))
    await old.put(Spooled(make_credential("a1"), "first"))
    rows = SpoolRows(folder, place, ["a1"])
    (read,) = await all_rows(rows)
    await old.put(Spooled(make_credential("a1"), "second"))
    assert await rows.swap([Swap(read, b"older")]) == 0
    found = await old.get("a1")
    assert found is not None
    assert found.replaces == "second"
    await old.forget("a1")
    assert await rows.swap([Swap(read, b"older")]) == 0
    folder.rmdir()
    with pytest.raises(StoreUnavailable):
        await rows.swap([Swap(read, b"older")])


async def test_a_file_of_an_account_that_is_gone_is_left_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    await spool(folder, Vault(KeyRing([OLD]))).put(Spooled(make_credential(ODD), "digest"))
    rows = SpoolRows(folder, place, ())
    done = await sweep([rows], Vault(KeyRing([NEW, OLD])), QUICK, nothing)
    assert done.left == 1
    assert done.broken == (f"spool {hashlib.sha256(ODD.encode()).hexdigest()}",)
