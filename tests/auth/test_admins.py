"""Administrators: names, versions, and an owner who is always left, whatever happens at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.admins import ROSTER_ID, ROSTER_KIND, AdminDirectory, Subject
from auth.errors import AdminError, AlreadyBootstrapped, BadName, LastOwner, NameTaken, NoSuchAdmin, StaleAdmin
from auth.proofs import PROOF_KIND, Proof, ProofShelf
from auth.roles import Role
from store.errors import StoreError
from store.memory import MemoryStore
from store.records import Document
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock


@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_is_found_by_id_and_by_name_in_any_case(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as (one, two):
        made = await AdminDirectory(one, clock).create("Ann@Example.org", Role.AUDITOR, "ten_1")
        assert (made.name, made.role, made.tenant_id, made.enabled) == ("ann@example.org", "auditor", "ten_1", True)
        assert (made.totp_enabled, made.sso, made.last_login_at_s) == (False, False, None)
        assert made.created_at_s == clock.now_s()
        other = AdminDirectory(two, clock)
        assert await other.get(made.id) == await other.by_name("ANN@example.org") == made
        assert await other.all() == (made,)
        assert await other.get("adm_nobody") is None
        assert await other.by_name("bob") is None


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ann\n", "ä", "a" * 65, "<b>", "a\x00"])
async def test_other_names_are_refused(name: str) -> None:
    directory = AdminDirectory(MemoryStore(), FakeClock())
    with pytest.raises(BadName, match="1 to 64"):
        await directory.create(name, Role.ADMIN)
    assert await directory.all() == ()


@pytest.mark.parametrize("kind", KINDS)
async def test_of_many_who_want_a_name_at_once_one_gets_it(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as handles:
        directories = [AdminDirectory(one, clock) for one in handles]
        tries = (directories[n % 2].create("ann", Role.ADMIN) for n in range(10))
        done = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(one, NameTaken) for one in done) == 9
        assert len(await directories[0].all()) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_two_demotions_at_once_leave_an_owner(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as (one, two):
        first, second = AdminDirectory(one, clock), AdminDirectory(two, clock)
        for _ in range(10):
            a = await first.by_name("a") or await first.create("a", Role.OWNER)
            b = await first.by_name("b") or await first.create("b", Role.OWNER)
            done = await asyncio.gather(
                first.change(a.id, role=Role.ADMIN), second.change(b.id, enabled=False), return_exceptions=True
            )
            assert sum(isinstance(result, LastOwner) for result in done) == 1
            assert await first.has_owner()
            for one_of in (a, b):
                await second.change(one_of.id, role=Role.OWNER, enabled=True)


async def test_the_last_owner_is_not_removed_disabled_or_demoted_and_nothing_changes() -> None:
    directory = AdminDirectory(MemoryStore(), FakeClock())
    ann = await directory.create("ann", Role.OWNER)
    await directory.create("bob", Role.ADMIN)
    for act in (
        directory.remove(ann.id),
        directory.change(ann.id, enabled=False),
        directory.change(ann.id, role=Role.ADMIN),
    ):
        with pytest.raises(LastOwner, match="make another owner first"):
            await act
    assert await directory.get(ann.id) == ann


async def test_a_change_compares_the_version_and_ends_the_sessions() -> None:
    directory = AdminDirectory(MemoryStore(), FakeClock())
    await directory.create("ann", Role.OWNER)
    bob = await directory.create("bob", Role.MEMBER, "ten_1")
    changed = await directory.change(bob.id, version=bob.version, role=Role.ADMIN, tenant_id=None)
    assert (changed.role, changed.tenant_id, changed.version) == (Role.ADMIN, None, bob.version + 1)
    assert changed.epoch > bob.epoch
    with pytest.raises(StaleAdmin):
        await directory.change(bob.id, version=bob.version, enabled=False)
    assert await directory.change(bob.id, role=Role.ADMIN) == changed
    with pytest.raises(NoSuchAdmin):
        await directory.change("adm_none", enabled=False)
    with pytest.raises(NoSuchAdmin):
        await directory.remove("adm_none")


async def test_a_removed_person_leaves_no_proof() -> None:
    store = MemoryStore()
    directory = AdminDirectory(store, FakeClock())
    bob = await directory.create("bob", Role.ADMIN)
    await ProofShelf(store).change(bob.id, lambda _: Proof(password="x"))
    await directory.remove(bob.id)
    assert await store.documents(PROOF_KIND) == ()
    assert await directory.all() == ()


async def test_a_roster_of_a_newer_release_is_an_error_and_not_an_empty_one() -> None:
    store = MemoryStore()
    await store.add_document(
        Document(ROSTER_KIND, ROSTER_ID, b'{"people":{"adm_1":{"id":"adm_1","name":"a","role":"god"}}}')
    )
    directory = AdminDirectory(store, FakeClock())
    for act in (directory.all(), directory.create("ann", Role.OWNER), directory.has_owner()):
        with pytest.raises(StoreError, match="newer release"):
            await act


async def test_a_first_owner_is_made_only_where_there_is_none() -> None:
    directory = AdminDirectory(MemoryStore(), FakeClock())
    await directory.create_first("adm_0000000000000001", "ann")
    with pytest.raises(AlreadyBootstrapped):
        await directory.create_first("adm_0000000000000002", "bob")


async def test_a_person_of_single_sign_on_never_takes_a_name_that_is_there() -> None:
    directory = AdminDirectory(MemoryStore(), FakeClock())
    local = await directory.create("ann", Role.OWNER)
    subject = Subject("https://id.example", "1")
    made = await directory.create_subject(subject, "Ann", Role.MEMBER)
    assert made.sso
    assert made.id != local.id
    assert made.name.startswith("ann-")
    assert await directory.create_subject(subject, "other", Role.OWNER) == made
    assert await directory.by_subject(Subject("https://evil.example", "1")) is None
    odd = await directory.create_subject(Subject("https://id.example", "2"), "  Björn <b>\n" * 20, Role.MEMBER)
    assert await directory.by_name(odd.name) == odd
    assert (await directory.create_subject(Subject("https://id.example", "3"), "...", Role.MEMBER)).name == "person"


ACT = st.tuples(
    st.sampled_from(["create", "change", "remove", "subject", "first", "end"]),
    st.integers(0, 5),
    st.sampled_from(list(Role)),
    st.booleans(),
)


@given(st.lists(st.lists(ACT, min_size=1, max_size=3), max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_acts_leaves_zero_enabled_owners(rounds: list[list[Any]]) -> None:
    async def play() -> None:
        store, clock = MemoryStore(FakeClock()), FakeClock()
        directories = [AdminDirectory(store, clock), AdminDirectory(store, clock)]
        had_owner = False
        for acts in rounds:
            done = await asyncio.gather(
                *(_act(directories[n % 2], *act) for n, act in enumerate(acts)), return_exceptions=True
            )
            assert all(one is None or isinstance(one, AdminError) for one in done), done
            people = await directories[0].all()
            owners = [one for one in people if one.enabled and one.role is Role.OWNER]
            had_owner = had_owner or bool(owners)
            assert owners or not had_owner
            assert len({one.name for one in people}) == len(people)

    asyncio.run(play())


async def _act(directory: AdminDirectory, what: str, number: int, role: Role, flag: bool) -> None:
    named = await directory.by_name(f"p{number}")
    target = named.id if named else "adm_none"
    if what == "create":
        await directory.create(f"p{number}", role)
    elif what == "subject":
        await directory.create_subject(Subject("i", str(number)), f"p{number}", role)
    elif what == "first":
        await directory.create_first(f"adm_{number:016}", f"p{number}")
    elif what == "change":
        await directory.change(target, role=role, enabled=flag)
    elif what == "end":
        await directory.end_sessions(target)
    else:
        await directory.remove(target)
