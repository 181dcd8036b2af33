"""Signing in with a password: one refusal for everything wrong, codes and links that work once, sessions that end."""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path

import pyotp
import pytest

from auth.admins import Admin, Subject
from auth.errors import (
    BadCode,
    CodeRequired,
    LoginThrottled,
    PasswordRefused,
    WrongCredentials,
    WrongKind,
)
from auth.passwords import PasswordCost, Passwords
from auth.proofs import ProofShelf
from auth.roles import Role
from store.memory import MemoryStore
from store.records import Secret
from tests.auth.people import BETTER, CHEAP, GOOD, HERE, People, people
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


@pytest.mark.parametrize("kind", KINDS)
async def test_the_right_password_lets_in_and_is_noted(kind: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(kind, clock, tmp_path) as (one, two):
        ann = await people(one, clock).person("ann")
        there = people(two, clock)
        clock.advance(5)
        assert (await enter(there, name="ANN")).id == ann.id
        shown = await there.admins.get(ann.id)
        assert shown is not None
        assert shown.last_login_at_s == clock.now_s()


async def test_everything_wrong_is_refused_alike(house: People) -> None:
    ann = await house.person("ann")
    bob = await house.person("bob")
    await house.admins.change(bob.id, enabled=False)
    await house.admins.create("new", Role.ADMIN)
    await house.admins.create_subject(Subject("i", "1"), "sso", Role.ADMIN)
    texts: set[str] = set()
    for name, password in [
        ("ann", Secret("wrong horse battery")),
        ("bob", GOOD),
        ("new", Secret("")),
        ("sso", GOOD),
        ("nobody", GOOD),
        ("x" * 100_000, GOOD),
        ("' OR 1=1 --", GOOD),
        ("\ud800", GOOD),
    ]:
        with pytest.raises(WrongCredentials) as refused:
            await house.sign_in.password(name, password, None, address=f"192.0.2.{len(texts)}" if texts else HERE)
        texts.add(str(refused.value))
        house.throttle._failures = 10**6
    assert len(texts) == 1
    assert (await house.admins.get(ann.id)) is not None


async def test_an_unknown_name_takes_as_long_as_a_known_one(tmp_path: Path, clock: FakeClock) -> None:
    async with opened("sqlite", clock, tmp_path) as (store, _):
        house = people(store, clock, cost=PasswordCost(1, 4096, 1), failures=10**6)
        await house.person("ann")
        took: dict[str, list[float]] = {"ann": [], "nobody": []}
        for _round in range(25):
            for name, values in took.items():
                begin = time.perf_counter()
                with pytest.raises(WrongCredentials):
                    await enter(house, BETTER, name=name)
                values.append(time.perf_counter() - begin)
        known_s, unknown_s = (statistics.median(values) for values in took.values())
        noise_s = max(statistics.pstdev(values) for values in took.values())
        assert abs(known_s - unknown_s) <= max(0.001, 4 * noise_s)


async def test_who_is_turned_away_because_too_many_wait_has_not_failed(house: People) -> None:
    await house.person("ann")

    class Busy(Passwords):
        async def verify(self, stored: str | None, password: Secret) -> bool:
            raise LoginThrottled(2.0)

    idle, house.sign_in._passwords = house.sign_in._passwords, Busy(CHEAP)
    for _ in range(20):
        with pytest.raises(LoginThrottled):
            await enter(house)
    house.sign_in._passwords = idle
    await enter(house)


async def test_too_many_failures_wait_and_nothing_is_checked(house: People, clock: FakeClock) -> None:
    await house.person("ann")
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await enter(house, BETTER)
    with pytest.raises(LoginThrottled) as refused:
        await enter(house)
    assert 0 < refused.value.retry_after_s <= 60
    clock.advance(60)
    await enter(house)


async def test_an_open_session_does_not_care_who_fails(house: People) -> None:
    cookie = await house.cookie(await house.person("ann"))
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await enter(house, BETTER)
    assert await house.sessions.find(cookie) is not None


async def test_a_code_is_asked_for_taken_once_and_only_with_the_password(house: People, clock: FakeClock) -> None:
    ann = await house.person("ann")
    codes = await enrol(house, ann)
    with pytest.raises(CodeRequired):
        await enter(house)
    with pytest.raises(WrongCredentials):
        await enter(house, code=codes.at(int(clock.now_s())))  # the one that confirmed the setting up
    clock.advance(30)
    code = codes.at(int(clock.now_s()))
    with pytest.raises(WrongCredentials):
        await enter(house, BETTER, code)
    assert (await enter(house, code=code)).totp_enabled
    with pytest.raises(WrongCredentials):
        await enter(house, code=code)


@pytest.mark.parametrize("kind", KINDS)
async def test_of_two_who_bring_one_code_at_once_one_gets_in(kind: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(kind, clock, tmp_path) as (one, two):
        here, there = people(one, clock, failures=50), people(two, clock, failures=50)
        codes = await enrol(here, await here.person("ann"))
        clock.advance(60)
        code = codes.at(int(clock.now_s()))
        done = await asyncio.gather(
            *(enter(which, code=code) for which in (here, there, here, there)), return_exceptions=True
        )
        assert sum(isinstance(result, Admin) for result in done) == 1
        assert sum(isinstance(result, WrongCredentials) for result in done) == 3


async def test_a_right_password_without_a_code_neither_counts_nor_clears(house: People, clock: FakeClock) -> None:
    await enrol(house, await house.person("ann"))
    clock.advance(60)
    for _ in range(5):
        with pytest.raises(CodeRequired):
            await enter(house)
        with pytest.raises(WrongCredentials):
            await enter(house, code="000000")
    with pytest.raises(LoginThrottled):
        await enter(house)


async def test_required_codes_cannot_be_talked_around(clock: FakeClock) -> None:
    house = people(MemoryStore(clock), clock, require_totp=True)
    ann = await house.person("ann")
    for code in (None, "", "000000"):
        with pytest.raises(CodeRequired, match="none is set up"):
            await enter(house, code=code)
    codes = await enrol(house, ann)
    clock.advance(30)
    await enter(house, code=codes.at(int(clock.now_s())))
    with pytest.raises(BadCode, match="required"):
        await house.sign_in.drop_totp(ann, GOOD)


async def test_codes_are_offered_confirmed_and_dropped(house: People, clock: FakeClock) -> None:
    ann = await house.person("ann")
    with pytest.raises(BadCode):
        await house.sign_in.confirm_totp(ann, "000000")
    offer = await house.sign_in.begin_totp(ann)
    assert offer.secret.reveal() in offer.uri.reveal()
    assert offer.secret.reveal() not in repr(offer)
    await enter(house)  # offered is not active
    await house.sign_in.confirm_totp(ann, pyotp.TOTP(offer.secret.reveal()).at(int(clock.now_s())))
    with pytest.raises(CodeRequired):
        await enter(house)
    with pytest.raises(WrongCredentials):
        await house.sign_in.drop_totp(ann, BETTER)
    await house.sign_in.drop_totp(ann, GOOD)
    await enter(house)


async def test_guesses_at_ones_own_password_and_code_are_counted(house: People) -> None:
    ann = await house.person("ann")
    for _ in range(5):
        with pytest.raises(WrongCredentials):
            await house.sign_in.change_password(ann, BETTER, GOOD)
    with pytest.raises(LoginThrottled):
        await house.sign_in.change_password(ann, GOOD, BETTER)
    await enter(house)


async def test_a_changed_password_is_the_only_one_and_its_person_may_go_on(house: People) -> None:
    ann = await house.person("ann")
    cookie = await house.cookie(ann)
    changed = await house.sign_in.change_password(ann, GOOD, BETTER)
    assert await house.sessions.find(cookie) is None
    assert await house.sessions.find(await house.cookie(changed)) is not None
    with pytest.raises(WrongCredentials):
        await enter(house)
    await enter(house, BETTER)
    with pytest.raises(PasswordRefused):
        await house.sign_in.set_password(ann, Secret("short"))
    await enter(house, BETTER)


async def test_who_was_checked_before_a_reset_gets_no_session_after_it(house: People) -> None:
    ann = await house.person("ann")
    checked = await enter(house)
    await house.sign_in.invite(ann)
    assert await house.sessions.find(await house.cookie(checked)) is None


async def test_a_password_that_changes_while_it_is_checked_does_not_let_in(clock: FakeClock) -> None:
    house = people(MemoryStore(clock), clock)
    ann = await house.person("ann")

    class Slow(Passwords):
        async def verify(self, stored: str | None, password: Secret) -> bool:
            right = await super().verify(stored, password)
            await house.sign_in.set_password(ann, BETTER)
            return right

    house.sign_in._passwords = Slow(CHEAP)
    with pytest.raises(WrongCredentials):
        await enter(house)


async def test_a_hash_of_other_parameters_is_made_anew(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    ann = await people(store, clock).person("ann")
    dearer = people(store, clock, cost=PasswordCost(2, 64, 1))
    await enter(dearer)
    proof = await ProofShelf(store).get(ann.id)
    assert proof is not None
    assert proof.password is not None
    assert "t=2" in proof.password
    await enter(people(store, clock, cost=PasswordCost(2, 64, 1)))


async def test_single_sign_on_has_no_passwords_here(house: People) -> None:
    person = await house.admins.create_subject(Subject("i", "1"), "sso", Role.ADMIN)
    for act in (
        house.sign_in.set_password(person, GOOD),
        house.sign_in.change_password(person, GOOD, GOOD),
        house.sign_in.begin_totp(person),
        house.sign_in.invite(person),
    ):
        with pytest.raises((WrongKind, WrongCredentials)):
            await act
