"""A backup is one state of a store that serves, encrypted; a restore puts it back whole, or changes nothing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ops.clock import SystemClock
from store.backup import make_backup, restore_backup
from store.backup_file import read_backup, read_header, write_backup
from store.backup_note import last_backup, remember_backup
from store.errors import FutureSchema, StoreCorrupt, StoreError, StoreUnusable, WrongKey
from store.keyfile import FileKeys
from store.records import Document, RefreshState
from store.rotation import Rotator
from store.vault import KeyRing, Vault
from tests.fakes.clock import FakeClock
from tests.store.conftest import contents
from tests.store.sealed_rig import ACCOUNTS, QUICK, execute, fill, key_file, open_under, read_everything


def vault_of(keys: FileKeys) -> Vault:
    return Vault(keys.load())


async def backed_up(tmp_path: Path) -> tuple[FileKeys, Path, Path]:
    """Keys, the database and a backup of it; nothing is open."""
    keys, database, target = key_file(tmp_path), tmp_path / "relay.db", tmp_path / "out.backup"
    store = await open_under(database, keys)
    await fill(store)
    make_backup(database, target, vault_of(keys), SystemClock())
    await store.close()
    return keys, database, target


def restore(target: Path, database: Path, keys: FileKeys, *, force: bool = False, vault: Vault | None = None):  # type: ignore[no-untyped-def]  # as the function itself
    return restore_backup(target, database, vault or vault_of(keys), FakeClock(), "cli:test", force=force)


async def test_what_was_backed_up_comes_back_with_every_refresh_token_in_doubt(tmp_path: Path) -> None:
    keys, _, target = await backed_up(tmp_path)
    assert target.stat().st_mode & 0o777 == 0o600
    fresh = tmp_path / "new" / "relay.db"
    done = restore(target, fresh, keys)
    assert (done.accounts, done.uncertain, done.kept) == (ACCOUNTS, ACCOUNTS, None)
    assert fresh.stat().st_mode & 0o777 == 0o600
    assert contents(tmp_path / "new").keys() == {"relay.db"}
    store = await open_under(fresh, keys)
    await read_everything(store)
    found = [await store.credential(f"a{number}") for number in range(ACCOUNTS)]
    assert {one.refresh_state for one in found if one is not None} == {RefreshState.UNCERTAIN}
    assert [one.action for one in await store.search_audit(action="store.restore")] == ["store.restore"]
    await store.close()


async def test_no_secret_and_no_name_is_readable_in_a_backup(tmp_path: Path) -> None:
    _, database, target = await backed_up(tmp_path)
    assert b"owner@example.com" in database.read_bytes()
    text = target.read_bytes()
    for word in (b"owner@example.com", b"refresh-", b"chatgpt-", b"CREATE TABLE", b"SQLite format"):
        assert word not in text


async def test_a_backup_under_writes_is_one_state_and_holds_up_no_writer(tmp_path: Path) -> None:
    keys, database = key_file(tmp_path), tmp_path / "relay.db"
    store = await open_under(database, keys)
    await fill(store)
    stop = asyncio.Event()

    async def write() -> int:
        """Two documents that always carry the same number... each pair is one more pair of rows."""
        number = 0
        while not stop.is_set():
            number += 1
            await store.add_document(Document("pair", f"{number:06d}-a", b"x"))
            await store.add_document(Document("pair", f"{number:06d}-b", b"x"))
        return number

    writer = asyncio.create_task(write())
    await asyncio.sleep(0)
    for index in range(3):
        await asyncio.to_thread(make_backup, database, tmp_path / f"{index}.backup", vault_of(keys), SystemClock())
    stop.set()
    assert await writer > 0
    await store.close()
    for index in range(3):
        fresh = tmp_path / f"{index}.db"
        restore(tmp_path / f"{index}.backup", fresh, keys)
        again = await open_under(fresh, keys)
        names = [one.id for one in await again.documents("pair", limit=100_000)]
        assert names == sorted(f"{n:06d}-{half}" for n in range(1, len(names) // 2 + 2) for half in "ab")[: len(names)]
        assert (await again.verify_audit())[1] is None
        await again.close()


async def test_an_existing_file_is_neither_written_over_nor_left_half(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(StoreUnusable, match="exists already"):
        make_backup(database, target, vault_of(keys), SystemClock())
    with pytest.raises(StoreError):
        make_backup(database, tmp_path / "no folder" / "x", vault_of(keys), SystemClock())
    assert contents(tmp_path) == before


@pytest.mark.fault("C32")
async def test_a_changed_byte_anywhere_a_cut_and_an_extension_are_found(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    small = tmp_path / "small"
    small.write_bytes(b"content" * 10)
    target, bad = tmp_path / "b", tmp_path / "bad"
    with small.open("rb") as content:
        write_backup(target, content, vault_of(keys), created_at_s=1.0, schema=3, kind="sqlite")
    whole = target.read_bytes()
    pieces: list[bytes] = []
    read_backup(target, vault_of(keys), pieces.append)
    assert b"".join(pieces) == small.read_bytes()
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    for text in (*changed, *(whole[:at] for at in range(len(whole))), whole + b"\0"):
        bad.write_bytes(text)
        with pytest.raises((StoreCorrupt, FutureSchema, WrongKey)) as caught:
            read_backup(bad, vault_of(keys), lambda _: None)
        assert "\n" not in str(caught.value)


async def test_chunks_of_one_backup_cannot_be_reordered_dropped_or_mixed_with_anothers(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3 * 1024 * 1024 + 5))
    files = []
    for name in ("a", "b"):
        with big.open("rb") as content:
            write_backup(tmp_path / name, content, vault_of(keys), created_at_s=1.0, schema=3, kind="sqlite")
        files.append((tmp_path / name).read_bytes())
    length = int.from_bytes(files[0][8:12], "big")
    head, size = 12 + length, 5 + 1024 * 1024 + 16

    def chunks(text: bytes) -> list[bytes]:
        return [text[at : at + size] for at in range(head, len(text), size)]

    one, other = chunks(files[0]), chunks(files[1])
    assert len(one) == 4
    for wrong in (
        [one[1], one[0], *one[2:]],
        [one[0], *one[2:]],
        [*one[:3]],
        [other[0], *one[1:]],
        [*one[:3], one[3], one[3]],
        other,
    ):
        (tmp_path / "bad").write_bytes(files[0][:head] + b"".join(wrong))
        with pytest.raises(StoreCorrupt, match="damaged or was altered"):
            read_backup(tmp_path / "bad", vault_of(keys), lambda _: None)


async def test_a_restore_that_cannot_be_changes_nothing(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    cut, foreign = tmp_path / "cut", tmp_path / "foreign"
    cut.write_bytes(target.read_bytes()[:-1])
    foreign.write_bytes(b"something else")
    with database.open("rb") as content:
        write_backup(tmp_path / "future", content, vault_of(keys), created_at_s=1.0, schema=999, kind="sqlite")
        content.seek(0)
        write_backup(tmp_path / "redis", content, vault_of(keys), created_at_s=1.0, schema=1, kind="redis")
    (tmp_path / "empty").write_bytes(b"no database at all")
    with (tmp_path / "empty").open("rb") as content:
        write_backup(tmp_path / "nothing", content, vault_of(keys), created_at_s=1.0, schema=1, kind="sqlite")
    before = contents(tmp_path)
    for name, cause in (
        ("out.backup", "--force"),
        ("cut", "damaged"),
        ("foreign", "not a backup of ours"),
        ("future", "run the newer release"),
        ("redis", "store of kind 'redis'"),
        ("nothing", "damaged database"),
        ("missing", "cannot be read"),
    ):
        with pytest.raises(StoreError, match=cause) as caught:
            restore(tmp_path / name, database, keys, force=name != "out.backup")
        assert "\n" not in str(caught.value)
        assert contents(tmp_path) == before, name
    with pytest.raises(WrongKey, match="--key-file"):
        restore(target, database, keys, force=True, vault=Vault(KeyRing([b"w" * 32])))
    assert contents(tmp_path) == before


async def test_force_keeps_the_database_that_was_there(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    store = await open_under(database, keys)
    await store.add_document(Document("later", "one", b"written after the backup"))
    await store.close()
    done = restore(target, database, keys, force=True)
    assert done.kept is not None
    kept = await open_under(done.kept, keys)
    assert await kept.document("later", "one") is not None
    await kept.close()
    store = await open_under(database, keys)
    assert await store.document("later", "one") is None
    await read_everything(store)
    await store.close()


async def test_a_damaged_database_is_replaced_and_kept_as_it_is(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    database.write_bytes(b"ruined")
    done = restore(target, database, keys, force=True)
    assert done.kept is not None
    assert done.kept.read_bytes() == b"ruined"
    store = await open_under(database, keys)
    await read_everything(store)
    await store.close()


HOLD = """
import asyncio, sys
from pathlib import Path
from store.keyfile import FileKeys
from tests.store.sealed_rig import open_under
async def main():
    store = await open_under(Path(sys.argv[1]), FileKeys(Path(sys.argv[2])))
    await store.accounts()
    print("open", flush=True)
    sys.stdin.read()
    await store.close()
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_database_that_a_process_has_open_is_not_replaced(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    command = [sys.executable, "-c", HOLD, str(database), str(tmp_path / "vault.key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreUnusable, match="in use; stop the gateway first"):
            restore(target, database, keys, force=True)
        assert holder.stdin is not None
        holder.stdin.close()
    assert not list(tmp_path.glob("*.before-restore-*"))
    assert restore(target, database, keys, force=True).kept is not None


async def test_an_old_backup_opens_with_the_old_key_and_ends_under_todays(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    old = keys.load().current_id
    store = await open_under(database, keys)
    rotator = Rotator(store, keys, QUICK, "test")
    await rotator.rotate(keys)
    await rotator.retire(keys, old)
    await store.close()
    with pytest.raises(WrongKey):
        restore(target, tmp_path / "new.db", keys)
    retired = keys.retired()
    assert retired is not None
    done = restore(target, tmp_path / "new.db", keys, vault=Vault(keys.load().opening(retired)))
    assert done.rewrapped > ACCOUNTS
    again = await open_under(tmp_path / "new.db", keys)  # today's key alone
    await read_everything(again)
    assert (await Rotator(again, keys, QUICK, "test").census()).under(old) == 0
    await again.close()


async def test_a_row_that_does_not_open_stops_a_restore_with_its_name(tmp_path: Path) -> None:
    keys, database, _ = await backed_up(tmp_path)
    with sqlite3.connect(database) as db:
        sealed = db.execute("SELECT tokens FROM credentials WHERE account_id = 'a1'").fetchone()[0]
    db.close()
    execute(database, "UPDATE credentials SET tokens = ? WHERE account_id = 'a1'", sealed[:-1] + b"!")
    make_backup(database, tmp_path / "second", vault_of(keys), SystemClock())
    new = keys.make()
    keys.add(new)
    keys.promote(new.id)
    with pytest.raises(StoreCorrupt, match="'a1'"):
        restore(tmp_path / "second", tmp_path / "new.db", keys)
    assert not (tmp_path / "new.db").exists()


async def test_the_last_backup_is_remembered(tmp_path: Path) -> None:
    keys, database, target = await backed_up(tmp_path)
    store = await open_under(database, keys)
    assert await last_backup(store) is None
    for _ in range(2):
        await remember_backup(store, read_header(target))
    found = await last_backup(store)
    assert found is not None
    assert found.key_id == keys.load().current_id.hex()
    await store.close()
