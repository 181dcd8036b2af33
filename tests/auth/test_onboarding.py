"""Accounts come in: by code and by address, over several workers, with everything that may go wrong on the way."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from auth.beginning import MAX_PENDING
from auth.callback import REDIRECT_URI
from auth.device import LIFETIME_S, PollAnswer, PollVerdict
from auth.login_book import CLAIM_S
from auth.logins import Login, LoginConflict, LoginForbidden, LoginInvalid, LoginState, LoginUnknown, Stage
from auth.onboarding import IDLE_LOOK_S, SLOWEST_POLL_S
from store.errors import StoreUnavailable
from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault
from tests.auth.entry import ADMIN, SESSION, Entry, begin
from tests.auth.rig import settle
from tests.fakes.login_issuer import INTERVAL_S


def address(entry: Entry, login: Login, account: str = "c-1", **changes: str) -> str:
    assert login.authorize_url is not None
    state = login.authorize_url.partition("&state=")[2].partition("&")[0]
    members = {"code": entry.issuer.code_for(account), "state": state} | changes
    return REDIRECT_URI + "?" + "&".join(f"{name}={value}" for name, value in members.items() if value)


async def test_an_approved_code_becomes_an_account() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await begin(gateway, pool="team", label="mine", expect="C-1@example.org")
    assert (login.state, login.user_code, login.requested_by) == (LoginState.PENDING, "CODE-00001", ADMIN)
    revision = (await entry.store.changes(0)).directory_revision
    entry.issuer.approve("CODE-00001", "c-1")
    await gateway.step()
    assert entry.issuer.polled_at_s == {}, "the first poll is an interval after the beginning"
    entry.clock.advance(INTERVAL_S)
    await gateway.step()
    done = await gateway.get(login.id)
    [account] = await entry.store.accounts()
    assert (done.state, done.account_id, done.account_label) == (LoginState.DONE, account.id, "mine")
    assert (account.pool, account.chatgpt_account_id, account.email) == ("team", "c-1", "c-1@example.org")
    assert (await entry.store.changes(0)).directory_revision > revision, "the workers' pools hear of it"
    assert (done.user_code, done.failure) == (None, None)
    assert entry.actions() == ["begin", "done"]
    assert {one.actor for one in entry.records} == {ADMIN}
    assert entry.records[1].target == account.id
    assert [one.id for one in entry.ended] == [login.id]
    for secret in ("dauth_", "verifier", "ac_", "rt_"):
        assert secret not in await entry.said()
    assert (await entry.kept(login.id)).tokens is None


async def test_two_workers_ask_as_one_and_either_finishes(tmp_path: Path) -> None:
    """Over one SQLite file: the page is loaded again elsewhere, the worker that began goes away."""
    entry = Entry()
    vault = Vault(KeyRing([b"k" * 32]))
    files = [
        await SqliteStore.open(tmp_path / "relay.db", vault, busy_timeout_s=2.0, clock=entry.clock) for _ in range(2)
    ]
    gateways = []
    for file in files:
        entry.store = file
        gateways.append(entry.gateway())
    one, two = gateways
    login = await begin(one)
    assert await two.get(login.id) == login
    for _ in range(12):
        entry.clock.advance(1.0)
        await asyncio.gather(one.step(), two.step())
    polls = entry.issuer.polled_at_s["CODE-00001"]
    assert len(polls) == 2
    assert min(later - earlier for earlier, later in itertools.pairwise(polls)) >= INTERVAL_S
    entry.issuer.approve("CODE-00001", "c-1")
    for _ in range(12):
        entry.clock.advance(1.0)
        await two.step()
    assert (await one.get(login.id)).state is LoginState.DONE
    assert list(entry.issuer.presented.values()) == [1]
    for name in ("relay.db", "relay.db-wal"):
        for secret in (b"dauth_", b"CODE-00001", b"rt_c-1"):
            assert secret not in (tmp_path / name).read_bytes()
    for file in files:
        await file.close()


@pytest.mark.fault("B41")
async def test_an_issuer_in_trouble_is_asked_more_and_more_seldom() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await begin(gateway)
    entry.issuer.down = True
    for _ in range(600):
        entry.clock.advance(1.0)
        await gateway.step()
    polls = entry.issuer.polled_at_s["CODE-00001"]
    waits = [later - earlier for earlier, later in itertools.pairwise(polls)]
    assert waits == sorted(waits)
    assert SLOWEST_POLL_S <= waits[-1] <= SLOWEST_POLL_S + IDLE_LOOK_S
    entry.issuer.down = False
    entry.issuer.approve("CODE-00001", "c-1")
    for _ in range(70):
        entry.clock.advance(1.0)
        await gateway.step()
    assert (await gateway.get(login.id)).state is LoginState.DONE


@pytest.mark.fault("B41")
async def test_slow_down_widens_the_interval_for_good() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await begin(gateway)
    entry.issuer.polls.append(PollAnswer(PollVerdict.LATER, "slow_down", retry_after_s=20.0))
    entry.clock.advance(INTERVAL_S)
    await gateway.step()
    kept = await entry.kept(login.id)
    assert (kept.interval_s, kept.next_poll_at_s) == (INTERVAL_S + 5.0, entry.clock.now_s() + 20.0)
    entry.clock.advance(20.0)
    await gateway.step()
    assert (await entry.kept(login.id)).failures == 0


@pytest.mark.fault("B41")
async def test_denied_expired_and_cancelled_end_by_name() -> None:
    entry = Entry()
    gateway = entry.gateway()
    denied, expired, cancelled = [await begin(gateway, requested_by=f"admin:{name}") for name in "abc"]
    assert denied.user_code is not None
    entry.issuer.deny(denied.user_code)
    assert (await gateway.cancel(cancelled.id, "admin:d")).state is LoginState.CANCELLED
    assert await gateway.cancel(cancelled.id, "admin:d") == await gateway.get(cancelled.id)
    entry.clock.advance(INTERVAL_S)
    await gateway.step()
    entry.clock.advance(LIFETIME_S)
    assert (await gateway.get(expired.id)).state is LoginState.EXPIRED, "seen before anybody wrote it down"
    await gateway.step()
    ends = {one.id: (one.state, one.failure and one.failure.code) for one in await gateway.all()}
    assert ends == {
        denied.id: (LoginState.FAILED, "denied"),
        expired.id: (LoginState.EXPIRED, "expired"),
        cancelled.id: (LoginState.CANCELLED, "cancelled"),
    }
    assert await entry.store.accounts() == ()
    assert sorted(entry.actions()) == ["begin", "begin", "begin", "cancelled", "failed", "failed"]


async def test_another_account_than_the_expected_is_refused_and_its_tokens_end() -> None:
    entry = Entry()
    gateway = entry.gateway()
    for number, expect in enumerate(("c-1", "c-1@example.org"), 1):
        login = await begin(gateway, expect=expect)
        entry.issuer.approve(login.user_code or "", f"stranger-{number}")
        entry.clock.advance(INTERVAL_S)
        await gateway.step()
        seen = await gateway.get(login.id)
        assert seen.failure is not None
        assert seen.failure.code == "other_account"
        assert "stranger" not in await entry.said()
        assert len(entry.issuer.revoked) == number
    assert set(entry.issuer.revoked) == set(entry.issuer.issued)
    assert await entry.store.accounts() == ()


async def test_a_browser_login_is_completed_by_its_address_once() -> None:
    entry = Entry()
    gateway, other = entry.gateway(), entry.gateway()
    login = await begin(gateway, "callback", expect="c-1")
    second = await begin(gateway, "callback", expect="c-2")
    url = address(entry, login)
    with pytest.raises(LoginForbidden) as forbidden:
        await other.take_callback(login.id, url, "another session")
    assert forbidden.value.code == "wrong_session"
    with pytest.raises(LoginInvalid) as wrong:
        await other.take_callback(login.id, address(entry, second), SESSION)
    assert wrong.value.code == "callback_of_another_login"
    assert entry.issuer.presented.total() == 0
    done = await other.take_callback(login.id, url, SESSION)
    assert (done.state, done.account_label) == (LoginState.DONE, "c-1@example.org")
    with pytest.raises(LoginConflict) as over:
        await gateway.take_callback(login.id, url, SESSION)
    assert over.value.code == "login_over"
    assert list(entry.issuer.presented.values()) == [1]
    device = await begin(gateway)
    with pytest.raises(LoginInvalid):
        await gateway.take_callback(device.id, url, SESSION)
    with pytest.raises(LoginUnknown):
        await gateway.take_callback("login_none", url, SESSION)


async def test_a_refusal_in_the_browser_ends_the_login() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await begin(gateway, "callback")
    ended = await gateway.take_callback(login.id, address(entry, login, code="", error="access_denied"), SESSION)
    assert ended.failure is not None
    assert (ended.state, ended.failure.code) == (LoginState.FAILED, "denied")
    late = await begin(gateway, "callback")
    entry.clock.advance(LIFETIME_S)
    with pytest.raises(LoginConflict):
        await gateway.take_callback(late.id, address(entry, late), SESSION)


async def test_an_address_pasted_twice_at_once_is_exchanged_once() -> None:
    entry = Entry()
    one, two = entry.gateway(), entry.gateway()
    login = await begin(one, "callback")
    url = address(entry, login)
    outcomes = await asyncio.gather(
        *(gateway.take_callback(login.id, url, SESSION) for gateway in (one, two, one)), return_exceptions=True
    )
    assert sum(isinstance(found, Login) for found in outcomes) == 1
    assert all(isinstance(found, Login | LoginConflict) for found in outcomes)
    assert entry.issuer.presented.total() == 1


async def test_who_leaves_the_page_leaves_the_exchange_running() -> None:
    entry = Entry()
    gateway = entry.gateway()
    entry.issuer.gate = asyncio.Event()
    login = await begin(gateway, "callback")
    request = asyncio.create_task(gateway.take_callback(login.id, address(entry, login), SESSION))
    await settle(50)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await gateway.get(login.id)).state is LoginState.PENDING
    entry.issuer.gate.set()
    await gateway.drain()
    assert (await gateway.get(login.id)).state is LoginState.DONE


async def test_cancelled_while_the_code_is_exchanged_the_tokens_end() -> None:
    entry = Entry()
    gateway, other = entry.gateway(), entry.gateway()
    entry.issuer.gate = asyncio.Event()
    login = await begin(gateway)
    entry.issuer.approve("CODE-00001", "c-1")
    entry.clock.advance(INTERVAL_S)
    step = asyncio.create_task(gateway.step())
    await settle(50)
    assert (await entry.kept(login.id)).stage is Stage.EXCHANGING
    assert (await other.cancel(login.id, "admin:bob")).state is LoginState.CANCELLED
    entry.issuer.gate.set()
    await step
    assert await entry.store.accounts() == ()
    assert entry.issuer.revoked == list(entry.issuer.issued)
    assert (await gateway.get(login.id)).state is LoginState.CANCELLED


async def test_a_worker_that_is_frozen_over_its_claim_changes_nothing_when_it_wakes() -> None:
    entry = Entry()
    gateway, other = entry.gateway(), entry.gateway()
    entry.issuer.gate = asyncio.Event()
    login = await begin(gateway)
    entry.issuer.approve("CODE-00001", "c-1")
    entry.clock.advance(INTERVAL_S)
    step = asyncio.create_task(gateway.step())
    await settle(50)
    entry.clock.advance(CLAIM_S + 1)
    await other.step()
    seen = await other.get(login.id)
    assert seen.failure is not None
    assert seen.failure.code == "interrupted"
    entry.issuer.gate.set()
    await step
    assert await entry.store.accounts() == ()
    assert entry.issuer.revoked == list(entry.issuer.issued)
    assert entry.issuer.presented.total() == 1


async def test_the_number_of_open_logins_is_bounded_also_when_all_begin_at_once() -> None:
    entry = Entry()
    gateways = [entry.gateway() for _ in range(3)]
    work = [begin(gateways[number % 3], requested_by=f"admin:{number}") for number in range(MAX_PENDING + 5)]
    running = asyncio.gather(*work, return_exceptions=True)
    for _ in range(200):
        await settle(50)
        entry.clock.advance(0.05)
    outcomes = await running
    assert sum(isinstance(found, Login) for found in outcomes) <= MAX_PENDING
    assert len(await gateways[0].all()) == sum(isinstance(found, Login) for found in outcomes)
    assert {found.code for found in outcomes if isinstance(found, LoginConflict)} <= {"too_many_logins", "busy"}
    with pytest.raises(LoginConflict):
        await begin(gateways[0], requested_by="admin:1")


async def test_a_newer_login_takes_the_place_of_ones_own_when_asked_to() -> None:
    entry = Entry()
    gateway = entry.gateway()
    first = await begin(gateway)
    second = await begin(gateway, replace_own=True)
    states = {one.id: one.state for one in await gateway.all()}
    assert states == {first.id: LoginState.CANCELLED, second.id: LoginState.PENDING}


async def test_idle_it_reads_the_store_every_five_seconds_and_writes_nothing() -> None:
    entry = Entry()
    reads = 0

    class Counting:
        def __getattr__(self, name: str) -> object:
            nonlocal reads
            assert name == "documents"
            reads += 1
            return getattr(store, name)

    store, entry.store = entry.store, Counting()
    gateway = entry.gateway()
    for _ in range(60):
        await gateway.step()
        entry.clock.advance(1.0)
    assert reads == 12


async def test_a_store_that_is_away_is_told_and_the_next_step_goes_on() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await begin(gateway)
    entry.issuer.approve("CODE-00001", "c-1")
    entry.clock.advance(INTERVAL_S)
    whole, claim = entry.store, entry.store.claim
    calls = 0

    async def away(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreUnavailable("away")
        return await claim(*args)

    whole.claim = away
    with pytest.raises(StoreUnavailable):
        await gateway.step()
    entry.clock.advance(IDLE_LOOK_S)
    await gateway.step()
    assert (await gateway.get(login.id)).state is LoginState.DONE
