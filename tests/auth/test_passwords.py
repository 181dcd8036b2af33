"""Passwords: which are taken, how they are kept, and that a name that is not there costs as much as one that is."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

import pytest

from auth.errors import LoginThrottled, PasswordRefused
from auth.passwords import AT_ONCE, MOST_WAITING, PasswordCost, Passwords
from store.records import Secret
from tests.auth.people import CHEAP, GOOD


async def test_a_hash_is_argon2id_with_its_own_salt_and_fits_its_password_only() -> None:
    passwords = Passwords(CHEAP)
    one, two = [await passwords.hash(GOOD, "ann") for _ in range(2)]
    assert one.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert one != two
    assert await passwords.verify(one, GOOD)
    for wrong in ("", "correct horse batterY", GOOD.reveal() + "\x00", "\ud800" * 12, "x" * 100_000):
        assert not await passwords.verify(one, Secret(wrong))


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("eleven char", "fewer than 12"),
        ("", "fewer than 12"),
        ("x" * 1025, "1024 bytes"),
        ("ä" * 513, "1024 bytes"),
        ("\ud800" * 12, "no text"),
        ("ANN@example.org", "the name"),
        (" ann@example.org ", "the name"),
    ],
)
async def test_a_password_that_breaks_a_rule_is_refused_by_the_name_of_the_rule(password: str, rule: str) -> None:
    with pytest.raises(PasswordRefused, match=rule) as refused:
        await Passwords(CHEAP).hash(Secret(password), "ann@example.org")
    assert not password.strip() or password not in str(refused.value)


@pytest.mark.parametrize("password", ["aaaaaaaaaaaa", "ä" * 512, "x" * 1024, "zwölf zeichen", "\U0001f511" * 12])
async def test_there_is_no_rule_of_composition(password: str) -> None:
    passwords = Passwords(CHEAP)
    assert await passwords.verify(await passwords.hash(Secret(password), "ann"), Secret(password))


async def test_the_same_letters_typed_otherwise_are_the_same_password() -> None:
    passwords = Passwords(CHEAP)
    composed, apart = Secret("zw\u00f6lf zeichen"), Secret("zwo\u0308lf zeichen")
    assert await passwords.verify(await passwords.hash(composed, "ann"), apart)


async def test_no_stored_hash_is_never_right_and_a_broken_one_neither() -> None:
    passwords = Passwords(CHEAP)
    assert not await passwords.verify(None, GOOD)
    for broken in ("", "x", "$argon2id$v=19$m=64,t=1,p=1$AA$AA", "$2b$12$abc"):
        assert not await passwords.verify(broken, GOOD)


async def test_a_hash_of_other_parameters_is_stale() -> None:
    stored = await Passwords(CHEAP).hash(GOOD, "ann")
    assert not Passwords(CHEAP).stale(stored)
    dearer = Passwords(PasswordCost(2, 64, 1))
    assert dearer.stale(stored)
    assert await dearer.verify(stored, GOOD)


async def test_an_unknown_name_costs_what_a_known_one_costs() -> None:
    passwords = Passwords(PasswordCost(passes=2, memory_kib=8192, lanes=1))
    stored = await passwords.hash(GOOD, "ann")
    took: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(15):
        for known, values in took.items():
            begin = time.perf_counter()
            await passwords.verify(stored if known else None, Secret("wrong horse battery"))
            values.append(time.perf_counter() - begin)
    known_s, unknown_s = (statistics.median(took[known]) for known in (True, False))
    noise_s = max(statistics.pstdev(series) for series in took.values())
    assert abs(known_s - unknown_s) <= max(0.001, 4 * noise_s)
    assert unknown_s > 0.002


async def test_two_at_once_and_no_endless_queue() -> None:
    passwords = Passwords(CHEAP)
    inside, most, lock, gate = 0, 0, threading.Lock(), threading.Event()

    def work() -> bool:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        gate.wait(5)
        with lock:
            inside -= 1
        return True

    waiting = [asyncio.ensure_future(passwords._beside(work)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0.05)
    with pytest.raises(LoginThrottled):
        await passwords.verify(None, GOOD)
    waiting[0].cancel()  # its thread goes on, and is counted until it ends
    gate.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(one is True for one in done) == MOST_WAITING - 1
    assert most == AT_ONCE
    assert not await passwords.verify(None, GOOD)
