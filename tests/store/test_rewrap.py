"""A sweep brings every row under the key that seals, whatever is written meanwhile, and names what does not open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from store.keyfile import FileKeys
from store.records import AuditRecord, Document
from store.rewrap import census, sweep
from store.sealed import SealedPage, SealedRows, Swap
from store.sqlite import SqliteStore
from store.vault import Vault, sealing_key_id
from tests.store.sealed_rig import FILLED, QUICK, all_rows, fill, key_file, open_under, read_everything


async def turned(tmp_path: Path) -> tuple[SqliteStore, FileKeys, bytes, bytes]:
    """A filled store whose key file has just got a new first key; old id, new id."""
    keys = key_file(tmp_path)
    store = await open_under(tmp_path / "relay.db", keys)
    await fill(store)
    old, new = keys.load().current_id, keys.make()
    keys.add(new)
    keys.promote(new.id)
    return store, keys, old, new.id


def renewing(store: SqliteStore):  # type: ignore[no-untyped-def]  # a coroutine function
    async def renew() -> None:
        await store.append_audit([AuditRecord(1.0, "test", "vault.rewrap", "ok")])

    return renew


async def test_everything_is_under_the_new_key_and_reads_as_before(tmp_path: Path) -> None:
    store, keys, old, new = await turned(tmp_path)
    before = {row.place: row.sealed for row in await all_rows(store.sealed_rows())}
    done = await sweep([store.sealed_rows()], Vault(keys.load(), keys, QUICK), QUICK, renewing(store))
    found = await census([store.sealed_rows()])
    assert (done.left, found.under(old), found.under(new)) == (0, 0, sum(FILLED.values()))
    assert done.rewrapped == sum(FILLED.values()) - 1  # the head of the audit log was sealed anew
    assert done.broken == ()
    for row in await all_rows(store.sealed_rows()):
        if row.place in before:
            assert row.sealed[9 + 12 + 48 :] == before[row.place][9 + 12 + 48 :]  # the ciphertext stayed
    await read_everything(store)
    await store.close()
    keys.retire(old)
    again = await open_under(tmp_path / "relay.db", keys)
    await read_everything(again)
    await again.close()


async def test_a_second_sweep_has_nothing_to_do(tmp_path: Path) -> None:
    store, keys, _, _ = await turned(tmp_path)
    for expected in (sum(FILLED.values()) - 1, 0):
        done = await sweep([store.sealed_rows()], Vault(keys.load(), None, QUICK), QUICK, renewing(store))
        assert (done.rewrapped, done.left) == (expected, 0)
    await store.close()


class Interfering:
    """Lets somebody write between the page and the swap."""

    def __init__(self, inner: SealedRows, store: SqliteStore, times: int) -> None:
        self._inner, self._store, self.left = inner, store, times

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        return await self._inner.page(cursor, limit)

    async def swap(self, swaps: Sequence[Swap]) -> int:
        if self.left and any(one.row.place.table == "documents" for one in swaps):
            self.left -= 1
            found = await self._store.document("kind0", "id-0")
            assert found is not None
            await self._store.put_document(Document("kind0", "id-0", f"write {self.left}".encode()), found.version)
        return await self._inner.swap(swaps)


async def test_a_write_in_between_is_neither_lost_nor_left_under_the_old_key(tmp_path: Path) -> None:
    store, keys, _old, _ = await turned(tmp_path)
    stale = await SqliteStore.open(
        tmp_path / "relay.db", Vault(keys.load().opening(keys.load())), busy_timeout_s=5.0, verify=False
    )
    rows = Interfering(store.sealed_rows(), stale, 3)
    done = await sweep([rows], Vault(keys.load(), None, QUICK), QUICK, renewing(store))
    assert done.left == 0
    found = await store.document("kind0", "id-0")
    assert found is not None
    assert found.body.startswith(b"write")
    await stale.close()
    await store.close()


async def test_a_damaged_row_is_left_and_named_and_the_rest_is_done(tmp_path: Path) -> None:
    store, keys, old, _ = await turned(tmp_path)
    row = next(row for row in await all_rows(store.sealed_rows()) if row.place.row_id == "a2")
    damaged = row.sealed[:-1] + bytes([row.sealed[-1] ^ 1])
    assert await store.sealed_rows().swap([Swap(row, damaged)]) == 1
    done = await sweep([store.sealed_rows()], Vault(keys.load(), None, QUICK), QUICK, renewing(store))
    assert (done.left, done.broken) == (1, ("credentials a2",))
    after = {row.place.row_id: row.sealed for row in await all_rows(store.sealed_rows())}
    assert after["a2"] == damaged
    assert sealing_key_id(damaged) == old
    await store.close()


async def test_two_sweeps_at_once_come_to_the_same(tmp_path: Path) -> None:
    store, keys, _, _ = await turned(tmp_path)
    other = await open_under(tmp_path / "relay.db", keys)
    results = await asyncio.gather(
        sweep([store.sealed_rows()], Vault(keys.load(), None, QUICK), QUICK, renewing(store)),
        sweep([other.sealed_rows()], Vault(keys.load(), None, QUICK), QUICK, renewing(other)),
    )
    assert [one.left for one in results] == [0, 0]
    await read_everything(store)
    await other.close()
    await store.close()
