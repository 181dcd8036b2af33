"""Every sealed value is listed; one is swapped only as it was read; and none opens changed, moved or rolled back."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.errors import SealBroken
from store.keyfile import FileKeys
from store.memory import MemoryStore
from store.records import Document
from store.schema import MIGRATIONS, migrate
from store.sealed import SealedRow, Swap
from store.sqlite import SqliteStore
from store.sqlite_sealed import COLUMNS
from store.vault import KeyRing, Place, Vault
from tests.store.sealed_rig import FILLED, all_rows, fill, key_file, open_under, read_everything

NOT_SEALED = {("client_keys", "digest"), ("placements", "digest")}
"""Columns of bytes that are keyed hashes."""


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return key_file(tmp_path)


@pytest.fixture
async def store(tmp_path: Path, keys: FileKeys) -> AsyncIterator[SqliteStore]:
    found = await open_under(tmp_path / "relay.db", keys)
    await fill(found)
    yield found
    await found.close()


def test_every_column_of_bytes_is_sealed_and_listed_or_known_to_be_a_hash() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, MIGRATIONS)
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    blobs = {
        (table, row[1]) for table in tables for row in db.execute(f"PRAGMA table_info({table})") if row[2] == "BLOB"
    }
    db.close()
    assert blobs - NOT_SEALED == {(column.table, column.column) for column in COLUMNS}


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_pages_show_every_row_once_and_all_of_them_open_in_the_place_they_name(
    store: SqliteStore, keys: FileKeys, limit: int
) -> None:
    rows = await all_rows(store.sealed_rows(), limit)
    assert Counter(row.place.table for row in rows) == FILLED
    assert len({(row.place.table, row.handle) for row in rows}) == len(rows)
    vault = Vault(keys.load())
    for row in rows:
        vault.open(row.sealed, row.place)


async def test_a_swap_needs_the_bytes_and_the_version_that_were_read(store: SqliteStore) -> None:
    rows = {row.place.table: row for row in await all_rows(store.sealed_rows()) if row.place.row_id != "key-check"}
    for table, row in rows.items():
        done = await store.sealed_rows().swap([Swap(row, row.sealed)])
        assert done == (0 if table == "audit_head" else 1), table
        place = Place(row.place.table, row.place.row_id, row.place.column, row.place.version + 1)
        assert await store.sealed_rows().swap([Swap(SealedRow(place, row.sealed, row.handle), b"new")]) == 0
        assert await store.sealed_rows().swap([Swap(SealedRow(row.place, b"other", row.handle), b"new")]) == 0
    await read_everything(store)


async def test_a_swap_changes_neither_version_nor_revision(store: SqliteStore, keys: FileKeys) -> None:
    before, revision = await store.document("kind0", "id-0"), (await store.changes(0)).directory_revision
    new = keys.make()
    keys.add(new)
    keys.promote(new.id)
    vault = Vault(keys.load())
    rows = await all_rows(store.sealed_rows())
    swaps = [Swap(row, vault.rewrap(row.sealed, row.place)) for row in rows]
    assert await store.sealed_rows().swap(swaps) == len(rows) - 1
    await read_everything(store)
    assert before is not None
    assert await store.document("kind0", "id-0") == before
    assert (await store.changes(0)).directory_revision == revision
    assert (await store.put_document(before, before.version)).version == before.version + 1


async def test_a_row_that_is_gone_is_not_brought_back(store: SqliteStore) -> None:
    row = next(row for row in await all_rows(store.sealed_rows()) if row.place.table == "documents")
    kind, _, name = row.place.row_id.partition("/")
    await store.remove_document(kind, name)
    assert await store.sealed_rows().swap([Swap(row, row.sealed)]) == 0
    assert await store.document(kind, name) is None


async def test_a_store_in_memory_has_nothing_to_list() -> None:
    rows = MemoryStore().sealed_rows()
    assert (await rows.page()).rows == ()
    assert (await rows.page()).cursor is None
    assert await rows.swap([]) == 0


@pytest.mark.fault("C32")
async def test_every_byte_of_every_table_is_guarded(store: SqliteStore, keys: FileKeys) -> None:
    vault = Vault(keys.load())
    seen: set[str] = set()
    for row in await all_rows(store.sealed_rows()):
        if row.place.table in seen:
            continue
        seen.add(row.place.table)
        for at in range(len(row.sealed)):
            changed = row.sealed[:at] + bytes([row.sealed[at] ^ (1 + at % 255)]) + row.sealed[at + 1 :]
            with pytest.raises(SealBroken):
                vault.open(changed, row.place)
            with pytest.raises(SealBroken):
                vault.open(row.sealed[:at], row.place)
    assert seen == set(FILLED)


@pytest.mark.fault("C32")
async def test_no_row_opens_in_the_place_of_another(store: SqliteStore, keys: FileKeys) -> None:
    vault = Vault(keys.load())
    rows = await all_rows(store.sealed_rows())
    for one in rows:
        for other in rows:
            if one.place != other.place:
                with pytest.raises(SealBroken):
                    vault.open(one.sealed, other.place)


@pytest.mark.fault("C32")
async def test_rows_that_were_swapped_in_the_file_are_refused_by_the_store_itself(store: SqliteStore) -> None:
    rows = [row for row in await all_rows(store.sealed_rows()) if row.place.table == "credentials"]
    first, second = rows[0], rows[1]
    swaps = [Swap(first, second.sealed), Swap(second, first.sealed)]
    assert await store.sealed_rows().swap(swaps) == 2
    for row in (first, second):
        with pytest.raises(SealBroken, match="altered, moved or rolled back"):
            await store.credential(row.place.row_id)


@pytest.mark.fault("C32")
async def test_an_older_version_put_back_is_refused(store: SqliteStore) -> None:
    old = next(row for row in await all_rows(store.sealed_rows()) if row.place.row_id == "kind0/id-0")
    document = await store.document("kind0", "id-0")
    assert document is not None
    await store.put_document(Document("kind0", "id-0", b"newer"), document.version)
    new = next(row for row in await all_rows(store.sealed_rows()) if row.place.row_id == "kind0/id-0")
    assert await store.sealed_rows().swap([Swap(new, old.sealed)]) == 1
    with pytest.raises(SealBroken):
        await store.document("kind0", "id-0")


@pytest.mark.fault("C32")
async def test_a_key_id_that_is_not_allowed_or_is_another_allowed_one_is_refused(store: SqliteStore) -> None:
    ours, theirs = bytes(range(32)), bytes(range(1, 33))
    both = Vault(KeyRing([ours, theirs]))
    place = Place("credentials", "a0", "tokens", 1)
    sealed = both.seal(b"secret", place)
    for name in (KeyRing([theirs]).current_id, random.Random(1).randbytes(8)):
        with pytest.raises(SealBroken):
            both.open(sealed[:1] + name + sealed[9:], place)
    with pytest.raises(SealBroken, match="not among the configured keys"):
        Vault(KeyRing([theirs])).open(sealed, place)
