"""One refresh among several processes: one exchange, whoever dies, waits or leaves."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from auth.errors import CredentialError, RefreshUnavailable
from auth.flight import digest_of
from store.memory import MemoryStore
from store.records import AccountStatus
from tests.auth.rig import POLICY, Rig, add, settle, world
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import credential
from tests.fakes.mortal import Killed, Life

QUICK = replace(POLICY, wait_s=0.002)
"""Requests give up after 2 ms of real time; the refresh itself follows the fake clock."""


def two() -> tuple[Rig, Rig]:
    one = world()
    return one, Rig(one.clock, one.store, one.issuer, seed=2)


@pytest.mark.fault("B31")
async def test_the_loser_of_the_claim_waits_and_adopts_the_winners_tokens() -> None:
    one, other = two()
    owner, _ = await add(one, life_s=-1)
    one.issuer.gate = asyncio.Event()
    first = asyncio.get_running_loop().create_task(one.tokens.get(owner))
    await settle()
    second = asyncio.get_running_loop().create_task(other.tokens.get(owner))
    await one.advance(2)
    assert not second.done()
    one.issuer.gate.set()
    await one.advance(1)
    assert (await first) == (await second)
    assert one.issuer.shown.total() == 1
    assert other.reports.events == {"adopted": 1}


@pytest.mark.fault("B37")
async def test_a_client_that_leaves_does_not_cut_the_exchange() -> None:
    rig = world()
    owner, _ = await add(rig, life_s=-1)
    rig.issuer.gate = asyncio.Event()
    client = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
    await settle()
    client.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await client
    rig.issuer.gate.set()
    await settle()
    assert (await rig.tokens.get(owner)).version == 2
    assert rig.issuer.shown.total() == 1


@pytest.mark.fault("B37")
async def test_draining_waits_for_an_exchange_that_was_sent_and_starts_no_other() -> None:
    rig = world(spacing_s=2.0)
    owner, _ = await add(rig, 1, life_s=200)
    waiting, _ = await add(rig, 2, life_s=200)
    rig.issuer.gate = asyncio.Event()
    for one in (owner, waiting):
        await rig.tokens.get(one)
    await settle()
    drained = asyncio.get_running_loop().create_task(rig.tokens.drain())
    await settle()
    assert not drained.done()
    rig.issuer.gate.set()
    await settle()
    assert drained.done()
    stored = await rig.store.credential(owner.id)
    assert stored is not None
    assert stored.version == 2
    assert rig.issuer.shown.total() == 1
    assert await rig.store.intent(waiting.id) is None
    assert await rig.store.claim(POLICY.scope, "next process", 1.0) is not None, "the claim was released"


@pytest.mark.fault("B37")
async def test_draining_a_process_that_only_waits_for_the_claim_ends_at_once() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=200)
    await rig.store.claim(POLICY.scope, "another", 1000.0)
    assert (await rig.tokens.get(owner)).access_token == tokens.access_token
    await settle()
    drained = asyncio.get_running_loop().create_task(rig.tokens.drain())
    await rig.advance(1)
    assert drained.done()
    assert rig.issuer.shown.total() == 0


@pytest.mark.fault("B37")
async def test_a_kill_at_any_step_costs_at_most_the_token_in_flight() -> None:
    """Dies at the 1st, 2nd, ... step outside the process, until a refresh gets through without reaching the step."""
    for die_at in range(1, 100):
        clock = FakeClock()
        rig = Rig(clock, MemoryStore(clock), ModelIssuer(clock), QUICK, life=Life(die_at))
        owner, _ = await add(rig, 1, life_s=-1)
        sibling, _ = await add(rig, 2, life_s=-1)
        with contextlib.suppress(CredentialError, Killed):
            await rig.tokens.get(owner)
        await rig.kill()
        rig.issuer.receiver_died()
        shown_before = rig.issuer.shown.total()
        finished = rig.life is not None and rig.life.steps < die_at
        rig.life = None
        rig.restart()
        outcome = "serves"
        for _ in range(8):
            try:
                await rig.tokens.get(owner)
                outcome = "serves"
                break
            except CredentialError as error:
                outcome = type(error).__name__
            await rig.advance(40, 10)
        with contextlib.suppress(RefreshUnavailable):
            await rig.tokens.get(sibling)
        await rig.advance(60, 10)
        served = await rig.tokens.get(sibling)
        assert served.version == 2, f"die_at={die_at}: the sibling suffers"
        kept = await rig.store.account(owner.id)
        assert kept is not None
        assert rig.issuer.violations == [], f"die_at={die_at}"
        if shown_before == 0 or outcome == "serves":
            assert outcome == "serves", f"die_at={die_at}: lost though nothing was sent"
        else:
            assert outcome == "NeedsReauth", f"die_at={die_at}"
            assert kept.status is AccountStatus.NEEDS_REAUTH
        if finished:
            assert die_at > 8
            return
    raise AssertionError("the refresh never came to its end")


@pytest.mark.fault("B37")
async def test_an_intent_of_a_vanished_sender_is_not_replayed_before_it_is_safe() -> None:
    one, other = two()
    owner, tokens = await add(one, life_s=-1)
    claim = await one.store.claim(POLICY.scope, "vanished", 5.0)
    assert claim is not None
    assert tokens.refresh_token is not None
    await one.store.begin_refresh(owner.id, claim, digest_of(tokens.refresh_token))
    other.tokens = Rig(one.clock, one.store, one.issuer, QUICK, reports=other.reports).tokens
    await one.advance(POLICY.orphan_wait_s - 10, 5)
    with pytest.raises(RefreshUnavailable):
        await other.tokens.get(owner)
    assert one.issuer.shown.total() == 0
    await one.advance(20, 5)
    assert (await other.tokens.get(owner)).version == 2
    assert other.reports.events["replayed"] == 1


async def test_a_holder_that_was_paused_beyond_its_claim_sends_nothing() -> None:
    """Stands still at the 1st, 2nd, ... step; where that is between intent and sending, nothing is sent after it."""
    met = 0
    for freeze_at in range(1, 12):
        clock = FakeClock()
        life = Life(freeze_at=freeze_at)
        rig = Rig(clock, MemoryStore(clock), ModelIssuer(clock), QUICK, life=life)
        owner, _ = await add(rig, life_s=-1)
        waiting = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
        await settle(50)
        announced = await rig.store.intent(owner.id) is not None and rig.issuer.shown.total() == 0
        await rig.advance(POLICY.claim_ttl_s + 1, 5)
        life.thaw()
        await settle(50)
        with contextlib.suppress(RefreshUnavailable):
            await waiting
        assert rig.issuer.violations == []
        if announced:
            met += 1
            assert rig.issuer.shown.total() == 0
            assert await rig.store.intent(owner.id) is None
    assert met > 0


async def test_exchanges_of_siblings_in_two_processes_keep_their_distance() -> None:
    one = world(spacing_s=2.0)
    other = Rig(one.clock, one.store, one.issuer, one.policy)
    owners = [(await add(one, number, life_s=200))[0] for number in range(1, 7)]
    for number, owner in enumerate(owners):
        await (one if number % 2 else other).tokens.get(owner)
    await one.advance(20, 0.05)
    assert one.issuer.shown.total() == 6
    gaps = [b - a for a, b in zip(one.issuer.times_s, one.issuer.times_s[1:], strict=False)]
    assert min(gaps) >= 2.0
    assert one.issuer.violations == []


async def test_a_dead_access_token_goes_before_those_that_are_renewed_ahead() -> None:
    rig = world(spacing_s=2.0, wait_s=0.001)
    ahead = [(await add(rig, number, life_s=200))[0] for number in range(1, 5)]
    dead, _ = await add(rig, 9, life_s=-1)
    for owner in ahead:
        await rig.tokens.get(owner)
    with contextlib.suppress(RefreshUnavailable):
        await rig.tokens.get(dead)
    await rig.advance(5, 0.05)
    assert list(rig.issuer.shown)[:2] == ["rt_acc_1_0", "rt_acc_9_0"]


async def test_reload_ends_a_refresh_that_still_waits_for_its_turn() -> None:
    rig = world()
    owner, tokens = await add(rig, life_s=-1)
    await rig.store.claim(POLICY.scope, "another", 1000.0)
    waiting = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
    await settle()
    newer = credential(owner, rig.clock.now_s(), refresh="rt_newer", age_s=1)
    stored = await rig.store.put_credential(newer, tokens.version)
    await rig.tokens.reload([owner.id])
    assert await waiting == stored
    assert rig.issuer.shown.total() == 0
