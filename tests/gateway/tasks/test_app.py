"""Every route by everybody: roles, scopes, other tenants; and what stands round every answer."""

from __future__ import annotations

import pytest

from auth.roles import PERMISSIONS, Permission, Role
from gateway.admin.routes import OPEN, Route
from gateway.tasks.app import handlers_of
from gateway.tasks.routes import ROUTES, SHARE
from tests.gateway.admin.rig import NOBODY, PASSWORD, Someone
from tests.gateway.tasks.good import good
from tests.gateway.tasks.rig import TaskHouse

WHO = ("own key", "relay key", "admin key", "member", "auditor", "admin", "owner", "nobody")
MAKES = {"tasks.create", "uploads.create", "environments.create", "cloud.create", "old_cloud.create"}


async def someone(house: TaskHouse, who: str) -> Someone:
    if who == "own key":
        return house.one
    if who.endswith("key"):
        return await house.key("ten-1", {who.split(maxsplit=1)[0], "metrics"})
    if who == "nobody":
        return NOBODY
    role = Role(who)
    return await house.person(f"the-{who}", role, "ten-1" if role is Role.MEMBER else None)


def expected(route: Route, who: str) -> int:
    if route.permission is OPEN:
        return route.status
    if who == "nobody":
        return 401
    if who in ("relay key", "admin key"):
        return 403
    role = Role.MEMBER if who == "own key" else Role(who)
    if route.permission not in PERMISSIONS[role]:
        return 403
    if route.name in MAKES and role is not Role.MEMBER:
        return 400  # an administrator has to say for which tenant
    return route.status


async def asked(house: TaskHouse, route: Route, who: Someone, query: str = "") -> tuple[int, bytes]:
    request = await good(route, house)
    headers = {} if request.kind is None else {"content-type": request.kind}
    line = await house.ask(route.method, request.path(route), who, request.body, headers=headers, query=query)
    return line.status, line.body


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_route_by_everybody(house: TaskHouse, route: Route, who: str) -> None:
    status, body = await asked(house, route, await someone(house, who))
    assert status == expected(route, who), body
    assert house.crashes == []
    assert house.seen[-1].route == "tasks"


@pytest.mark.parametrize("who", ["key", "member"])
@pytest.mark.parametrize("route", [one for one in ROUTES if "{id}" in one.path], ids=lambda route: route.name)
async def test_what_is_another_tenants_does_not_exist(house: TaskHouse, route: Route, who: str) -> None:
    other = house.two if who == "key" else await house.person("eve", Role.MEMBER, "ten-2")
    before = await house.records.count_tasks("ten-1", [])
    status, body = await asked(house, route, other)
    assert status == 404, body
    assert b"ten-1" not in body
    assert before == 0
    acts = [one for one in await house.audited() if one[0].endswith(("eve", str(other.key)))]
    assert acts == []


@pytest.mark.parametrize("route", [one for one in ROUTES if one.name in MAKES], ids=lambda route: route.name)
async def test_a_tenant_names_no_other_tenant(house: TaskHouse, route: Route) -> None:
    if route.name.endswith("cloud.create"):
        return
    status, _ = await asked(house, route, house.one, query="tenant=ten-2")
    assert status == 404
    owner = await house.person("root", Role.OWNER)
    assert (await asked(house, route, owner, query="tenant=ten-1"))[0] == 201
    assert (await asked(house, route, owner, query="tenant=nobody"))[0] == 404


async def test_lists_show_ones_own_and_an_administrator_all(house: TaskHouse) -> None:
    mine, theirs = (await house.new())["id"], (await house.new(house.two))["id"]
    owner = await house.person("root", Role.OWNER)
    auditor = await house.person("look", Role.AUDITOR)
    lost = await house.person("lost", Role.MEMBER, None)

    async def seen(who: Someone, query: str = "") -> set[str]:
        line = await house.ask("GET", "/v1/tasks", who, query=query)
        return {one["id"] for one in line.json["items"]}

    assert await seen(house.one) == {mine}
    assert await seen(house.two) == {theirs}
    assert await seen(owner) == await seen(auditor) == {mine, theirs}
    assert await seen(owner, "tenant=ten-2") == {theirs}
    assert await seen(lost) == set(), "a member without a tenant sees nothing"
    assert (await house.ask("POST", "/v1/tasks", lost, {"environment": "env_1", "prompt": "x"})).status == 403
    assert [one["label"] for one in (await house.ask("GET", "/v1/environments", house.one)).json["items"]] == ["env_1"]


@pytest.mark.parametrize("route", [one for one in ROUTES if one.changes], ids=lambda route: route.name)
async def test_a_change_by_cookie_has_to_be_meant(house: TaskHouse, route: Route) -> None:
    member = await house.person("ann", Role.MEMBER, "ten-1")
    request = await good(route, house)
    kind = {} if request.kind is None else {"content-type": request.kind}
    for without, headers in (
        (frozenset({"x-csrf-token"}), {}),
        (frozenset({"origin"}), {}),
        (frozenset[str](), {"origin": "https://evil.example"}),
    ):
        line = await house.ask(
            route.method, request.path(route), member, request.body, headers=kind | headers, without=without
        )
        assert (line.status, line.code) == (403, "csrf_failed")


async def test_a_share_links_token_is_not_in_the_log_and_its_answer_is_kept_nowhere(house: TaskHouse) -> None:
    task = await house.ready()
    made = (await house.ask("POST", f"/v1/tasks/{task['id']}/share", house.one, {"expires_in_s": 60})).json
    token = made["url"].rpartition("/")[2]
    for path in (f"{SHARE}/{token}", f"{SHARE}/{token}/diff", f"{SHARE}/{token}x", f"{SHARE}/{token}/no/such"):
        line = await house.ask("GET", path)
        assert token not in house.seen[-1].path
        assert line.headers[b"referrer-policy"] == b"no-referrer"
        assert b"noindex" in line.headers[b"x-robots-tag"]
        if line.status == 200:
            assert line.headers[b"cache-control"] == b"no-store"
            assert line.headers[b"x-content-type-options"] == b"nosniff"


async def test_a_person_is_a_person_to_the_service(house: TaskHouse) -> None:
    assert PASSWORD
    member = await house.person("ann", Role.MEMBER, "ten-1")
    task = await house.new(member)
    assert task["created_by"] == "admin:ann"
    assert ("admin:ann", "task.create", "ok") in await house.audited()


def test_every_route_has_a_handler_and_none_is_too_many(house: TaskHouse) -> None:
    assert set(handlers_of(house.shop)) == {route.name for route in ROUTES}
    assert {route.permission for route in ROUTES} == {OPEN, Permission.TASKS_READ, Permission.TASKS_WRITE}
