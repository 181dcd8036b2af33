"""Who acts, and did his browser mean it: transport, cookies, keys, origins and tokens, as tables."""

from __future__ import annotations

import pytest

from auth.roles import Role
from gateway.admin.access import PLAIN_COOKIE, SECURE_COOKIE, cookies_of
from gateway.admin.routes import API, ROUTES
from tests.gateway.admin.good import GOOD
from tests.gateway.admin.rig import HOST, NOBODY, House, Someone

ORIGIN = f"http://{HOST}"
NEW = {"name": "fresh"}


@pytest.mark.parametrize(
    ("change", "without", "status"),
    [
        ({}, (), 201),
        ({"sec-fetch-site": "same-origin"}, (), 201),
        ({"sec-fetch-site": "same-origin"}, ("origin",), 201),
        ({}, ("origin",), 403),
        ({"sec-fetch-site": "none"}, ("origin",), 403),
        ({"sec-fetch-site": "same-site"}, ("origin",), 403),
        ({"sec-fetch-site": "cross-site"}, ("origin",), 403),
        ({"sec-fetch-site": "cross-site"}, (), 403),
        ({"origin": "http://evil.example"}, (), 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, (), 403),
        ({"origin": "null"}, (), 403),
        ({"origin": f"https://{HOST}"}, (), 403),
        ({"origin": "http://127.0.0.1"}, (), 403),
        ({"origin": f"{ORIGIN}.evil.example"}, (), 403),
        ({"origin": ""}, (), 403),
        ({}, ("x-csrf-token",), 403),
        ({"x-csrf-token": ""}, (), 403),
        ({"x-csrf-token": "x" * 43}, (), 403),
        ({"x-csrf-token": "\xff"}, (), 403),
    ],
)
async def test_a_change_by_cookie_needs_its_token_and_our_origin(
    change: dict[str, str], without: tuple[str, ...], status: int
) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    line = await house.ask("POST", f"{API}/tenants", owner, NEW, headers=change, without=frozenset(without))
    assert line.status == status
    assert status == 201 or line.code == "csrf_failed"
    assert len(await house.store.tenants()) == (3 if status == 201 else 2)


async def test_another_sessions_token_is_no_token() -> None:
    house = await House().furnish()
    owner, other = await house.person("root", Role.OWNER), await house.person("other", Role.OWNER)
    line = await house.ask("POST", f"{API}/tenants", Someone(owner.cookie, other.csrf), NEW)
    assert line.code == "csrf_failed"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.changes], ids=lambda route: route.name)
async def test_no_route_that_changes_anything_is_open_to_a_foreign_page(route: object) -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER, password=True)
    good = await GOOD[route.name](house, owner)  # type: ignore[attr-defined]
    path = route.path.replace("{id}", good.target)  # type: ignore[attr-defined]
    line = await house.ask(route.method, path, owner, good.body, headers={"origin": "https://evil.example"})  # type: ignore[attr-defined]
    assert (line.status, line.code) == (403, "csrf_failed")


async def test_a_key_needs_neither_token_nor_origin_and_says_who_it_is() -> None:
    house = await House().furnish()
    key = await house.key("ten-1", {"admin"})
    line = await house.ask("POST", f"{API}/tenants", key, NEW, without=frozenset({"origin"}))
    assert line.status == 201
    ((actor, action, outcome),) = await house.audited()
    assert (actor.partition(":")[0], action, outcome) == ("key", "tenant.create", "ok")
    shown = (await house.ask("GET", f"{API}/session", key)).json
    assert (shown["principal"]["role"], shown["csrf_token"], shown["expires_at_s"]) == ("admin", None, None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": "Bearer at-cr-aaaaaaaaaaaa-" + "x" * 43}, "invalid_api_key"),
        ({"authorization": "Basic cm9vdDpyb290"}, "invalid_api_key"),
        ({"authorization": ""}, "invalid_api_key"),
        ({"x-api-key": "KEY"}, "not_signed_in"),
        ({"cookie": f"{PLAIN_COOKIE}=KEY"}, "not_signed_in"),
        ({"cookie": f"{PLAIN_COOKIE}=adm_0123456789abcdef.{'x' * 43}"}, "not_signed_in"),
        ({"cookie": f"{SECURE_COOKIE}=SESSION"}, "not_signed_in"),
        ({"cookie": f"{PLAIN_COOKIE}=SESSION; {PLAIN_COOKIE}=SESSION"}, "not_signed_in"),
        ({"cookie": f"{PLAIN_COOKIE.upper()}=SESSION"}, "not_signed_in"),
        ({"x-session": "SESSION"}, "not_signed_in"),
        ({"cookie": f"{PLAIN_COOKIE}=SESSION", "authorization": "Bearer nonsense"}, "invalid_api_key"),
    ],
)
async def test_there_is_one_place_for_each_proof(headers: dict[str, str], code: str) -> None:
    house = await House().furnish()
    owner, key = await house.person("root", Role.OWNER), await house.key("ten-1", {"admin"})
    sent = {
        name: value.replace("SESSION", owner.cookie or "").replace("KEY", key.key or "")
        for name, value in headers.items()
    }
    line = await house.ask("GET", f"{API}/session", headers=sent)
    assert (line.status, line.code) == (401, code)


async def test_nothing_in_an_address_signs_anybody_in() -> None:
    house = await House().furnish()
    owner, key = await house.person("root", Role.OWNER), await house.key("ten-1", {"admin"})
    for query in (f"session={owner.cookie}", f"{PLAIN_COOKIE}={owner.cookie}", f"key={key.key}", f"token={key.key}"):
        assert (await house.ask("GET", f"{API}/session", query=query)).code == "not_signed_in"


@pytest.mark.parametrize(
    ("scheme", "host", "public_url", "fine"),
    [
        ("http", "127.0.0.1:8080", None, True),
        ("http", "localhost", None, True),
        ("http", "LOCALHOST:8080", None, True),
        ("http", "[::1]:8080", None, True),
        ("https", "relay.example.com", None, True),
        ("http", "relay.example.com", None, False),
        ("http", "relay.example.com", "https://relay.example.com", True),
        ("http", "other.example.com", "https://relay.example.com", False),
        ("http", "relay.example.com", "http://relay.example.com", False),
        ("http", "192.0.2.1:8080", None, False),
        ("http", "localhost.evil.example", None, False),
        ("http", "127.0.0.1.evil.example", None, False),
        ("http", "[::1", None, False),
    ],
)
async def test_browsers_are_served_in_private_or_not_at_all(
    scheme: str, host: str, public_url: str | None, fine: bool
) -> None:
    house = await House(public_url=public_url).furnish()
    https = scheme == "https" or (public_url or "").startswith("https")
    owner = await house.person("root", Role.OWNER)
    cookie = {"cookie": f"{SECURE_COOKIE if https else PLAIN_COOKIE}={owner.cookie}"}
    for path in (f"{API}/sign-in", f"{API}/session", "/console", "/console/accounts"):
        line = await house.ask("GET", path, headers=cookie, scheme=scheme, host=host)
        assert line.status == (200 if fine else 403), path
        assert fine or line.code == "https_required"
    key = await house.key("ten-1", {"admin"})
    assert (await house.ask("GET", f"{API}/session", key, scheme=scheme, host=host)).status == 200


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_cookie_is_for_this_host_alone_and_out_of_reach_of_scripts(scheme: str) -> None:
    house = await House().furnish()
    good = await GOOD["session.open"](house, NOBODY)
    line = await house.ask("POST", f"{API}/session", NOBODY, good.body, scheme=scheme)
    value, *attributes = line.headers[b"set-cookie"].decode().split("; ")
    expected = {"Path=/", "HttpOnly", "SameSite=Lax"} | ({"Secure"} if scheme == "https" else set())
    assert set(attributes) == expected
    assert value.startswith(f"{SECURE_COOKIE if scheme == 'https' else PLAIN_COOKIE}=adm_")
    assert (b"strict-transport-security" in line.headers) == (scheme == "https")


def test_a_cookie_that_comes_twice_is_none() -> None:
    fields = [(b"cookie", b"a=1; b=2"), (b"cookie", b"b=3; c=; d; e=" + b"x" * 600)]
    assert cookies_of(fields) == {"a": "1", "c": ""}
