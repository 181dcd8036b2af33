"""Where logins are kept: for a day, the newest ones, changed by one at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auth.login_book import CLAIM_S, KEPT_MOST, KEPT_S, LoginBook
from auth.logins import LoginRecord, LoginState, LoginUnknown, failed
from store.errors import Conflict
from store.memory import MemoryStore
from tests.auth.test_logins import RECORD
from tests.fakes.clock import FakeClock


def made(clock: FakeClock, number: int = 1) -> LoginRecord:
    now_s = clock.now_s()
    login = replace(RECORD.login, id=f"login_{number:04d}", created_at_s=now_s + number, expires_at_s=now_s + 900)
    return replace(RECORD, login=login)


async def test_a_login_stays_a_day_after_its_end() -> None:
    clock = FakeClock()
    book = LoginBook(MemoryStore(clock), clock, "one")
    stored = await book.add(made(clock))
    assert stored.login.version == 1
    clock.advance(900 + KEPT_S - 1)
    assert (await book.get(stored.id)).pending
    ended = await book.put(failed(stored, LoginState.EXPIRED, "expired", "too late"))
    assert ended.login.version == 2
    clock.advance(KEPT_S - 1)
    assert await book.get(stored.id) == ended
    clock.advance(2)
    with pytest.raises(LoginUnknown):
        await book.get(stored.id)
    assert await book.all() == []
    with pytest.raises(Conflict):
        await book.put(ended)


async def test_who_read_an_older_version_changes_nothing() -> None:
    clock = FakeClock()
    book = LoginBook(MemoryStore(clock), clock, "one")
    first = await book.add(made(clock))
    second = await book.put(replace(first, failures=7))
    with pytest.raises(Conflict):
        await book.put(replace(first, failures=8))
    assert await book.get(first.id) == second


async def test_the_newest_ended_ones_are_kept_and_every_open_one() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    book = LoginBook(store, clock, "one")
    open_one = await book.add(made(clock, 0))
    for number in range(1, KEPT_MOST + 5):
        added = await book.add(made(clock, number))
        await book.put(failed(added, LoginState.CANCELLED, "cancelled", "no"))
    await book.add(made(clock, 9000))
    ids = [one.id for one in await book.all()]
    assert ids[0] == "login_9000"
    assert ids[-1] == open_one.id
    assert len(ids) == KEPT_MOST - 1 + 2
    assert "login_0001" not in ids


async def test_one_works_on_a_login_until_it_is_done_or_dead() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    one, two = (LoginBook(store, clock, name) for name in ("one", "two"))
    async with one.claimed("x") as held:
        assert held is not None
        async with two.claimed("x") as other:
            assert other is None
        clock.advance(CLAIM_S + 1)
        async with two.claimed("x") as other:
            assert other is not None
    async with one.claimed("x") as again:
        assert again is not None
