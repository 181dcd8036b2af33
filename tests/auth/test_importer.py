"""How logins get into the store: first, again, twice, broken, and while requests are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from auth.authfile import Source
from auth.check import AccountCheck
from auth.errors import ImportRefused
from auth.importer import OTHER_HOLDER, Importer, ImportOptions, ImportOutcome, ImportResult
from store.errors import Conflict
from store.memory import MemoryStore
from store.records import Account, AccountStatus, Credential, RefreshState, Secret
from tests.auth.rig import Rig, settle, world
from tests.fakes.clock import FakeClock
from tests.fakes.logins import auth_json
from tests.fakes.mortal import Killed, Life, MortalStore

HOME = "https://chatgpt.com"
PLAIN = ImportOptions()


def source(document: dict[str, Any], name: str = "auth.json") -> Source:
    return Source(name, json.dumps(document).encode())


def importer(store: Any, clock: FakeClock, answer: AccountCheck | None = None, **options: Any) -> Importer:
    async def check(access_token: Secret, account_id: str) -> AccountCheck | None:
        return answer

    return Importer(store, check, clock, home_origin=HOME, **options)


async def take(rig: Rig, *documents: dict[str, Any], options: ImportOptions = PLAIN) -> list[ImportResult]:
    sources = [source(document, f"{number}.json") for number, document in enumerate(documents, 1)]
    return await importer(rig.store, rig.clock).take(sources, options)


def outcomes(results: list[ImportResult]) -> list[str]:
    return [f"{result.outcome}:{result.code}" for result in results]


async def test_a_new_login_becomes_an_account_with_its_credential() -> None:
    rig = world()
    [result] = await take(rig, auth_json("c-1", rig.clock.now_s(), age_s=3600))
    assert (result.outcome, result.label) == (ImportOutcome.IMPORTED, "user@example.org")
    assert OTHER_HOLDER in result.warnings
    [made] = await rig.store.accounts()
    assert made.id == result.account_id
    assert made.id.startswith("acc_")
    assert len(made.id) == 16
    assert (made.chatgpt_account_id, made.email, made.plan) == ("c-1", "user@example.org", "plus")
    assert uuid.UUID(made.installation_id).version == 4
    stored = await rig.store.credential(made.id)
    assert stored is not None
    assert stored.refreshed_at_s == pytest.approx(rig.clock.now_s() - 3600)
    assert stored.expires_at_s == pytest.approx(rig.clock.now_s() + 10 * 86_400)


async def test_label_and_pool_are_taken_and_numbered_over_a_batch() -> None:
    rig = world()
    now_s = rig.clock.now_s()
    await take(
        rig, auth_json("c-1", now_s), auth_json("c-2", now_s), options=ImportOptions(label="team", pool="blue.1")
    )
    made = await rig.store.accounts()
    assert sorted((one.label, one.pool) for one in made) == [("team-1", "blue.1"), ("team-2", "blue.1")]
    for bad, code in ((ImportOptions(pool="a b"), "bad_pool"), (ImportOptions(label="a\nb"), "bad_label")):
        assert (await take(rig, auth_json("c-3", now_s), options=bad))[0].code == code


@pytest.mark.fault("B39")
async def test_the_same_file_again_changes_nothing() -> None:
    rig = world()
    document = auth_json("c-1", rig.clock.now_s())
    await take(rig, document)
    before = await rig.store.accounts()
    [again] = await take(rig, document)
    assert (again.outcome, await rig.store.accounts()) == (ImportOutcome.UNCHANGED, before)


@pytest.mark.fault("B39")
async def test_one_account_twice_in_a_batch_is_taken_once_with_its_newest_tokens() -> None:
    rig = world()
    now_s = rig.clock.now_s()
    results = await take(
        rig,
        auth_json("c-1", now_s, age_s=500, refresh="rt_old"),
        auth_json("c-1", now_s, refresh="rt_new"),
        auth_json("c-1", now_s, refresh="rt_new"),
    )
    assert outcomes(results) == ["refused:duplicate", "imported:ok", "refused:duplicate"]
    [made] = await rig.store.accounts()
    stored = await rig.store.credential(made.id)
    assert stored is not None
    assert stored.refresh_token == Secret("rt_new")


@pytest.mark.fault("B39")
async def test_a_new_login_of_a_known_account_replaces_its_tokens_and_clears_needs_reauth() -> None:
    rig = world()
    [first] = await take(rig, auth_json("c-1", rig.clock.now_s(), refresh="rt_1"))
    assert first.account_id is not None
    [known] = await rig.store.accounts()
    dead = replace(known, status=AccountStatus.NEEDS_REAUTH, status_reason="refused", label="kept")
    await rig.store.put_account(dead, known.version)
    rig.clock.advance(100)
    [again] = await take(rig, auth_json("c-1", rig.clock.now_s(), refresh="rt_2"))
    assert (again.outcome, again.account_id) == (ImportOutcome.UPDATED, first.account_id)
    [now] = await rig.store.accounts()
    assert (now.status, now.status_reason, now.label) == (AccountStatus.ACTIVE, None, "kept")
    assert now.installation_id == known.installation_id
    stored = await rig.store.credential(now.id)
    assert stored is not None
    assert (stored.refresh_token, stored.version) == (Secret("rt_2"), 2)


@pytest.mark.fault("B39")
async def test_the_file_that_was_imported_once_does_not_replace_the_tokens_that_came_of_it() -> None:
    rig = world()
    document = auth_json("c-1", rig.clock.now_s() - 100, refresh="rt_first")
    [first] = await take(rig, document)
    [known] = await rig.store.accounts()
    stored = await rig.store.credential(known.id)
    assert stored is not None
    rig.issuer.knows(known, stored)
    newer = await rig.tokens.force(known)
    [again] = await take(rig, document)
    assert outcomes([again]) == ["refused:older"]
    assert await rig.store.credential(known.id) == newer
    [forced] = await take(rig, document, options=ImportOptions(force=True))
    assert forced.outcome is ImportOutcome.UPDATED
    assert first.account_id == forced.account_id


async def test_a_login_that_the_issuer_refused_is_not_taken_again() -> None:
    rig = world()
    document = auth_json("c-1", rig.clock.now_s())
    await take(rig, document)
    [known] = await rig.store.accounts()
    stored = await rig.store.credential(known.id)
    assert stored is not None
    await rig.store.put_credential(replace(stored, refresh_state=RefreshState.SPENT), 1)
    assert outcomes(await take(rig, document)) == ["refused:spent"]


@pytest.mark.fault("B39")
async def test_importing_while_a_refresh_is_under_way_keeps_the_imported_login() -> None:
    rig = world()
    now_s = rig.clock.now_s()
    await take(rig, auth_json("c-1", now_s, life_s=-1, age_s=5000, refresh="rt_1"))
    [known] = await rig.store.accounts()
    stored = await rig.store.credential(known.id)
    assert stored is not None
    rig.issuer.knows(known, stored)
    rig.issuer.gate = asyncio.Event()
    serving = asyncio.get_running_loop().create_task(rig.tokens.get(known))
    await settle()
    [result] = await take(rig, auth_json("c-1", now_s, refresh="rt_2"))
    rig.issuer.gate.set()
    assert result.outcome is ImportOutcome.UPDATED
    assert (await serving).refresh_token == Secret("rt_2")
    kept = await rig.store.credential(known.id)
    assert kept is not None
    assert kept.refresh_token == Secret("rt_2")


class Racing(MemoryStore):
    """Another import wins the first compare-and-put."""

    races = 1

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        if self.races:
            self.races -= 1
            await super().put_credential(credential, expected_version)
            raise Conflict("the credential has changed")
        return await super().put_credential(credential, expected_version)

    async def add_account(self, account: Account, credential: Credential) -> None:
        if self.races:
            self.races -= 1
            await super().add_account(account, credential)
            raise Conflict("it is there already")
        await super().add_account(account, credential)


async def test_who_loses_a_race_reads_again() -> None:
    clock = FakeClock()
    store = Racing(clock)
    document = source(auth_json("c-1", clock.now_s()))
    [lost] = await importer(store, clock).take([document], PLAIN)
    assert lost.outcome is ImportOutcome.UNCHANGED
    store.races = 1
    clock.advance(10)
    [again] = await importer(store, clock).take([source(auth_json("c-1", clock.now_s(), refresh="rt_2"))], PLAIN)
    assert again.outcome is ImportOutcome.UNCHANGED, "the other import did it"
    assert len(await store.accounts()) == 1


async def test_a_kill_at_any_step_leaves_a_whole_account_and_the_import_can_be_repeated() -> None:
    for die_at in range(1, 8):
        rig = world()
        store = MortalStore(rig.store, Life(die_at))
        first = source(auth_json("c-1", rig.clock.now_s(), refresh="rt_1"))
        if die_at > 3:
            await importer(rig.store, rig.clock).take([first], PLAIN)
            rig.clock.advance(5)
        latest = source(auth_json("c-1", rig.clock.now_s(), refresh="rt_2"))
        with contextlib.suppress(Killed):
            await importer(store, rig.clock).take([latest], PLAIN)
        for made in await rig.store.accounts():
            assert await rig.store.credential(made.id) is not None
        await importer(rig.store, rig.clock).take([latest], PLAIN)
        [made] = await rig.store.accounts()
        stored = await rig.store.credential(made.id)
        assert stored is not None
        assert stored.refresh_token == Secret("rt_2")
        assert made.status is AccountStatus.ACTIVE


async def test_a_dry_run_says_what_would_happen_and_changes_nothing() -> None:
    rig = world()
    dry = ImportOptions(dry_run=True)
    [result] = await take(rig, auth_json("c-1", rig.clock.now_s()), options=dry)
    assert (result.outcome, result.message, result.account_id) == (ImportOutcome.IMPORTED, "would be imported", None)
    assert await rig.store.accounts() == ()
    await take(rig, auth_json("c-1", rig.clock.now_s()))
    before = await rig.store.accounts()
    rig.clock.advance(9)
    [result] = await take(rig, auth_json("c-1", rig.clock.now_s(), refresh="rt_2"), options=dry)
    assert (result.outcome, await rig.store.accounts()) == (ImportOutcome.UPDATED, before)


async def test_an_expired_access_token_is_taken_when_it_can_be_refreshed() -> None:
    rig = world()
    now_s = rig.clock.now_s()
    expired, hopeless = await take(
        rig,
        auth_json("c-1", now_s, life_s=-60, age_s=9000),
        auth_json("c-2", now_s, life_s=-60, age_s=9000, refresh=None),
    )
    assert expired.outcome is ImportOutcome.IMPORTED
    assert any("expired" in warning for warning in expired.warnings)
    assert outcomes([hopeless]) == ["refused:expired"]


@pytest.mark.parametrize(
    ("answer", "allowed", "outcome", "origin", "override"),
    [
        (AccountCheck("pro", None, None), (), "imported:ok", None, None),
        (AccountCheck("pro", HOME, "us"), (), "imported:ok", None, "us"),
        (AccountCheck("pro", HOME + ":443/", "us_cr"), (), "imported:ok", None, "us_cr"),
        (
            AccountCheck("pro", "https://eu.example", None),
            ("https://EU.example/",),
            "imported:ok",
            "https://eu.example",
            None,
        ),
        (AccountCheck("pro", "https://eu.example", None), (), "refused:foreign_origin", None, None),
        (AccountCheck("pro", "http://chatgpt.com", None), ("http://chatgpt.com",), "refused:bad_origin", None, None),
        (AccountCheck("pro", "https://chatgpt.com@evil.example", None), (), "refused:bad_origin", None, None),
        (AccountCheck("pro", "https://eu.example/p", None), ("https://eu.example",), "refused:bad_origin", None, None),
        (AccountCheck("pro", None, "us\r\nx: y"), (), "refused:bad_override", None, None),
    ],
)  # fmt: skip
async def test_routing_that_the_backend_names_is_kept_only_when_it_is_allowed(
    answer: AccountCheck, allowed: tuple[str, ...], outcome: str, origin: str | None, override: str | None
) -> None:
    rig = world()
    taker = importer(rig.store, rig.clock, answer, allowed_origins=allowed)
    results = await taker.take([source(auth_json("c-1", rig.clock.now_s()))], PLAIN)
    assert outcomes(results) == [outcome]
    if outcome == "imported:ok":
        [made] = await rig.store.accounts()
        assert (made.workspace_origin, made.routing_override, made.plan) == (origin, override, "pro")
    else:
        assert await rig.store.accounts() == ()


async def test_a_backend_that_does_not_answer_is_a_warning_and_an_unlisted_account_is_refused() -> None:
    rig = world()
    [offline] = await take(rig, auth_json("c-1", rig.clock.now_s()))
    assert any("was not asked" in warning for warning in offline.warnings)

    async def unlisted(access_token: Secret, account_id: str) -> AccountCheck | None:
        raise ImportRefused("account_not_listed", "not yours")

    taker = Importer(rig.store, unlisted, rig.clock, home_origin=HOME)
    [result] = await taker.take([source(auth_json("c-2", rig.clock.now_s()))], PLAIN)
    assert outcomes([result]) == ["refused:account_not_listed"]


@pytest.mark.fault("C37")
async def test_no_result_shows_a_token() -> None:
    rig = world()
    document = auth_json("c-1", rig.clock.now_s(), refresh="rt_super-secret")
    newest = auth_json("c-1", rig.clock.now_s() + 1, refresh="rt_super-secret")
    results = await take(rig, document, newest, {"auth_mode": "rt_super-secret", "tokens": document["tokens"]})
    shown = repr(results)
    assert [result.outcome for result in results] == ["refused", "imported", "refused"]
    assert "super-secret" not in shown
    assert document["tokens"]["access_token"] not in shown
