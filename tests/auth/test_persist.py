"""New tokens are not lost, whatever the store does when they come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from auth.errors import RefreshUnavailable
from auth.spool import FileSpool
from store.errors import SealBroken, StoreUnavailable
from store.records import Secret
from store.vault import KeyRing, Place, Vault
from tests.auth.rig import Rig, add, settle, world
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import credential
from tests.fakes.store_faults import FailingStore

VAULT = Vault(KeyRing([bytes(range(32))]))


def file_spool(folder: Path) -> FileSpool:
    return FileSpool(
        folder,
        lambda account_id, plain: VAULT.seal(plain, Place("spool", account_id, "tokens", 1)),
        lambda account_id, sealed: VAULT.open(sealed, Place("spool", account_id, "tokens", 1)),
    )


def failing(folder: Path | None = None) -> tuple[Rig, FailingStore]:
    clock = FakeClock()
    store = FailingStore(clock)
    rig = Rig(clock, store, ModelIssuer(clock), spool=file_spool(folder) if folder else None)
    return rig, store


async def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def quiet(rig: Rig) -> None:
    """Until nothing but sleepers is left, with file work in threads done."""
    for _ in range(20):
        await asyncio.sleep(0.002)
        await settle(20)


@pytest.mark.fault("B38")
async def test_tokens_that_the_store_refuses_serve_from_memory_and_are_written_later() -> None:
    rig, store = failing()
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10
    served = await rig.tokens.get(owner)
    assert served.version == 2
    for _ in range(10):
        await rig.advance(6, 1)
        assert await rig.tokens.get(owner) == served
    assert await rig.store.credential(owner.id) == served
    assert rig.issuer.shown.total() == 1
    assert rig.reports.events["persist_failed"] == 1


@pytest.mark.fault("B38")
async def test_unstored_tokens_are_not_replaced_by_the_older_ones_in_the_store() -> None:
    rig, store = failing()
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10_000
    served = await rig.tokens.get(owner)
    await rig.tokens.reload([owner.id])
    rig.tokens.invalidate(owner.id)
    assert await rig.tokens.get(owner) == served
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B38")
async def test_a_write_that_landed_though_it_failed_is_recognised() -> None:
    rig, store = failing()
    owner, _ = await add(rig, life_s=-1)
    store.late["finish_refresh"] = 1
    served = await rig.tokens.get(owner)
    await rig.advance(5)
    assert await rig.store.credential(owner.id) == served
    assert rig.reports.events["persist_conflict"] == 0


@pytest.mark.fault("B38")
async def test_the_spool_outlives_a_kill_and_is_taken_at_the_next_start(tmp_path: Path) -> None:
    rig, store = failing(tmp_path)
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10_000
    served = await rig.tokens.get(owner)
    await quiet(rig)
    assert await on_disk(tmp_path) == ["acc_1.spooled"]
    spooled = tmp_path / "acc_1.spooled"
    assert spooled.stat().st_mode & 0o777 == 0o600
    assert served.access_token.reveal().encode() not in spooled.read_bytes()
    await rig.kill()
    store.failing.clear()
    rig.restart()
    assert await rig.tokens.recover() == 1
    assert (await rig.tokens.get(owner)).access_token == served.access_token
    assert await on_disk(tmp_path) == []
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B38")
async def test_another_process_that_meets_the_open_intent_takes_the_tokens_from_the_spool(tmp_path: Path) -> None:
    rig, store = failing(tmp_path)
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10_000
    served = await rig.tokens.get(owner)
    await quiet(rig)
    other = Rig(rig.clock, store, rig.issuer, spool=file_spool(tmp_path))
    taken = asyncio.get_running_loop().create_task(other.tokens.get(owner))
    for _ in range(5):
        await quiet(rig)
        rig.clock.advance(0.2)
    assert (await taken).access_token == served.access_token
    assert rig.issuer.violations == []
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B38")
async def test_when_store_and_spool_fail_writing_goes_on_for_as_long_as_the_process_lives(tmp_path: Path) -> None:
    gone = tmp_path / "no" / "such" / "folder"
    rig, store = failing(gone)
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 60
    served = await rig.tokens.get(owner)
    for _ in range(100):
        await quiet(rig)
        rig.clock.advance(5)
        if await rig.store.credential(owner.id) == served:
            break
    assert await rig.store.credential(owner.id) == served


@pytest.mark.fault("B38")
async def test_a_newer_login_that_was_imported_during_the_exchange_stays() -> None:
    rig, store = failing()
    owner, tokens = await add(rig, life_s=-1)
    rig.issuer.gate = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
    await settle()
    imported = credential(owner, rig.clock.now_s(), refresh="rt_imported", age_s=5)
    await store.put_credential(imported, tokens.version)
    rig.issuer.gate.set()
    assert (await waiting).access_token == imported.access_token
    stored = await store.credential(owner.id)
    assert stored is not None
    assert stored.refresh_token == Secret("rt_imported")
    assert rig.reports.events["persist_conflict"] == 1
    assert rig.reports.alerts == ["refresh_overruled"]


@pytest.mark.fault("B38")
async def test_tokens_win_over_a_later_exchange_that_began_on_the_spent_token() -> None:
    """A paused holder whose claim ran out comes back with the tokens; the other's showing was refused."""
    rig, store = failing()
    owner, tokens = await add(rig, life_s=-1)
    store.gates["finish_refresh"] = asyncio.Event()
    waiting = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
    await settle()
    rig.clock.advance(rig.policy.claim_ttl_s + 1)
    assert tokens.refresh_token is not None
    later = await store.claim(rig.policy.scope, "another", 60.0)
    assert later is not None
    intent = await store.intent(owner.id)
    assert intent is not None
    await store.begin_refresh(owner.id, later, intent.token_digest)
    store.gates.pop("finish_refresh").set()
    served = await waiting
    stored = await store.credential(owner.id)
    assert stored is not None
    assert stored.access_token == served.access_token
    assert stored.refresh_token != tokens.refresh_token


@pytest.mark.fault("B56")
async def test_a_locked_store_lets_living_tokens_serve_and_sends_nothing() -> None:
    rig, store = failing()
    owner, tokens = await add(rig, life_s=200)
    await rig.tokens.get(owner)
    store.failing.update({"claim": 3, "begin_refresh": 3})
    rig.tokens.invalidate(owner.id)
    for _ in range(3):
        assert (await rig.tokens.get(owner)).access_token == tokens.access_token
        await settle()
    store.failing["credential"] = 1
    rig.restart()
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)


async def test_a_stale_spool_file_is_dropped_and_never_overwrites_newer_tokens(tmp_path: Path) -> None:
    rig, store = failing(tmp_path)
    owner, _ = await add(rig, life_s=-1)
    store.failing["finish_refresh"] = 10_000
    await rig.tokens.get(owner)
    await quiet(rig)
    await rig.kill()
    store.failing.clear()
    stored = await store.credential(owner.id)
    assert stored is not None
    imported = credential(owner, rig.clock.now_s(), refresh="rt_imported", age_s=5)
    await store.put_credential(imported, stored.version)
    rig.restart()
    assert await rig.tokens.recover() == 0
    assert await on_disk(tmp_path) == []
    kept = await store.credential(owner.id)
    assert kept is not None
    assert kept.refresh_token == Secret("rt_imported")


async def test_errors_of_the_store_and_the_vault_are_what_the_fakes_raise() -> None:
    store = FailingStore(FakeClock())
    store.failing["claim"] = 1
    with pytest.raises(StoreUnavailable):
        await store.claim("scope", "me", 1.0)
    with pytest.raises(SealBroken):
        VAULT.open(b"x" * 200, Place("spool", "a", "tokens", 1))


async def test_world_has_no_spool_and_nothing_waits() -> None:
    assert await world().tokens.recover() == 0
