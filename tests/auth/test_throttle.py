"""Failed sign-ins: they make wait, ever longer, an hour at most, and never the right owner for ever."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from auth.errors import LoginThrottled
from auth.throttle import FORGET_S, KNOWN_S, MAX_WAIT_S, WAIT_KIND, LoginThrottle
from store.memory import MemoryStore
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock

EVIL, HOME = "198.51.100.9", "192.0.2.7"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def throttle(clock: FakeClock) -> LoginThrottle:
    return LoginThrottle(MemoryStore(clock), clock, failures=3, wait_s=60)


async def fail(throttle: LoginThrottle, name: str, address: str, times: int = 1) -> None:
    for _ in range(times):
        await throttle.admit(name, address)


async def wait_of(throttle: LoginThrottle, name: str, address: str) -> float:
    with pytest.raises(LoginThrottled) as refused:
        await throttle.admit(name, address)
    return refused.value.retry_after_s


async def test_waits_double_up_to_an_hour(throttle: LoginThrottle, clock: FakeClock) -> None:
    await fail(throttle, "ann", EVIL, 3)
    waits = []
    for _ in range(9):
        waits.append(await wait_of(throttle, "ann", EVIL))
        clock.advance(waits[-1])
        await throttle.admit("ann", EVIL)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


async def test_a_refused_attempt_does_not_make_it_longer(throttle: LoginThrottle, clock: FakeClock) -> None:
    await fail(throttle, "ann", EVIL, 3)
    for _ in range(50):
        assert await wait_of(throttle, "ann", EVIL) <= 60
    clock.advance(59)
    assert await wait_of(throttle, "ann", EVIL) == 1


async def test_a_name_waits_whatever_the_address_and_an_address_whatever_the_name(throttle: LoginThrottle) -> None:
    for n in range(3):
        await throttle.admit("ann", f"198.51.100.{n}")
    assert await wait_of(throttle, "ann", "203.0.113.1") == 60
    for n in range(3):
        await throttle.admit(f"name{n}", EVIL)
    assert await wait_of(throttle, "fresh", EVIL) == 60
    await throttle.admit("fresh", "203.0.113.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("unix", "unix", True),
    ],
)
async def test_what_counts_as_one_address(throttle: LoginThrottle, one: str, other: str, same: bool) -> None:
    for n in range(3):
        await throttle.admit(f"name{n}", one)
    if same:
        await wait_of(throttle, "fresh", other)
    else:
        await throttle.admit("fresh", other)


async def test_an_hour_of_peace_and_all_is_forgotten(throttle: LoginThrottle, clock: FakeClock) -> None:
    await fail(throttle, "ann", EVIL, 2)
    clock.advance(FORGET_S)
    await fail(throttle, "ann", EVIL, 3)
    await wait_of(throttle, "ann", EVIL)
    clock.advance(60 + FORGET_S)
    await fail(throttle, "ann", EVIL, 3)


async def test_the_owner_comes_in_from_where_he_came_before_whoever_hammers(
    throttle: LoginThrottle, clock: FakeClock
) -> None:
    await throttle.succeeded(await throttle.admit("ann", HOME))
    for _ in range(20):
        for _ in range(3):
            with contextlib.suppress(LoginThrottled):
                await throttle.admit("ann", EVIL)
        await wait_of(throttle, "ann", EVIL)
        await throttle.succeeded(await throttle.admit("ann", HOME))
        clock.advance(MAX_WAIT_S)
    await fail(throttle, "ann", HOME, 3)  # his own place is counted by itself
    assert await wait_of(throttle, "ann", HOME) == 60
    await throttle.admit("bob", HOME)
    clock.advance(KNOWN_S)
    await throttle.admit("ann", HOME)


async def test_one_good_name_does_not_pay_for_guesses_at_others(throttle: LoginThrottle) -> None:
    await throttle.succeeded(await throttle.admit("own", "198.51.100.200"))
    for n in range(2):
        await throttle.admit(f"victim{n}", EVIL)
        await throttle.succeeded(await throttle.admit(f"mine{n}", EVIL))
    await throttle.admit("victim2", EVIL)
    await wait_of(throttle, "victim3", EVIL)


async def test_an_attempt_that_says_nothing_does_not_count_and_clears_nothing(throttle: LoginThrottle) -> None:
    await fail(throttle, "ann", EVIL, 2)
    for _ in range(10):
        await throttle.undo(await throttle.admit("ann", "203.0.113.5"))
    await throttle.admit("ann", "203.0.113.5")
    await wait_of(throttle, "ann", "203.0.113.5")


async def test_an_attempt_that_the_name_refuses_is_not_counted_for_the_address(throttle: LoginThrottle) -> None:
    await fail(throttle, "ann", "198.51.100.1", 3)
    for _ in range(10):
        await wait_of(throttle, "ann", HOME)
    await fail(throttle, "bob", HOME, 3)


async def test_who_is_signed_in_is_counted_by_himself(throttle: LoginThrottle) -> None:
    await fail(throttle, "ann", EVIL, 3)
    await throttle.succeeded(await throttle.admit_own("adm_1"))
    for _ in range(3):
        await throttle.admit_own("adm_1")
    with pytest.raises(LoginThrottled):
        await throttle.admit_own("adm_1")
    await throttle.admit_own("adm_2")


@pytest.mark.parametrize("kind", KINDS)
async def test_at_once_over_two_processes_no_more_pass_than_one_after_another(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as handles:
        both = [LoginThrottle(one, clock, failures=5, wait_s=60) for one in handles]
        done = await asyncio.gather(
            *(both[n % 2].admit("ann", f"198.51.100.{n}") for n in range(30)), return_exceptions=True
        )
        refused = [one for one in done if isinstance(one, BaseException)]
        assert all(isinstance(one, LoginThrottled) for one in refused), refused
        assert len(done) - len(refused) == 5


async def test_neither_names_nor_addresses_are_stored(clock: FakeClock) -> None:
    store = MemoryStore(clock)
    throttle = LoginThrottle(store, clock, failures=3, wait_s=60)
    await throttle.admit("ann", EVIL)
    for kept in await store.documents(WAIT_KIND):
        assert EVIL not in kept.id + kept.body.decode()
        assert "ann" not in kept.id + kept.body.decode()
        assert kept.expires_at_s is not None
