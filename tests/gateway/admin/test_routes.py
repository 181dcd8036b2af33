"""Every route by every role, from the table itself: who may not gets 403, who is nobody 401, nobody gets a 5xx."""

from __future__ import annotations

import pytest

from auth.roles import PERMISSIONS, Role
from gateway.admin.routes import API, OPEN, ROUTES, Route, Table, allowed
from tests.gateway.admin.good import GOOD
from tests.gateway.admin.rig import NOBODY, House, Someone

WHO = (*Role, "bound admin", "bound auditor", "admin key", "relay key", "nobody")


async def someone(house: House, who: str | Role) -> Someone:
    if isinstance(who, Role):
        return await house.person(f"the-{who.value}", who, "ten-1" if who is Role.MEMBER else None, password=True)
    if who.startswith("bound"):
        return await house.person("bound", Role(who.split()[1]), "ten-1", password=True)
    if who.endswith("key"):
        return await house.key("ten-1", {"admin", "relay"} if who == "admin key" else {"relay", "tasks", "metrics"})
    return NOBODY


def expected(route: Route, who: str | Role) -> int:
    """The status by the table alone."""
    if route.permission is OPEN:
        return route.status
    if who == "nobody":
        return 401
    if who == "relay key":
        return 403
    role = Role.ADMIN if who == "admin key" else Role(who.removeprefix("bound ") if isinstance(who, str) else who)
    bound = who == Role.MEMBER or (isinstance(who, str) and who.startswith("bound"))
    refused = (
        route.permission not in PERMISSIONS[role]
        or (route.whole and bound)
        or (route.person and who == "admin key")
    )  # fmt: skip
    return 403 if refused else route.status


def test_every_route_has_a_request_that_does_what_it_is_for() -> None:
    assert set(GOOD) == {route.name for route in ROUTES}


@pytest.mark.parametrize("who", WHO, ids=str)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_by_every_role(route: Route, who: str | Role) -> None:
    house = await House().furnish()
    await house.person("the-first", Role.OWNER)
    acting = await someone(house, who)
    good = await GOOD[route.name](house, acting)
    before = len(await house.audited())
    line = await house.ask(
        route.method, route.path.replace("{id}", good.target), acting, good.body, query=good.query
    )  # fmt: skip
    assert line.status == expected(route, who), line.body
    assert house.crashes == []
    assert house.seen[-1].route == "admin"
    if line.status in (401, 403):
        assert line.code in ("not_signed_in", "forbidden")
        assert len(await house.audited()) == before, "what is refused leaves no act"


def test_only_an_owner_changes_administrators() -> None:
    for route in ROUTES:
        if route.name.startswith("admins.") and route.changes:
            assert [role for role in Role if expected(route, role) < 300] == [Role.OWNER]


def test_names_and_places_are_used_once() -> None:
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert all(route.path.startswith(f"{API}/") for route in ROUTES)
    assert all(not route.changes for route in ROUTES if route.method == "GET")


def test_a_path_is_found_exactly_or_not_at_all() -> None:
    table = Table(ROUTES)
    found = table.find(f"{API}/accounts/import")
    assert found is not None
    assert allowed(found[0]) == "POST"
    shown = table.find(f"{API}/accounts/acc_1")
    assert shown is not None
    assert (shown[1], allowed(shown[0])) == ({"id": "acc_1"}, "DELETE, GET, HEAD, PATCH")
    for path in ("", "/", API, f"{API}/", f"{API}/accounts/", f"{API}//accounts", f"{API}/accounts/a/b", f"{API}/x"):
        assert table.find(path) is None, path
