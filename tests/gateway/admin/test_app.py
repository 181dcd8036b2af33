"""What holds for every answer: JSON in one shape, the headers, the methods, and the order of refusals."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from auth.roles import Role
from gateway.admin.app import SECURITY, AdminApi
from gateway.admin.routes import API, ROUTES, Route
from store.errors import StoreUnavailable
from tests.fakes.line import Line
from tests.gateway.admin.good import GOOD
from tests.gateway.admin.rig import NOBODY, House

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get")


def headers_of(line: Line) -> list[tuple[bytes, bytes]]:
    return list(line.messages[0]["headers"])


def must_be_sealed(line: Line) -> None:
    """C43: each header once, no CORS, nothing to cache, and JSON or nothing."""
    names = [name for name, _ in headers_of(line)]
    assert len(names) == len(set(names)), names
    assert set(SECURITY) <= set(headers_of(line))
    assert line.headers[b"cache-control"] == b"no-store"
    assert not [name for name in names if name.startswith(b"access-control")]
    assert line.headers[b"x-request-id"]
    assert b"<" not in line.body[:1]
    if line.status != 204:
        assert line.headers[b"content-type"] == b"application/json"
        assert line.headers[b"content-length"] == str(len(line.body)).encode() or not line.body
    else:
        assert line.body == b""
        assert b"content-type" not in line.headers


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_every_answer_of_every_route_is_sealed(route: Route) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER, password=True)
    good = await GOOD[route.name](house, owner)
    path = route.path.replace("{id}", good.target)
    must_be_sealed(await house.ask(route.method, path, NOBODY, good.body))
    must_be_sealed(await house.ask(route.method, path, owner, b"{", query="x=1"))
    must_be_sealed(await house.ask("BREW", path, owner))
    must_be_sealed(await house.ask(route.method, path, owner, good.body, query=good.query))
    if route.method == "GET":
        head = await house.ask("HEAD", path, owner, query=good.query)
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers[b"content-length"]) > 0


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
async def test_a_method_that_a_path_does_not_take_is_a_405_that_names_those_it_does(path: str) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    taken = {route.method for route in ROUTES if route.path == path}
    taken |= {"HEAD"} if "GET" in taken else set()
    for method in set(METHODS) - taken:
        line = await house.ask(method, path.replace("{id}", "x"), owner)
        assert (line.status, line.code) == (405, "method_not_allowed"), method
        assert set(line.headers[b"allow"].decode().split(", ")) == taken
        must_be_sealed(line)


@pytest.mark.parametrize(
    "path", [API, f"{API}/", f"{API}/nothing", f"{API}/accounts/", f"{API}/accounts/a/b/c", f"{API}/../v1/models"]
)
async def test_a_path_of_nobody_is_a_404_in_our_shape(path: str) -> None:
    house = House()
    line = await house.ask("GET", path)
    assert (line.status, line.code) == (404, "not_found")
    must_be_sealed(line)


@pytest.mark.parametrize("route", [route for route in ROUTES if "{id}" in route.path], ids=lambda route: route.name)
async def test_an_id_that_is_not_there_is_a_404_whatever_it_looks_like(route: Route) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER, password=True)
    good = await GOOD[route.name](house, owner)
    for target in ("none", "%", "..", "' OR 1=1 --", "\x00", "ä", "x" * 2000):
        line = await house.ask(route.method, route.path.replace("{id}", target), owner, good.body)
        assert (line.status, line.code) == (404, "not_found"), target
    assert house.crashes == []


@pytest.mark.parametrize("route", [route for route in ROUTES if route.changes], ids=lambda route: route.name)
async def test_a_store_that_is_away_is_a_503_and_nothing_is_done(route: Route) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER, password=True)
    good = await GOOD[route.name](house, owner)

    async def away() -> None:
        raise StoreUnavailable("the disk is full")

    house.store.check = away  # type: ignore[method-assign]
    before = await everything(house)
    line = await house.ask(route.method, route.path.replace("{id}", good.target), owner, good.body)
    assert (line.status, line.code) == (503, "store_unavailable")
    assert await everything(house) == before


async def everything(house: House) -> Sequence[object]:
    store = house.store
    kinds = ("admin", "admin_roster", "admin_session", "login")
    return [await store.accounts(), await store.tenants(), await store.keys()] + [
        await store.documents(kind) for kind in kinds
    ]


async def test_bodies_are_bounded_and_imports_a_little_wider() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    mib = 1024 * 1024
    assert (await house.ask("POST", f"{API}/tenants", owner, b" " * (mib + 1))).code == "body_too_large"
    assert (await house.ask("POST", f"{API}/accounts/import", owner, b" " * (mib + 1))).code == "invalid_json"
    assert (await house.ask("POST", f"{API}/accounts/import", owner, b" " * (4 * mib + 1))).code == "body_too_large"


def test_a_route_without_a_handler_stops_the_start() -> None:
    house = House()
    with pytest.raises(ValueError, match="no handler for"):
        AdminApi(house.access, {}, oidc=False)
