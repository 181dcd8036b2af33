"""The sealed file that holds new tokens while the store cannot."""

from __future__ import annotations

from pathlib import Path

from auth.spool import NoSpool, Spooled
from tests.auth.rig import add
from tests.auth.test_persist import failing, file_spool, quiet
from tests.fakes.logins import account, credential


async def test_the_spool_gives_back_only_what_is_whole_and_sealed_for_that_account(tmp_path: Path) -> None:
    spool = file_spool(tmp_path)
    rig, store = failing(tmp_path)
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10_000
    await rig.tokens.get(owner)
    await quiet(rig)
    path = tmp_path / "acc_1.spooled"
    whole = path.read_bytes()
    (tmp_path / "acc_2.spooled").write_bytes(whole)
    assert await spool.get("acc_2") is None
    path.write_bytes(whole[:-1])
    assert await spool.get("acc_1") is None
    path.write_bytes(whole)
    found = await spool.get("acc_1")
    assert found is not None
    assert found.credential.account_id == "acc_1"
    assert "rt_" not in repr(found)
    assert await spool.account_ids() == ("acc_1", "acc_2")
    await spool.forget("acc_1")
    await spool.forget("acc_1")
    assert await spool.get("acc_1") is None


async def test_the_folder_is_made_at_the_start_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "relay.db.spool"
    spool = file_spool(folder)
    assert await spool.account_ids() == ()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    waiting = Spooled(credential(account(), 0.0), "digest")
    await spool.put(waiting)
    assert await spool.get("acc_1") == waiting
    assert await file_spool(tmp_path / "no" / "such").account_ids() == ()


async def test_a_process_without_a_disk_spools_nothing() -> None:
    spool = NoSpool()
    await spool.put(Spooled(credential(account(), 0.0), "digest"))
    assert await spool.get("acc_1") is None
    assert await spool.account_ids() == ()
