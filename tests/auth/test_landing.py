"""From a code to an account, killed between any two steps, and with everything the issuer and the importer may say."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from auth.check import AccountCheck
from auth.errors import ImportRefused
from auth.landing import LANDING_PAUSE_S, LANDING_TRIES
from auth.login_book import CLAIM_S
from auth.logins import Login, LoginConflict, LoginState, Stage
from auth.oauth import TokenAnswer, Verdict
from auth.onboarding import Onboarding
from store.errors import StoreUnavailable
from store.records import Secret
from tests.auth.entry import Entry, begin, dies
from tests.fakes.login_issuer import INTERVAL_S
from tests.fakes.logins import access_jwt
from tests.fakes.mortal import Life


async def approved(entry: Entry, gateway: Onboarding, account: str = "c-1", **options: str) -> Login:
    login = await begin(gateway, **options)
    entry.issuer.approve(login.user_code or "", account)
    entry.clock.advance(INTERVAL_S)
    return login


async def test_killed_between_any_two_steps_it_ends_well_or_by_name() -> None:
    """Every place where a process can die: at most one exchange, no account without a done login, none half in."""
    ends: set[str] = set()
    for die_at in itertools.count(1):
        entry = Entry()
        login = await approved(entry, entry.gateway())
        mortal = entry.gateway(Life(die_at=die_at))
        died = await dies(mortal.step())
        survivor = entry.gateway()
        for _ in range(4):
            entry.clock.advance(CLAIM_S + 1)
            await survivor.step()
        seen = await survivor.get(login.id)
        accounts = await entry.store.accounts()
        assert seen.state is not LoginState.PENDING, die_at
        assert max(entry.issuer.presented.values(), default=0) <= 1, die_at
        assert bool(accounts) == (seen.state is LoginState.DONE), die_at
        assert (await entry.kept(login.id)).tokens is None
        for account in accounts:
            assert seen.account_id == account.id
            credential = await entry.store.credential(account.id)
            assert credential.refresh_token.reveal() in entry.issuer.issued
        ends.add(seen.failure.code if seen.failure else "done")
        if not died:
            break
    assert die_at > 15
    assert ends == {"done", "interrupted", "code_refused"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (TokenAnswer(Verdict.PERMANENT, "invalid_grant", 400), "code_refused"),
        (TokenAnswer(Verdict.UNSENT, "issuer_unreachable"), "issuer_unreachable"),
        (TokenAnswer(Verdict.TRANSIENT, "http_503", 503), "issuer_failed"),
        (TokenAnswer(Verdict.UNKNOWN, "answer_lost"), "answer_lost"),
        (TokenAnswer(Verdict.ROTATED, status=200, refresh_token=Secret("rt_1")), "no_tokens"),
        (
            TokenAnswer(Verdict.ROTATED, status=200, access_token=Secret("no-jwt"), refresh_token=Secret("rt_1")),
            "bad_token",
        ),
        (
            TokenAnswer(Verdict.ROTATED, status=200, access_token=Secret(access_jwt("c-1", 1_795_000_000.0))),
            "no_refresh_token",
        ),
    ],
)
async def test_whatever_comes_but_good_tokens_ends_the_login_by_name(answer: TokenAnswer, code: str) -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await approved(entry, gateway)
    entry.issuer.exchanges.append(answer)
    await gateway.step()
    seen = await gateway.get(login.id)
    assert seen.failure is not None
    assert (seen.state, seen.failure.code) == (LoginState.FAILED, code)
    assert "begin" in seen.failure.message or "codex login" in seen.failure.message or code == "no_refresh_token"
    assert entry.issuer.revoked == ([] if answer.refresh_token is None else ["rt_1"])
    assert await entry.store.accounts() == ()
    entry.clock.advance(600)
    await gateway.step()
    assert entry.issuer.presented.total() == 1, "never sent twice, whatever became of it"


async def test_the_backend_is_asked_and_its_objection_ends_login_and_tokens() -> None:
    entry = Entry()
    gateway = entry.gateway()
    entry.refuse = ImportRefused("account_not_listed", "the backend does not list it")
    login = await approved(entry, gateway)
    await gateway.step()
    seen = await gateway.get(login.id)
    assert seen.failure is not None
    assert seen.failure.code == "account_not_listed"
    assert entry.issuer.revoked == list(entry.issuer.issued)
    entry.refuse, entry.answer = None, AccountCheck("team", None, "us")
    again = await approved(entry, gateway)
    await gateway.step()
    assert (await gateway.get(again.id)).state is LoginState.DONE
    [account] = await entry.store.accounts()
    assert (account.plan, account.routing_override) == ("team", "us")


async def test_a_known_account_gets_its_new_tokens_and_stays_one() -> None:
    entry = Entry()
    gateway = entry.gateway()
    first = await approved(entry, gateway, label="mine", pool="team")
    await gateway.step()
    entry.clock.advance(3600)
    second = await approved(entry, gateway)
    await gateway.step()
    one, two = await gateway.get(first.id), await gateway.get(second.id)
    [account] = await entry.store.accounts()
    assert one.account_id == two.account_id == account.id
    credential = await entry.store.credential(account.id)
    assert credential.refresh_token.reveal() == list(entry.issuer.issued)[-1]


async def test_tokens_wait_for_a_store_that_does_not_take_accounts_now() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await approved(entry, gateway)
    add = entry.store.add_account

    async def away(*args: object) -> None:
        raise StoreUnavailable("locked")

    entry.store.add_account = away
    await gateway.step()
    assert (await entry.kept(login.id)).stage is Stage.LANDING
    assert (await gateway.get(login.id)).state is LoginState.PENDING
    with pytest.raises(LoginConflict) as completing:
        await gateway.cancel(login.id, "admin:bob")
    assert completing.value.code == "login_completing", "it may be in the store already, and must end as done"
    entry.store.add_account = add
    entry.clock.advance(LANDING_PAUSE_S)
    await entry.gateway().step()
    assert (await gateway.get(login.id)).state is LoginState.DONE
    assert entry.issuer.presented.total() == 1


async def test_a_store_that_never_takes_the_account_ends_the_login() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await approved(entry, gateway)

    async def away(*args: object) -> None:
        raise StoreUnavailable("locked")

    entry.store.add_account = away
    for _ in range(LANDING_TRIES + 1):
        await gateway.step()
        entry.clock.advance(LANDING_PAUSE_S)
    seen = await gateway.get(login.id)
    assert seen.failure is not None
    assert seen.failure.code == "store"
    assert entry.issuer.revoked == list(entry.issuer.issued)


async def test_landed_and_refreshed_before_anybody_said_so_it_is_done() -> None:
    """The process died after the account was stored; the gateway refreshed the account; then another one goes on."""
    entry = Entry()
    login = await approved(entry, entry.gateway())
    for die_at in itertools.count(1):
        life = Life(die_at=die_at)
        await dies(entry.gateway(life).step())
        if await entry.store.accounts():
            break
        entry = Entry()
        login = await approved(entry, entry.gateway())
    [account] = await entry.store.accounts()
    stored = await entry.store.credential(account.id)
    entry.clock.advance(CLAIM_S + 1)
    newer = Secret(access_jwt("c-1", entry.clock.now_s(), serial="refreshed"))
    await entry.store.put_credential(
        replace(stored, access_token=newer, refresh_token=Secret("rt_next")), stored.version
    )
    survivor = entry.gateway()
    await survivor.step()
    seen = await survivor.get(login.id)
    assert (seen.state, seen.account_id) == (LoginState.DONE, account.id)
    assert (await entry.store.credential(account.id)).refresh_token == Secret("rt_next")
    assert entry.issuer.revoked == []


async def test_the_end_is_in_the_audit_log_before_anybody_sees_it() -> None:
    entry = Entry()
    gateway = entry.gateway()
    login = await approved(entry, gateway)
    put = entry.store.put_document

    async def watching(document: object, version: int) -> object:
        if b'"done"' in document.body:  # type: ignore[attr-defined]
            assert entry.actions()[-1] == "done"
        return await put(document, version)

    entry.store.put_document = watching
    await gateway.step()
    assert (await gateway.get(login.id)).state is LoginState.DONE
