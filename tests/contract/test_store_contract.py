"""Accounts, credentials, tenants and keys: what every store promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.base import Store
from store.errors import Conflict, NotFound, StoreUnavailable
from store.records import AccountStatus, RefreshState, Secret
from tests.fakes.clock import FakeClock
from tests.fakes.records import NOW_S, make_account, make_credential, make_health, make_key, make_tenant, make_window


async def revision(store: Store) -> int:
    return (await store.changes(0)).directory_revision


async def test_an_account_comes_back_as_it_was_given(store: Store, other: Store) -> None:
    await store.add_account(make_account(), make_credential())
    assert await store.account("acct-1") == make_account()
    assert await other.accounts() == (make_account(),)
    assert await other.credential("acct-1") == make_credential()


async def test_optional_fields_come_back_absent(store: Store) -> None:
    bare = make_account(
        email=None, plan=None, status_reason=None, workspace_origin=None, routing_override=None, enabled=True
    )
    await store.add_account(bare, make_credential(refresh_token=None, id_token=None))
    assert await store.account("acct-1") == bare
    found = await store.credential("acct-1")
    assert found is not None
    assert found.refresh_token is None
    assert found.id_token is None


async def test_what_is_absent_is_none_or_empty(store: Store) -> None:
    assert await store.accounts() == ()
    assert await store.account("nobody") is None
    assert await store.credential("nobody") is None
    assert await store.intent("nobody") is None
    assert await store.tenants() == ()
    assert await store.keys() == ()
    assert await store.remove_account("nobody") is False
    assert await store.remove_tenant("nobody") is False


async def test_accounts_are_ordered_by_creation_then_id(store: Store) -> None:
    for name, age_s in (("b", 0), ("c", -5), ("a", 0)):
        await store.add_account(make_account(name, created_at_s=NOW_S + age_s), make_credential(name))
    assert [account.id for account in await store.accounts()] == ["c", "a", "b"]


async def test_an_id_is_taken_once_and_nothing_of_the_loser_is_kept(store: Store) -> None:
    await store.add_account(make_account(), make_credential())
    with pytest.raises(Conflict):
        await store.add_account(
            make_account(chatgpt_account_id="else"), make_credential(access_token=Secret("of the loser"))
        )
    assert await store.accounts() == (make_account(),)
    assert await store.credential("acct-1") == make_credential()


async def test_a_chatgpt_account_is_taken_once_and_no_credential_of_the_loser_is_kept(store: Store) -> None:
    await store.add_account(make_account(), make_credential())
    with pytest.raises(Conflict):
        await store.add_account(make_account("acct-2", chatgpt_account_id="chatgpt-acct-1"), make_credential("acct-2"))
    assert await store.account("acct-2") is None
    assert await store.credential("acct-2") is None


async def test_a_credential_of_another_account_is_not_added(store: Store) -> None:
    with pytest.raises(Conflict):
        await store.add_account(make_account("acct-1"), make_credential("acct-2"))
    assert await store.accounts() == ()


async def test_putting_an_account_compares_versions(store: Store, other: Store) -> None:
    await store.add_account(make_account(), make_credential())
    changed = replace(make_account(), label="new", status=AccountStatus.NEEDS_REAUTH, enabled=True)
    stored = await store.put_account(changed, 1)
    assert stored == replace(changed, version=2)
    with pytest.raises(Conflict):
        await other.put_account(replace(changed, label="late"), 1)
    assert await other.account("acct-1") == stored


async def test_putting_what_is_absent_says_so(store: Store) -> None:
    await store.add_tenant(make_tenant())
    with pytest.raises(NotFound):
        await store.put_account(make_account(), 1)
    with pytest.raises(NotFound):
        await store.put_credential(make_credential(), 1)
    with pytest.raises(NotFound):
        await store.put_tenant(make_tenant("tenant-9"), 1)
    with pytest.raises(NotFound):
        await store.put_key(make_key(), 1)


async def test_an_account_cannot_take_over_anothers_chatgpt_account(store: Store) -> None:
    await store.add_account(make_account("a"), make_credential("a"))
    await store.add_account(make_account("b"), make_credential("b"))
    with pytest.raises(Conflict):
        await store.put_account(make_account("b", chatgpt_account_id="chatgpt-a"), 1)
    assert await store.account("b") == make_account("b")


async def test_an_account_leaves_with_all_that_is_its_own(store: Store, other: Store) -> None:
    for name in ("a", "b"):
        await store.add_account(make_account(name), make_credential(name))
    await store.publish([make_health("a"), make_health("b")], [make_window("a"), make_window("b")])
    assert await other.remove_account("a") is True
    assert [account.id for account in await store.accounts()] == ["b"]
    assert await store.credential("a") is None
    changes = await store.changes(0)
    assert [record.account_id for record in changes.health] == ["b"]
    assert [record.account_id for record in changes.windows] == ["b"]
    await store.add_account(make_account("a"), make_credential("a"))


async def test_putting_a_credential_compares_versions(store: Store, other: Store) -> None:
    await store.add_account(make_account(), make_credential())
    new = make_credential(access_token=Secret("new"), refresh_state=RefreshState.SPENT)
    assert await store.put_credential(new, 1) == replace(new, version=2)
    with pytest.raises(Conflict):
        await other.put_credential(make_credential(access_token=Secret("late")), 1)
    assert await other.credential("acct-1") == replace(new, version=2)


async def test_every_change_of_the_directory_raises_its_revision(store: Store, other: Store) -> None:
    seen = [await revision(other)]

    async def must_rise() -> None:
        seen.append(await revision(other))
        assert seen[-1] > seen[-2]

    await store.add_account(make_account(), make_credential())
    await must_rise()
    await store.put_account(make_account(), 1)
    await must_rise()
    await store.put_credential(make_credential(), 1)
    await must_rise()
    await store.add_tenant(make_tenant())
    await must_rise()
    await store.put_tenant(make_tenant(), 1)
    await must_rise()
    await store.add_key(make_key())
    await must_rise()
    await store.put_key(make_key(), 1)
    await must_rise()
    await store.remove_tenant("tenant-1")
    await must_rise()
    await store.remove_account("acct-1")
    await must_rise()


async def test_a_refused_change_leaves_the_revision(store: Store) -> None:
    await store.add_account(make_account(), make_credential())
    before = await revision(store)
    with pytest.raises(Conflict):
        await store.add_account(make_account(), make_credential())
    with pytest.raises(Conflict):
        await store.put_account(make_account(), 7)
    assert await revision(store) == before


async def test_tenants_and_keys_come_back_as_they_were_given(store: Store, other: Store) -> None:
    await store.add_tenant(make_tenant())
    await store.add_key(make_key())
    await store.add_key(
        make_key("key-2", scopes=frozenset(), models=(), expires_at_s=None, revoked_at_s=NOW_S, created_at_s=NOW_S - 1)
    )
    assert await other.tenants() == (make_tenant(),)
    first, second = await other.keys()
    assert (first.id, first.scopes, first.models, first.revoked_at_s) == ("key-2", frozenset(), (), NOW_S)
    assert second == make_key()


async def test_names_and_ids_of_tenants_and_keys_are_taken_once(store: Store) -> None:
    await store.add_tenant(make_tenant("a"))
    await store.add_tenant(make_tenant("b"))
    await store.add_key(make_key("key-1", "a"))
    with pytest.raises(Conflict):
        await store.add_tenant(make_tenant("a", name="else"))
    with pytest.raises(Conflict):
        await store.add_tenant(make_tenant("c", name="name of a"))
    with pytest.raises(Conflict):
        await store.put_tenant(make_tenant("b", name="name of a"), 1)
    with pytest.raises(Conflict):
        await store.add_key(make_key("key-1", "b"))
    assert [tenant.name for tenant in await store.tenants()] == ["name of a", "name of b"]
    assert [key.tenant_id for key in await store.keys()] == ["a"]


async def test_putting_tenants_and_keys_compares_versions(store: Store) -> None:
    await store.add_tenant(make_tenant())
    await store.add_key(make_key())
    assert (await store.put_tenant(make_tenant(enabled=True), 1)).version == 2
    assert (await store.put_key(make_key(revoked_at_s=NOW_S), 1)).version == 2
    with pytest.raises(Conflict):
        await store.put_tenant(make_tenant(), 1)
    with pytest.raises(Conflict):
        await store.put_key(make_key(), 1)
    assert (await store.tenants())[0].enabled is True
    assert (await store.keys())[0].revoked_at_s == NOW_S


async def test_a_key_needs_a_tenant_and_leaves_with_it(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.add_key(make_key())
    await store.add_tenant(make_tenant("a"))
    await store.add_tenant(make_tenant("b"))
    await store.add_key(make_key("key-a", "a"))
    await store.add_key(make_key("key-b", "b"))
    assert await store.remove_tenant("a") is True
    assert [key.id for key in await store.keys()] == ["key-b"]


async def test_a_sealed_value_is_made_once_for_all(store: Store, other: Store) -> None:
    assert await store.sealed_value("pepper", b"first") == b"first"
    assert await other.sealed_value("pepper", b"second") == b"first"
    assert await store.sealed_value("salt", b"other") == b"other"


async def test_hostile_text_is_data(store: Store, clock: FakeClock) -> None:
    evil = "'; DROP TABLE accounts; --\x00\r\n%_\U0001f600"
    await store.add_account(make_account(evil, label=evil), make_credential(evil))
    found = await store.account(evil)
    assert found is not None
    assert found.label == evil
    assert await store.account("%") is None


async def test_a_check_changes_nothing_and_a_closed_store_is_unavailable(store: Store) -> None:
    await store.add_account(make_account(), make_credential())
    before = await store.changes(0)
    await store.check()
    assert await store.changes(0) == before
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.check()
    with pytest.raises(StoreUnavailable):
        await store.accounts()
    with pytest.raises(StoreUnavailable):
        await store.add_tenant(make_tenant())


async def test_a_removed_key_is_gone_everywhere_and_the_directory_says_so(store: Store, other: Store) -> None:
    await store.add_tenant(make_tenant())
    await store.add_key(make_key("k1"))
    before = (await store.changes(0)).directory_revision
    assert await other.remove_key("k1")
    assert await store.keys() == ()
    assert (await store.changes(0)).directory_revision > before
    assert not await store.remove_key("k1")
