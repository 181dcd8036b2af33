"""One-time links: what opens them, what voids them, and that each is used once, whoever hurries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pyotp
import pytest

from auth.admins import Admin
from auth.errors import (
    AlreadyBootstrapped,
    BadName,
    LinkInvalid,
    NameTaken,
    PasswordRefused,
    WrongCredentials,
)
from auth.proofs import PROOF_KIND
from auth.roles import Role
from auth.signin import LINK_KIND, link_url
from store.memory import MemoryStore
from store.records import Secret
from tests.auth.people import BETTER, GOOD, HERE, People, people
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(clock: FakeClock) -> People:
    return people(MemoryStore(clock), clock)


async def enrol(house: People, admin: Admin) -> pyotp.TOTP:
    """One-time codes, set up; the code that confirmed them is used."""
    offer = await house.sign_in.begin_totp(admin)
    codes = pyotp.TOTP(offer.secret.reveal())
    await house.sign_in.confirm_totp(admin, codes.at(int(house.clock.now_s())))
    return codes


async def enter(house: People, password: Secret = GOOD, code: str | None = None, name: str = "ann") -> Admin:
    return await house.sign_in.password(name, password, code, address=HERE)


async def test_a_link_sets_a_password_once_and_takes_away_what_was_before(house: People, clock: FakeClock) -> None:
    ann = await house.person("ann")
    await enrol(house, ann)
    token = await house.sign_in.invite(ann)
    with pytest.raises(WrongCredentials):
        await enter(house)
    with pytest.raises(PasswordRefused):
        await house.sign_in.redeem(token, None, Secret("short"))
    redeemed = await house.sign_in.redeem(token, None, BETTER)
    assert (redeemed.id, redeemed.totp_enabled) == (ann.id, False)
    assert await house.sessions.find(await house.cookie(redeemed)) is not None
    await enter(house, BETTER)
    with pytest.raises(LinkInvalid):
        await house.sign_in.redeem(token, None, GOOD)


async def test_a_newer_link_an_hour_or_a_disabled_person_voids_it(house: People, clock: FakeClock) -> None:
    await house.person("boss")
    ann = await house.person("ann")

    async def newer() -> None:
        await house.sign_in.invite(ann)

    async def hour() -> None:
        clock.advance(3600)

    async def disabled() -> None:
        await house.admins.change(ann.id, enabled=False)

    async def removed() -> None:
        await house.admins.remove(ann.id)

    voids: list[Callable[[], Awaitable[None]]] = [newer, hour, disabled, removed]
    for void in voids:
        token = await house.sign_in.invite(ann)
        await void()
        with pytest.raises(LinkInvalid):
            await house.sign_in.redeem(token, None, BETTER)


async def test_no_other_token_opens_anything(house: People) -> None:
    ann, bob = await house.person("ann"), await house.person("bob")
    token = (await house.sign_in.invite(ann)).reveal()
    secret = token.partition(".")[2]
    (kept,) = [one for one in await house.documents.documents(PROOF_KIND) if one.id == ann.id]
    assert secret.encode() not in kept.body
    wrong = ["", "x", secret, f"{bob.id}.{secret}", f"bootstrap.{secret}", f"{ann.id}.{'A' * 43}", token + "\n"]
    for one in wrong:
        with pytest.raises(LinkInvalid):
            await house.sign_in.redeem(Secret(one), "eve", BETTER)
    await house.sign_in.redeem(Secret(token), None, BETTER)


@pytest.mark.parametrize("kind", KINDS)
async def test_of_many_who_redeem_a_link_at_once_one_gets_in(kind: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(kind, clock, tmp_path) as handles:
        houses = [people(one, clock) for one in handles]
        ann = await houses[0].person("ann")
        token = await houses[0].sign_in.invite(ann)
        done = await asyncio.gather(
            *(houses[n % 2].sign_in.redeem(token, None, Secret(f"password number {n}")) for n in range(6)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, Admin) for one in done) == 1, done
        assert sum(isinstance(one, LinkInvalid) for one in done) == 5


@pytest.mark.parametrize("kind", KINDS)
async def test_the_first_owner_comes_by_a_link_and_only_one_does(kind: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(kind, clock, tmp_path) as handles:
        houses = [people(one, clock) for one in handles]
        assert await houses[0].sign_in.bootstrap_needed()
        old, token = [await houses[0].sign_in.bootstrap() for _ in range(2)]
        with pytest.raises(LinkInvalid):
            await houses[1].sign_in.redeem(old, "eve", GOOD)
        with pytest.raises(BadName):
            await houses[1].sign_in.redeem(token, None, GOOD)
        with pytest.raises(PasswordRefused):
            await houses[1].sign_in.redeem(token, "ann", Secret("short"))
        done = await asyncio.gather(
            *(houses[n % 2].sign_in.redeem(token, f"ann{n}", GOOD) for n in range(6)), return_exceptions=True
        )
        (owner,) = [one for one in done if isinstance(one, Admin)]
        assert sum(isinstance(one, LinkInvalid) for one in done) == 5
        assert owner.role is Role.OWNER
        assert await houses[1].admins.all() == (replace(owner, last_login_at_s=clock.now_s()),)
        await houses[1].sign_in.password(owner.name, GOOD, None, address=HERE)
        assert not await houses[1].sign_in.bootstrap_needed()
        with pytest.raises(AlreadyBootstrapped, match="admins reset"):
            await houses[1].sign_in.bootstrap()
        assert len(await handles[0].documents(PROOF_KIND)) == 1
        assert await handles[0].documents(LINK_KIND) == ()


async def test_a_first_link_that_came_too_late_makes_nobody(house: People, clock: FakeClock) -> None:
    token = await house.sign_in.bootstrap()
    await house.person("ann", Role.ADMIN)
    with pytest.raises(NameTaken):
        await house.sign_in.redeem(token, "Ann", GOOD)
    await house.person("boss")
    with pytest.raises(LinkInvalid):
        await house.sign_in.redeem(token, "eve", GOOD)
    assert [one.name for one in await house.admins.all()] == ["ann", "boss"]
    fresh = people(MemoryStore(clock), clock)
    token = await fresh.sign_in.bootstrap()
    clock.advance(3600)
    with pytest.raises(LinkInvalid):
        await fresh.sign_in.redeem(token, "eve", GOOD)


def test_the_token_of_a_link_stands_where_no_server_sees_it() -> None:
    link = link_url("https://relay.example/", Secret("adm_1.abc"))
    assert link.reveal() == "https://relay.example/console/link#adm_1.abc"
    assert "abc" not in repr(link)
