"""Claims and intents: what every store promises about the one use of a refresh token."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.base import Store
from store.errors import Conflict, NotFound
from store.records import Claim, RefreshState, Secret
from store.refresh_rules import token_digest
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_account, make_credential

SCOPE = "https://auth.example.com client"
DIGEST = token_digest(Secret("refresh-of-acct-1"))


async def claimed(store: Store, holder: str = "one", ttl_s: float = 30.0) -> Claim:
    claim = await store.claim(SCOPE, holder, ttl_s)
    assert claim is not None
    return claim


@pytest.fixture
async def ready(store: Store) -> Store:
    await store.add_account(make_account(), make_credential())
    return store


async def test_a_scope_has_one_claim_even_for_its_own_holder(store: Store, other: Store, clock: FakeClock) -> None:
    claim = await claimed(store)
    assert claim.expires_at_s == clock.now_s() + 30.0
    assert await other.claim(SCOPE, "two", 30.0) is None
    assert await store.claim(SCOPE, "one", 30.0) is None
    assert await other.claim("another scope", "two", 30.0) is not None


async def test_a_released_claim_can_be_had_with_a_higher_fence(store: Store, other: Store) -> None:
    first = await claimed(store)
    await store.release(first)
    second = await other.claim(SCOPE, "two", 30.0)
    assert second is not None
    assert second.fence > first.fence


async def test_a_claim_that_ran_out_is_taken_over_and_its_release_does_nothing(
    store: Store, other: Store, clock: FakeClock
) -> None:
    first = await claimed(store)
    clock.advance(29.9)
    assert await other.claim(SCOPE, "two", 30.0) is None
    clock.advance(0.2)
    second = await claimed(other, "two")
    assert second.fence > first.fence
    await store.release(first)
    assert await store.claim(SCOPE, "one", 30.0) is None


@pytest.mark.fault("B37")
async def test_an_intent_is_seen_by_all_until_the_refresh_is_finished(
    ready: Store, other: Store, clock: FakeClock
) -> None:
    claim = await claimed(ready)
    begun = await ready.begin_refresh("acct-1", claim, DIGEST)
    assert (begun.account_id, begun.token_digest, begun.fence, begun.replays) == ("acct-1", DIGEST, claim.fence, 0)
    assert begun.started_at_s == clock.now_s()
    assert await other.intent("acct-1") == begun
    new = make_credential(access_token=Secret("new"), refresh_token=Secret("next"))
    assert await ready.finish_refresh(new, claim, 1) == replace(new, version=2)
    assert await other.intent("acct-1") is None
    assert await other.credential("acct-1") == replace(new, version=2)


async def test_beginning_needs_a_claim_that_lives(ready: Store, clock: FakeClock) -> None:
    claim = await claimed(ready)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", replace(claim, fence=claim.fence + 1), DIGEST)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", replace(claim, scope="another"), DIGEST)
    clock.advance(31)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", claim, DIGEST)
    later = await claimed(ready, "two")
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", claim, DIGEST)
    await ready.release(later)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", later, DIGEST)
    assert await ready.intent("acct-1") is None


async def test_beginning_needs_the_token_that_is_stored(ready: Store) -> None:
    claim = await claimed(ready)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", claim, token_digest(Secret("an older one")))
    with pytest.raises(NotFound):
        await ready.begin_refresh("nobody", claim, DIGEST)
    await ready.put_credential(make_credential(refresh_token=None), 1)
    with pytest.raises(Conflict):
        await ready.begin_refresh("acct-1", claim, DIGEST)
    assert await ready.intent("acct-1") is None


@pytest.mark.fault("B35")
async def test_beginning_again_with_the_same_token_counts_a_replay(ready: Store, clock: FakeClock) -> None:
    first = await claimed(ready)
    begun = await ready.begin_refresh("acct-1", first, DIGEST)
    clock.advance(60)
    second = await claimed(ready, "two")
    again = await ready.begin_refresh("acct-1", second, DIGEST)
    assert (again.replays, again.fence, again.started_at_s) == (1, second.fence, begun.started_at_s)
    third = await ready.begin_refresh("acct-1", second, DIGEST)
    assert third.replays == 2
    assert await ready.intent("acct-1") == third


async def test_tokens_are_stored_after_the_claim_ran_out(ready: Store, clock: FakeClock) -> None:
    claim = await claimed(ready)
    await ready.begin_refresh("acct-1", claim, DIGEST)
    clock.advance(3600)
    await claimed(ready, "two")
    await ready.finish_refresh(make_credential(access_token=Secret("late")), claim, 1)
    found = await ready.credential("acct-1")
    assert found is not None
    assert found.access_token == Secret("late")


async def test_a_later_exchange_shuts_the_earlier_one_out(ready: Store, other: Store, clock: FakeClock) -> None:
    first = await claimed(ready)
    await ready.begin_refresh("acct-1", first, DIGEST)
    clock.advance(31)
    second = await claimed(other, "two")
    begun = await other.begin_refresh("acct-1", second, DIGEST)
    with pytest.raises(Conflict):
        await ready.finish_refresh(make_credential(), first, 1)
    with pytest.raises(Conflict):
        await ready.abandon_refresh("acct-1", first, "spent")
    with pytest.raises(Conflict):
        await ready.abandon_refresh("acct-1", first, None)
    assert await ready.intent("acct-1") == begun
    assert await ready.credential("acct-1") == make_credential()


async def test_finishing_compares_versions_and_keeps_the_intent_when_it_loses(ready: Store) -> None:
    claim = await claimed(ready)
    begun = await ready.begin_refresh("acct-1", claim, DIGEST)
    with pytest.raises(Conflict):
        await ready.finish_refresh(make_credential(), claim, 2)
    assert await ready.intent("acct-1") == begun
    with pytest.raises(NotFound):
        await ready.finish_refresh(make_credential("nobody"), claim, 1)


async def test_abandoning_without_a_state_clears_the_intent_only(ready: Store) -> None:
    claim = await claimed(ready)
    await ready.begin_refresh("acct-1", claim, DIGEST)
    await ready.abandon_refresh("acct-1", claim, None)
    assert await ready.intent("acct-1") is None
    assert await ready.credential("acct-1") == make_credential()
    await ready.abandon_refresh("acct-1", claim, None)


@pytest.mark.parametrize(("state", "kept"), [("spent", False), ("uncertain", True)])
async def test_abandoning_with_a_state_marks_the_credential(ready: Store, other: Store, state: str, kept: bool) -> None:
    claim = await claimed(ready)
    before = (await other.changes(0)).directory_revision
    await ready.begin_refresh("acct-1", claim, DIGEST)
    await ready.abandon_refresh("acct-1", claim, state)
    assert await other.credential("acct-1") == make_credential(refresh_state=RefreshState(state))
    assert (await other.intent("acct-1") is not None) is kept
    assert (await other.changes(0)).directory_revision > before


async def test_a_new_login_clears_the_intent_and_no_late_mark_hits_it(ready: Store) -> None:
    claim = await claimed(ready)
    await ready.begin_refresh("acct-1", claim, DIGEST)
    fresh = await ready.put_credential(make_credential(refresh_token=Secret("of the new login")), 1)
    assert await ready.intent("acct-1") is None
    with pytest.raises(Conflict):
        await ready.abandon_refresh("acct-1", claim, "spent")
    with pytest.raises(Conflict):
        await ready.finish_refresh(make_credential(), claim, 1)
    assert await ready.credential("acct-1") == fresh


async def test_an_account_leaves_with_its_intent(ready: Store) -> None:
    claim = await claimed(ready)
    await ready.begin_refresh("acct-1", claim, DIGEST)
    await ready.remove_account("acct-1")
    await ready.add_account(make_account(), make_credential())
    assert await ready.intent("acct-1") is None
