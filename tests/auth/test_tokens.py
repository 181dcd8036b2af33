"""Which access token a request gets, and when a refresh runs beside it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from auth.errors import NeedsReauth, RefreshUnavailable
from auth.oauth import RefreshReason
from store.records import AccountStatus, RefreshState
from tests.auth.rig import Rig, add, settle, world

DAY_S = 86_400.0


async def test_a_fresh_token_is_served_without_any_exchange() -> None:
    rig = world()
    owner, tokens = await add(rig)
    assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    await settle()
    assert rig.issuer.shown.total() == 0


async def test_a_token_near_its_end_is_served_while_it_is_renewed_in_the_background() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    await settle()
    newer = await rig.tokens.get(owner)
    assert newer.access_token != tokens.access_token
    assert rig.issuer.shown == {"rt_acc_1_0": 1}
    assert rig.issuer.reasons == [RefreshReason.PROACTIVE]
    stored = await rig.store.credential(owner.id)
    assert stored == newer
    assert newer.version == 2


@pytest.mark.fault("B31")
async def test_many_requests_with_an_expired_token_cause_one_exchange_and_all_are_served() -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    served = await asyncio.gather(*(rig.tokens.get(owner) for _ in range(50)))
    assert len({one.access_token.reveal() for one in served}) == 1
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B32")
@pytest.mark.parametrize("word", ["500", "429", "cloudflare", "redirect", "unsent"])
async def test_a_transient_failure_keeps_the_account_serving_and_backs_off(word: str) -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    rig.issuer.script.extend([word] * 3)
    for _ in range(5):
        assert (await rig.tokens.get(owner)).access_token == tokens.access_token
        await settle()
    assert len(rig.issuer.script) == 2, "no second try before the pause is over"
    assert rig.reports.events == {"transient": 1}
    await rig.advance(40)
    await rig.tokens.get(owner)
    await settle()
    assert len(rig.issuer.script) == 1
    stored = await rig.store.account(owner.id)
    assert stored is not None
    assert stored.status is AccountStatus.ACTIVE
    credential = await rig.store.credential(owner.id)
    assert credential is not None
    assert credential.refresh_state is RefreshState.READY
    await rig.advance(80)
    rig.issuer.script.clear()
    await rig.tokens.get(owner)
    await settle()
    assert (await rig.tokens.get(owner)).access_token != tokens.access_token


async def test_the_issuers_retry_after_is_kept() -> None:
    rig = world(backoff_s=1.0)
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.script.append("429")
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B33")
async def test_a_hanging_issuer_holds_a_request_for_the_wait_only() -> None:
    rig = world(wait_s=0.01)
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.gate = asyncio.Event()
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)
    rig.issuer.gate.set()
    await settle()
    assert (await rig.tokens.get(owner)).version == 2
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B34")
@pytest.mark.parametrize(
    "code", ["invalid_grant", "refresh_token_reused", "refresh_token_invalidated", "token_revoked"]
)
async def test_a_refusal_is_asked_for_once_alerts_once_and_the_access_token_serves_to_its_end(code: str) -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    rig.issuer.script.append(f"refuse:{code}")
    for _ in range(3):
        assert (await rig.tokens.get(owner)).access_token == tokens.access_token
        await settle()
    record = await rig.store.account(owner.id)
    assert record is not None
    assert record.status is AccountStatus.ACTIVE
    assert code in (record.status_reason or "")
    await rig.advance(300, 100)
    for _ in range(3):
        with pytest.raises(NeedsReauth):
            await rig.tokens.get(owner)
    record = await rig.store.account(owner.id)
    assert record is not None
    assert record.status is AccountStatus.NEEDS_REAUTH
    assert rig.issuer.shown.total() == 1
    assert rig.reports.alerts == ["needs_reauth"]


@pytest.mark.fault("B34")
async def test_a_spent_token_is_not_shown_again_after_a_restart() -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.script.append("refuse:refresh_token_reused")
    with pytest.raises(NeedsReauth):
        await rig.tokens.get(owner)
    rig.restart()
    with pytest.raises(NeedsReauth):
        await rig.tokens.get(owner)
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B35")
async def test_a_lost_answer_is_replayed_once_and_only_when_the_access_token_is_dead() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    rig.issuer.script.append("drop")
    await rig.tokens.get(owner)
    await settle()
    credential = await rig.store.credential(owner.id)
    assert credential is not None
    assert credential.refresh_state is RefreshState.UNCERTAIN
    for _ in range(4):
        await rig.advance(40)
        assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    assert rig.issuer.shown.total() == 1
    await rig.advance(60)
    assert (await rig.tokens.get(owner)).version == 2
    assert rig.issuer.shown["rt_acc_1_0"] == 2
    assert rig.reports.events["replayed"] == 1


@pytest.mark.fault("B35")
@pytest.mark.parametrize("second", ["lost", "drop", "500", "ok"])
async def test_a_rotated_token_with_a_lost_answer_ends_in_a_login_after_one_replay(second: str) -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.script.extend(["lost", second])
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)
    for _ in range(4):
        await rig.advance(100)
        with pytest.raises(NeedsReauth):
            await rig.tokens.get(owner)
    assert rig.issuer.shown["rt_acc_1_0"] == 2
    assert rig.issuer.violations == []
    assert rig.reports.alerts == ["needs_reauth"]


@pytest.mark.fault("B35")
async def test_a_replay_that_reached_nobody_is_no_replay() -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.script.extend(["drop", "unsent", "unsent", "ok"])
    for _ in range(3):
        with pytest.raises(RefreshUnavailable):
            await rig.tokens.get(owner)
        await rig.advance(200, 50)
    assert (await rig.tokens.get(owner)).version == 2
    assert rig.issuer.shown["rt_acc_1_0"] == 2


@pytest.mark.fault("B36")
async def test_an_answer_without_refresh_token_keeps_the_old_one() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=-1)
    rig.issuer.script.append("no_refresh")
    newer = await rig.tokens.get(owner)
    assert newer.refresh_token == tokens.refresh_token
    assert newer.refresh_state is RefreshState.READY
    assert await rig.store.intent(owner.id) is None


@pytest.mark.fault("B36")
async def test_another_accounts_tokens_are_never_stored_and_raise_an_alert() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    rig.issuer.script.append("stranger")
    await rig.tokens.get(owner)
    await settle()
    stored = await rig.store.credential(owner.id)
    assert stored is not None
    assert stored.access_token == tokens.access_token
    assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    assert rig.reports.alerts == ["needs_reauth"]
    assert rig.reports.events["mismatch"] == 1
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B40")
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0, 30 * DAY_S, -30 * DAY_S])
async def test_a_jump_of_the_wall_clock_refreshes_nothing_that_was_read_before(jump_s: float) -> None:
    rig = world()
    owners = [(await add(rig, number, life_s=2 * DAY_S))[0] for number in range(1, 6)]
    for owner in owners:
        await rig.tokens.get(owner)
    rig.clock.jump_wall(jump_s)
    for owner in owners:
        await rig.tokens.get(owner)
    await rig.tokens.reload([owner.id for owner in owners])
    await settle()
    assert rig.issuer.shown.total() == 0


@pytest.mark.fault("B40")
async def test_after_a_start_with_a_wrong_clock_refreshes_keep_their_distance() -> None:
    rig = world(spacing_s=2.0, wait_s=0.001)
    owners = [(await add(rig, number, life_s=3000))[0] for number in range(1, 5)]
    rig.clock.jump_wall(3600)
    for owner in owners:
        with contextlib.suppress(RefreshUnavailable):
            await rig.tokens.get(owner)
    await rig.advance(12, 0.05)
    assert rig.issuer.shown.total() == 4
    gaps = [b - a for a, b in zip(rig.issuer.times_s, rig.issuer.times_s[1:], strict=False)]
    assert min(gaps) >= 2.0
    assert rig.issuer.most_running == 1


@pytest.mark.fault("B40")
async def test_new_tokens_that_look_expired_by_our_clock_do_not_start_a_chain() -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.clock = type(rig.clock)(rig.clock.now_s() - 20 * DAY_S)
    first = await rig.tokens.get(owner)
    for _ in range(3):
        assert (await rig.tokens.get(owner)).access_token == first.access_token
        await settle()
    assert rig.issuer.shown.total() == 1


async def test_renew_uses_what_another_process_has_stored() -> None:
    rig = world()
    owner, tokens = await add(rig)
    other = Rig(rig.clock, rig.store, rig.issuer)
    await rig.tokens.get(owner)
    newer = await other.tokens.renew(owner, tokens)
    assert await rig.tokens.renew(owner, tokens) == newer
    assert rig.issuer.shown.total() == 1
    assert rig.issuer.reasons == [RefreshReason.UNAUTHORIZED]


async def test_a_token_refused_again_right_after_its_renewal_is_not_renewed_at_once() -> None:
    rig = world()
    owner, tokens = await add(rig)
    newer = await rig.tokens.renew(owner, tokens)
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.renew(owner, newer)
    assert rig.issuer.shown.total() == 1
    await rig.advance(31)
    assert (await rig.tokens.get(owner)).version == 3


async def test_a_refused_access_token_is_not_served_again_when_its_renewal_fails() -> None:
    rig = world()
    owner, tokens = await add(rig)
    rig.issuer.script.append("500")
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.renew(owner, tokens)
    with pytest.raises(RefreshUnavailable):
        await rig.tokens.get(owner)


async def test_force_refreshes_a_fresh_token_under_the_same_rules() -> None:
    rig = world()
    owner, tokens = await add(rig)
    forced = await rig.tokens.force(owner)
    assert forced.access_token != tokens.access_token
    assert rig.issuer.reasons == [RefreshReason.FORCED]


async def test_reload_takes_a_re_imported_login_into_use() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=-1)
    rig.issuer.script.append("refuse:invalid_grant")
    with pytest.raises(NeedsReauth):
        await rig.tokens.get(owner)
    stored = await rig.store.credential(owner.id)
    assert stored is not None
    _, fresh = await add(world(), 1, refresh="rt_new")
    await rig.store.put_credential(fresh, stored.version)
    await rig.tokens.reload([owner.id])
    assert (await rig.tokens.get(owner)).access_token == fresh.access_token
    assert tokens.access_token != fresh.access_token


async def test_the_keeper_renews_ahead_one_by_one_and_leaves_disabled_accounts_alone() -> None:
    rig = world()
    due = [(await add(rig, number, life_s=250))[0] for number in (1, 2)]
    fresh, _ = await add(rig, 3)
    off, _ = await add(rig, 4, life_s=250)
    disabled = type(off)(id=off.id, chatgpt_account_id=off.chatgpt_account_id, label="off", enabled=False)
    assert await rig.tokens.keep([*due, fresh, disabled]) == 2
    assert await rig.tokens.keep([*due, fresh, disabled]) == 0
    assert rig.issuer.shown.total() == 2
    assert rig.issuer.most_running == 1


async def test_accounts_with_one_expiry_do_not_come_due_together() -> None:
    rig = world()
    owners = [(await add(rig, number, life_s=2000))[0] for number in range(1, 9)]
    due: list[int] = []
    for _ in range(24):
        due.append(await rig.tokens.keep(owners))
        await rig.advance(100, 100)
    assert sum(due) == 8
    assert max(due) <= 5
    assert due.index(max(due)) >= 13


async def test_an_account_without_tokens_needs_a_login() -> None:
    rig = world()
    owner, _ = await add(rig)
    await rig.store.remove_account(owner.id)
    with pytest.raises(NeedsReauth):
        await rig.tokens.get(owner)


async def test_a_login_without_refresh_token_serves_to_its_end_and_then_needs_a_login() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    bare = type(tokens)(owner.id, tokens.access_token, None, None, tokens.expires_at_s, tokens.refreshed_at_s)
    await rig.store.put_credential(bare, 1)
    assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    await settle()
    await rig.advance(1000, 250)
    with pytest.raises(NeedsReauth):
        await rig.tokens.get(owner)
    assert rig.issuer.shown.total() == 0
