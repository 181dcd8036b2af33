"""The two redirects of single sign-on: tied to this browser, told by one word when refused, and never a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from auth.admins import Admin
from auth.errors import OidcRefused, OidcUnavailable
from auth.roles import Role
from gateway.admin.access import OIDC_COOKIE, PLAIN_COOKIE, PLAIN_OIDC_COOKIE
from gateway.admin.app import AdminApi
from gateway.admin.oidc import OidcDoor
from gateway.admin.routes import API
from store.records import Secret
from tests.fakes.line import Line
from tests.gateway.admin.rig import House, Someone


class Provider:
    """Stands where auth.oidc.OidcSignIn stands."""

    def __init__(self, admin: Admin) -> None:
        self.admin = admin
        self.fault: Exception | None = None
        self.began: list[tuple[str, Secret]] = []
        self.ended: list[tuple[dict[str, str], Secret | None]] = []

    async def start(self, next_path: str, browser_secret: Secret) -> str:
        if self.fault is not None:
            raise self.fault
        self.began.append((next_path, browser_secret))
        return "https://provider.example/authorize?state=s"

    async def finish(self, query: Mapping[str, str], browser_secret: Secret | None) -> tuple[Admin, str]:
        self.ended.append((dict(query), browser_secret))
        if self.fault is not None:
            raise self.fault
        return self.admin, "/console/accounts"


async def house_with_provider() -> tuple[House, Provider]:
    house = await House().furnish()
    admin = (await house.person("ada", Role.ADMIN)).admin
    assert admin is not None
    provider: Any = Provider(admin)
    handlers = {**house.handlers(None, sandbox=False), **OidcDoor(provider, house.door).handlers()}
    house.api = AdminApi(house.access, handlers, oidc=True)
    house.app = house.framed()
    return house, provider


def cookies(line: Line) -> dict[str, str]:
    values = [value.decode() for name, value in line.messages[0]["headers"] if name == b"set-cookie"]
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


@pytest.mark.parametrize(("scheme", "name"), [("http", PLAIN_OIDC_COOKIE), ("https", OIDC_COOKIE)])
async def test_a_browser_goes_to_the_provider_with_a_secret_of_its_own(scheme: str, name: str) -> None:
    house, provider = await house_with_provider()
    line = await house.ask("GET", "/console/oidc/start", query="next=/console/keys", scheme=scheme)
    assert (line.status, line.body) == (302, b"")
    assert line.headers[b"location"] == b"https://provider.example/authorize?state=s"
    ((path, secret),) = provider.began
    assert path == "/console/keys"
    value, *attributes = cookies(line)[name].split("; ")
    assert value == secret.reveal()
    assert {"HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(attributes)
    assert ("Secure" in attributes) == (scheme == "https")


async def test_who_comes_back_gets_a_session_and_the_secret_is_gone() -> None:
    house, provider = await house_with_provider()
    cookie = {"cookie": f"{PLAIN_OIDC_COOKIE}=the-secret"}
    line = await house.ask("GET", "/console/oidc/callback", query="state=s&code=c&session_state=x", headers=cookie)
    assert (line.status, line.headers[b"location"]) == (302, b"/console/accounts")
    ((query, secret),) = provider.ended
    assert (query, secret) == ({"state": "s", "code": "c"}, Secret("the-secret"))
    set_now = cookies(line)
    assert "Max-Age=0" in set_now[PLAIN_OIDC_COOKIE]
    who = Someone(set_now[PLAIN_COOKIE].partition(";")[0])
    assert (await house.ask("GET", f"{API}/session", who)).json["principal"]["name"] == "ada"
    assert await house.audited() == [("admin:ada", "session.open", "ok")]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (OidcRefused("no_role", "none of your groups has a role"), "no_role"),
        (OidcUnavailable("discovery", "the provider is away"), "discovery"),
        (OidcRefused("x=1&y\r\nset-cookie: a", "odd"), "refused"),
    ],
)
async def test_who_is_refused_is_told_one_word_on_the_sign_in_page(fault: Exception, word: str) -> None:
    house, provider = await house_with_provider()
    provider.fault = fault
    line = await house.ask("GET", "/console/oidc/callback", query="state=s&code=c")
    assert (line.status, line.headers[b"location"].decode()) == (302, f"/console/sign-in?error={word}")
    assert "Max-Age=0" in cookies(line)[PLAIN_OIDC_COOKIE]
    assert PLAIN_COOKIE not in cookies(line)
    assert [outcome for *_, outcome in await house.audited()] == ["failed"]
    begun = await house.ask("GET", "/console/oidc/start")
    assert begun.headers[b"location"].decode() == f"/console/sign-in?error={word}"


async def test_without_a_provider_there_is_no_such_path() -> None:
    house = await House().furnish()
    for path in ("/console/oidc/start", "/console/oidc/callback", "/console/oidc"):
        assert (await house.ask("GET", path)).code == "not_found"
