"""A new key comes into use step by step; wherever it is cut off, the next command goes on, and nobody is locked out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from store.errors import StoreUnusable, WrongKey
from store.keyfile import FileKeys, NewKey
from store.rotation import KIND, Rotator
from store.sealed import SealedPage, SealedRows, Swap
from store.sqlite import SqliteStore
from store.vault import Vault
from tests.store.sealed_rig import FILLED, QUICK, fill, key_file, open_under, read_everything


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """The steps of a rotation in the order in which they happen; dies before or after step ``at``."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


class MortalKeys(FileKeys):
    def __init__(self, path: Path, mortal: Mortal) -> None:
        super().__init__(path)
        self._mortal = mortal

    def add(self, new: NewKey) -> None:
        self._mortal.step()
        super().add(new)
        self._mortal.step()

    def promote(self, wanted: bytes) -> None:
        super().promote(wanted)
        self._mortal.step()


class MortalRows:
    def __init__(self, inner: SealedRows, mortal: Mortal) -> None:
        self._inner, self._mortal = inner, mortal

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        return await self._inner.page(cursor, 3)

    async def swap(self, swaps: Sequence[Swap]) -> int:
        self._mortal.step()
        done = await self._inner.swap(swaps)
        self._mortal.step()
        return done


class MortalStore(SqliteStore):
    mortal: Mortal

    def sealed_rows(self) -> MortalRows:  # type: ignore[override]  # the same Protocol
        return MortalRows(super().sealed_rows(), self.mortal)

    async def remove_document(self, kind: str, document_id: str) -> bool:
        if kind == KIND:
            self.mortal.step()
        return await super().remove_document(kind, document_id)


async def cut_off(tmp_path: Path, at: int) -> bool:
    """One rotation that dies at its step ``at``; False when it has fewer steps."""
    mortal = Mortal(at)
    keys = MortalKeys(tmp_path / "vault.key", mortal)
    store = await MortalStore.open(
        tmp_path / "relay.db", Vault(keys.load(), keys, QUICK), busy_timeout_s=5.0, verify=False
    )
    assert isinstance(store, MortalStore)
    store.mortal = mortal
    try:
        await Rotator(store, keys, QUICK, "test").rotate(keys)
    except Killed:
        return True
    finally:
        await store.close()
    return False


async def test_whichever_step_is_killed_all_can_read_and_the_next_rotation_ends_it(tmp_path: Path) -> None:
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()
        keys = key_file(folder)
        old = keys.load().current_id
        store = await open_under(folder / "relay.db", keys)  # a worker that serves all the time
        await fill(store)
        died = await cut_off(folder, at)
        await read_everything(store)
        assert len(keys.load().ids) <= 2, "a rotation that is gone on with makes no further key"
        if died:
            rotator = Rotator(store, keys, QUICK, "test")
            done = await rotator.rotate(keys)
            assert done.sweep is not None
            assert done.sweep.left == 0
            assert await rotator.note() is None
            assert len(keys.load().ids) == 2
            census = await rotator.census()
            assert census.under(old) == 0
            assert census.under(keys.load().current_id) >= sum(FILLED.values())
            await read_everything(store)
        await store.close()
        if not died:
            assert at > 15, "the steps of a rotation were all tried"
            return
    raise AssertionError("a rotation never ended")


async def test_added_only_the_new_key_opens_and_does_not_seal(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    old = keys.load().current_id
    store = await open_under(tmp_path / "relay.db", keys)
    await fill(store)
    rotator = Rotator(store, keys, QUICK, "test")
    first = await rotator.rotate(keys, add_only=True)
    assert (first.old, first.sweep) == (old, None)
    assert keys.load().ids == (old, first.new)
    again = await rotator.rotate(keys, add_only=True)
    assert (again.new, again.resumed) == (first.new, True)
    done = await rotator.rotate(keys)
    assert (done.old, done.new, done.resumed) == (old, first.new, True)
    assert keys.load().ids == (first.new, old)
    await store.close()


async def test_keys_that_the_operator_changes_need_the_sweep_alone(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    store = await open_under(tmp_path / "relay.db", keys)
    await fill(store)
    old, new = keys.load().current_id, keys.make()
    keys.add(new)
    keys.promote(new.id)
    rotator = Rotator(store, keys, QUICK, "test")
    done = await rotator.rotate(None)
    assert done.sweep is not None
    assert (done.new, done.sweep.left) == (new.id, 0)
    assert (await rotator.census()).under(old) == 0
    await store.close()


async def test_a_key_is_retired_when_no_row_names_it_and_only_then(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    store = await open_under(tmp_path / "relay.db", keys)
    await fill(store)
    rotator = Rotator(store, keys, QUICK, "test")
    old = keys.load().current_id
    with pytest.raises(WrongKey, match="rows are under key"):
        await rotator.retire(keys, old)
    await rotator.rotate(keys, add_only=True)
    with pytest.raises(StoreUnusable, match="a rotation is under way"):
        await rotator.retire(keys, old)
    await rotator.rotate(keys)
    path = await rotator.retire(keys, old)
    assert path == tmp_path / "vault.key.retired"
    assert path.stat().st_mode & 0o777 == 0o600
    assert old not in keys.load()
    retired = keys.retired()
    assert retired is not None
    assert retired.ids == (old,)
    with pytest.raises(WrongKey, match="holds no key of id"):
        await rotator.retire(keys, old)
    with pytest.raises(WrongKey, match="rows are under"):
        await rotator.retire(keys, keys.load().current_id)
    await read_everything(store)
    await store.close()


class LateKeys(FileKeys):
    """While a key is being retired, a worker that was asleep seals under it."""

    late: SqliteStore

    def retire(self, wanted: bytes) -> Path:
        path = super().retire(wanted)
        execute_late(self.late, wanted)
        return path


def execute_late(store: SqliteStore, wanted: bytes) -> None:
    import sqlite3

    with sqlite3.connect(store._threads.path) as db:
        sealed = db.execute("SELECT sealed FROM documents LIMIT 1").fetchone()[0]
        db.execute("UPDATE documents SET sealed = ?", (sealed[:1] + wanted + sealed[9:],))
    db.close()


async def test_a_row_that_turns_up_while_a_key_is_retired_brings_the_key_back(tmp_path: Path) -> None:
    key_file(tmp_path)
    keys = LateKeys(tmp_path / "vault.key")
    store = await open_under(tmp_path / "relay.db", keys)
    keys.late = store
    await fill(store)
    old = keys.load().current_id
    rotator = Rotator(store, keys, QUICK, "test")
    await rotator.rotate(keys)
    with pytest.raises(WrongKey, match="rows are under key"):
        await rotator.retire(keys, old)
    assert old in keys.load()
    await store.close()
