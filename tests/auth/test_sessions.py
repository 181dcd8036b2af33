"""Console sessions: they end when they must, whatever happens, and a cookie opens one session only."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.roles import Role
from auth.sessions import MOST_SESSIONS, NO_TENANT, SESSION_KIND, TOUCH_S, Sessions
from store.memory import MemoryStore
from store.records import Document, Secret
from tests.auth.people import BETTER, GOOD, People, people
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(clock: FakeClock) -> People:
    return people(MemoryStore(clock), clock)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_is_found_by_any_process_until_it_is_closed(
    kind: str, tmp_path: Path, clock: FakeClock
) -> None:
    async with opened(kind, clock, tmp_path) as (one, two):
        here, there = people(one, clock), people(two, clock)
        ann = await here.person("ann")
        cookie, view = await here.sessions.open(ann, address="192.0.2.7", user_agent="Browser/1\n" + "x" * 500)
        found = await there.sessions.find(cookie)
        assert found == ((found or (None,))[0], view)
        principal = found[0] if found else None
        assert principal is not None
        assert (principal.id, principal.name, principal.role) == (ann.id, "ann", Role.OWNER)
        assert (principal.session_id, principal.tenant_id) == (view.id, None)
        assert (view.address, len(view.user_agent), view.user_agent.isprintable()) == ("192.0.2.7", 256, True)
        assert await there.sessions.of(ann.id) == (view,)
        assert await there.sessions.is_live(view.id)
        assert await there.sessions.close(view.id)
        assert not await there.sessions.close(view.id)
        assert await here.sessions.find(cookie) is None
        assert not await here.sessions.is_live(view.id)


async def test_the_store_does_not_hold_the_cookie(house: People) -> None:
    cookie = await house.cookie(await house.person("ann"))
    assert len(cookie.reveal().partition(".")[2]) == 43
    (kept,) = await house.documents.documents(SESSION_KIND)
    secret = cookie.reveal().partition(".")[2].encode()
    assert secret not in kept.body
    assert secret.decode() not in kept.id
    assert kept.id.endswith(hashlib.sha256(cookie.reveal().encode()).hexdigest())


async def test_no_other_cookie_opens_it(house: People) -> None:
    ann, bob = await house.person("ann"), await house.person("bob")
    cookie = (await house.cookie(ann)).reveal()
    secret = cookie.partition(".")[2]
    flipped = ("B" if secret[0] == "A" else "A") + secret[1:]
    kept = (await house.documents.documents(SESSION_KIND))[0].id
    for other in ("", "x", secret, kept, f"{bob.id}.{secret}", f"{ann.id}.{flipped}", cookie + "x", cookie + "\n"):
        assert await house.sessions.find(Secret(other)) is None
    assert await house.sessions.find(Secret(cookie)) is not None


async def test_each_is_new_and_a_token_against_forgery_is_of_one_session(house: People) -> None:
    ann = await house.person("ann")
    one, two = [await house.cookie(ann) for _ in range(2)]
    assert one != two
    token = Sessions.csrf_token(one)
    assert token != Sessions.csrf_token(two)
    assert token not in one.reveal()
    assert Sessions.csrf_fits(one, token)
    for wrong in ("", token[:-1], token + "A", Sessions.csrf_token(two), "\ud800", "ä"):
        assert not Sessions.csrf_fits(one, wrong)


async def test_idle_and_absolute_end(house: People, clock: FakeClock) -> None:
    ann = await house.person("ann")
    cookie = await house.cookie(ann)
    clock.advance(1799)
    assert await house.sessions.find(cookie) is not None
    clock.advance(1800)
    assert await house.sessions.find(cookie) is None
    cookie = await house.cookie(ann)
    begin = clock.now_s()
    while await house.sessions.find(cookie) is not None:
        clock.advance(600)
    assert clock.now_s() - begin == 43_200


async def test_use_is_noted_once_a_minute(house: People, clock: FakeClock) -> None:
    cookie = await house.cookie(await house.person("ann"))
    versions = []
    for _ in range(10):
        clock.advance(TOUCH_S / 4)
        await house.sessions.find(cookie)
        versions.append((await house.documents.documents(SESSION_KIND))[0].version)
    assert versions == [1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


async def test_whatever_changes_who_he_is_ends_all_his_sessions(house: People) -> None:
    await house.person("boss")
    for change in (
        lambda one: house.admins.change(one.id, role=Role.ADMIN),
        lambda one: house.admins.change(one.id, tenant_id="ten_1"),
        lambda one: house.admins.change(one.id, enabled=False),
        lambda one: house.admins.end_sessions(one.id),
        lambda one: house.admins.remove(one.id),
        lambda one: house.sign_in.set_password(one, BETTER),
        lambda one: house.sign_in.change_password(one, GOOD, BETTER),
        house.sign_in.invite,
    ):
        ann = await house.person("ann")
        cookie, view = await house.sessions.open(ann, address="", user_agent="")
        await change(ann)
        assert await house.sessions.find(cookie) is None
        assert not await house.sessions.is_live(view.id)
        late = await house.cookie(ann)  # who was checked before the change gets nothing after it
        assert await house.sessions.find(late) is None
        assert await house.sessions.of(ann.id) == ()
        if await house.admins.get(ann.id) is not None:
            await house.admins.remove(ann.id)


async def test_a_disabled_person_who_is_enabled_again_signs_in_anew(house: People) -> None:
    await house.person("boss")
    ann = await house.person("ann")
    cookie = await house.cookie(ann)
    await house.admins.change(ann.id, enabled=False)
    await house.admins.change(ann.id, enabled=True)
    assert await house.sessions.find(cookie) is None


async def test_all_but_one_are_closed_and_nobody_elses(house: People) -> None:
    ann, bob = await house.person("ann"), await house.person("bob")
    opened_here = [await house.sessions.open(ann, address="", user_agent="") for _ in range(3)]
    other = await house.cookie(bob)
    assert await house.sessions.close_all(ann.id, except_id=opened_here[1][1].id) == 2
    assert [await house.sessions.find(cookie) is not None for cookie, _ in opened_here] == [False, True, False]
    assert await house.sessions.close_all(ann.id) == 1
    assert await house.sessions.find(other) is not None


async def test_the_oldest_makes_room(house: People, clock: FakeClock) -> None:
    ann = await house.person("ann")
    cookies = []
    for _ in range(MOST_SESSIONS + 2):
        cookies.append(await house.cookie(ann))
        clock.advance(1)
    live = [await house.sessions.find(cookie) is not None for cookie in cookies]
    assert live == [False, False] + [True] * MOST_SESSIONS


async def test_a_session_that_is_closed_while_it_is_noted_stays_closed(clock: FakeClock) -> None:
    class Closing(MemoryStore):
        closing = False

        async def put_document(self, document: Document, expected_version: int) -> Document:
            if self.closing:
                await self.remove_document(document.kind, document.id)
            return await super().put_document(document, expected_version)

    store = Closing(clock)
    house = people(store, clock)
    cookie = await house.cookie(await house.person("ann"))
    clock.advance(TOUCH_S)
    store.closing = True
    assert await house.sessions.find(cookie) is None


async def test_a_member_without_a_tenant_sees_no_tenant(house: People) -> None:
    member = await house.person("max", Role.MEMBER)
    found = await house.sessions.find(await house.cookie(member))
    assert found is not None
    assert found[0].tenant_id == NO_TENANT
    bound = await house.admins.change(member.id, tenant_id="ten_1")
    found = await house.sessions.find(await house.cookie(bound))
    assert found is not None
    assert found[0].tenant_id == "ten_1"


STEP = st.one_of(
    st.tuples(st.just("wait"), st.floats(0, 2000)),
    st.tuples(st.just("use"), st.integers(0, 1)),
    st.tuples(st.just("open"), st.integers(0, 1)),
    st.tuples(st.sampled_from(["password", "role", "disable", "close_all"]), st.just(0)),
)


@given(st.lists(STEP, max_size=60), st.floats(60, 4000), st.floats(60, 9000))
@settings(max_examples=150, deadline=None)
def test_a_session_never_outlives_its_bounds(steps: list[tuple[str, Any]], idle_s: float, max_s: float) -> None:
    async def play() -> None:
        clock = FakeClock()
        store = MemoryStore(clock)
        houses = [people(store, clock, idle_s=idle_s, max_s=max_s) for _ in range(2)]
        await houses[0].person("boss")
        ann = await houses[0].person("ann", Role.ADMIN)
        live: dict[str, tuple[float, float]] = {}  # cookie -> opened, last seen alive
        for what, value in steps:
            if what == "wait":
                clock.advance(value)
            elif what == "open":
                fresh = await houses[value].admins.get(ann.id)
                assert fresh is not None
                live[(await houses[value].cookie(fresh)).reveal()] = (clock.now_s(), clock.now_s())
            elif what == "use":
                for cookie, (begin, seen) in list(live.items()):
                    found = await houses[value].sessions.find(Secret(cookie))
                    if found is None:
                        idle, age = clock.now_s() - seen, clock.now_s() - begin
                        early = idle < idle_s - TOUCH_S - 0.01 and age < max_s - 0.01  # floats are not exact
                        assert not early or len(live) > MOST_SESSIONS
                        del live[cookie]
                        continue
                    assert clock.now_s() - begin < max_s + 0.01
                    assert clock.now_s() - seen < idle_s + 0.01
                    live[cookie] = (begin, clock.now_s())
            else:
                await _end(houses[0], ann.id, what)
                for cookie in live:
                    assert await houses[1].sessions.find(Secret(cookie)) is None
                live.clear()

    asyncio.run(play())


async def _end(house: People, admin_id: str, how: str) -> None:
    admin = await house.admins.get(admin_id)
    assert admin is not None
    if how == "password":
        await house.sign_in.set_password(admin, BETTER)
    elif how == "role":
        await house.admins.change(admin_id, role=Role.AUDITOR if admin.role is Role.ADMIN else Role.ADMIN)
    elif how == "disable":
        await house.admins.change(admin_id, enabled=False)
        await house.admins.change(admin_id, enabled=True)
    else:
        await house.sessions.close_all(admin_id)
