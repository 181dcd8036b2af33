"""Single sign-on: who gets in as what, from which browser, and where he lands."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.admins import Admin, AdminDirectory, Subject
from auth.errors import OidcRefused, OidcUnavailable
from auth.oidc import (
    FLOW_S,
    HOME,
    STATE_KIND,
    OidcPolicy,
    OidcSignIn,
    highest_role,
    new_browser_secret,
    safe_next,
)
from auth.roles import Role
from auth.sessions import Sessions
from store.base import Store
from store.memory import MemoryStore
from store.records import Secret
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock
from tests.fakes.openid import CLIENT, ISSUER, STRANGER, OpenId, sign

ROLES = {"staff": Role.MEMBER, "ops": Role.ADMIN, "chiefs": Role.OWNER, "audit": Role.AUDITOR}


class Door:
    """One browser in front of one gateway."""

    def __init__(self, store: Store, clock: FakeClock, provider: OpenId | None = None) -> None:
        self.store = store
        self.fake = provider or OpenId(clock)
        self.admins = AdminDirectory(store, clock)
        policy = OidcPolicy(ISSUER, CLIENT, "https://relay.example/console/oidc/callback", roles=ROLES)
        self.oidc = OidcSignIn(policy, self.fake.client(), store, self.admins, clock)
        self.secret = new_browser_secret()

    async def begin(self, next_path: str = "/console/accounts") -> dict[str, str]:
        return self.fake.authorize(await self.oidc.start(next_path, self.secret))

    async def enter(self, groups: object = ("ops",)) -> Admin:
        self.fake.groups = list(groups) if isinstance(groups, tuple) else groups
        return (await self.oidc.finish(await self.begin(), self.secret))[0]

    async def refused(self, query: dict[str, str], secret: Secret | None = None) -> str:
        with pytest.raises(OidcRefused) as refused:
            await self.oidc.finish(query, self.secret if secret is None else secret)
        assert "code-" not in str(refused.value)
        return refused.value.code


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def door(clock: FakeClock) -> Door:
    return Door(MemoryStore(clock), clock)


async def test_the_request_asks_for_a_code_with_pkce(door: Door) -> None:
    url = await door.oidc.start("/console/", door.secret)
    assert url.startswith(f"{ISSUER}/auth?")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["response_type"] == "code"
    assert query["redirect_uri"] == "https://relay.example/console/oidc/callback"
    assert query["scope"] == "openid email profile"
    assert query["code_challenge_method"] == "S256"
    assert len(base64.urlsafe_b64decode(query["code_challenge"] + "=")) == hashlib.sha256().digest_size
    assert len({query["state"], query["nonce"], query["code_challenge"]}) == 3
    assert door.secret.reveal() not in url
    assert await door.oidc.start("/console/", door.secret) != url
    assert await door.store.documents(STATE_KIND) == ()  # beginning fills nothing
    with pytest.raises(ValueError, match="too short"):
        await door.oidc.start("/console/", Secret("guess"))


async def test_a_provider_with_a_query_in_its_address_keeps_it(door: Door) -> None:
    door.fake.discovery = {"authorization_endpoint": f"{ISSUER}/auth?tenant=1"}
    assert (await door.oidc.start("/console/", door.secret)).startswith(f"{ISSUER}/auth?tenant=1&response_type=code")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_person_comes_in_and_is_the_same_the_next_time(kind: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(kind, clock, tmp_path) as (one, two):
        here, there = Door(one, clock), Door(two, clock)
        query = await here.begin("/console/keys?tenant=a")
        here.fake.groups = ["ops", "unheard of"]
        admin, target = await here.oidc.finish(query, here.secret)
        assert (admin.name, admin.role, admin.sso, target) == ("ann", Role.ADMIN, True, "/console/keys?tenant=a")
        clock.advance(60)
        again = await there.enter(("chiefs",))
        assert (again.id, again.role, again.last_login_at_s) == (admin.id, Role.OWNER, clock.now_s())
        assert len(await here.admins.all()) == 1


async def test_neither_name_nor_mail_leads_to_anothers_account(door: Door) -> None:
    local = await door.admins.create("ann", Role.OWNER)
    door.fake.claims = {"email": "ann"}
    first = await door.enter(("staff",))
    assert first.id != local.id
    door.fake.sub = "user-2"
    second = await door.enter(("staff",))
    assert len({local.id, first.id, second.id}) == 3
    assert len({local.name, first.name, second.name}) == 3


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["staff"], Role.MEMBER),
        (["audit", "ops", "staff"], Role.ADMIN),
        ("chiefs", Role.OWNER),
        (["Ops"], None),
        ([], None),
        (None, None),
        ({"ops": True}, None),
        ([["ops"], 7, None], None),
        ("ops staff", None),
        (True, None),
    ],
)
def test_the_highest_role_of_the_groups(groups: object, role: Role | None) -> None:
    assert highest_role(groups, ROLES) is role


async def test_groups_may_stand_in_userinfo(door: Door) -> None:
    door.fake.userinfo = {"groups": ["ops"], "iss": "ignored"}
    assert (await door.enter(None)).role is Role.ADMIN
    assert (await door.enter(("staff",))).role is Role.MEMBER  # the signed token comes first


async def test_without_groups_the_role_and_the_sessions_are_gone(door: Door, clock: FakeClock) -> None:
    await door.admins.create("boss", Role.OWNER)
    sessions = Sessions(door.store, door.admins, clock, 1800, 43_200)
    ann = await door.enter(("chiefs",))
    cookie, _ = await sessions.open(ann, address="", user_agent="")
    assert await door.refused(await with_groups(door, [])) == "no_role"
    assert await sessions.find(cookie) is None
    stripped = await door.admins.get(ann.id)
    assert stripped is not None
    assert stripped.role is Role.MEMBER
    assert await door.refused(await with_groups(door, None)) == "no_role"
    assert (await door.enter(("ops",))).role is Role.ADMIN


async def with_groups(door: Door, groups: object) -> dict[str, str]:
    door.fake.groups = groups
    return await door.begin()


async def test_a_stranger_without_groups_leaves_no_account(door: Door) -> None:
    assert await door.refused(await with_groups(door, ["nobody"])) == "no_role"
    assert await door.admins.all() == ()


async def test_the_last_owner_keeps_the_role_and_still_does_not_get_in(door: Door, clock: FakeClock) -> None:
    sessions = Sessions(door.store, door.admins, clock, 1800, 43_200)
    ann = await door.enter(("chiefs",))
    cookie, _ = await sessions.open(ann, address="", user_agent="")
    assert await door.refused(await with_groups(door, ["ops"])) == "last_owner"
    assert await door.refused(await with_groups(door, [])) == "no_role"
    assert await sessions.find(cookie) is None
    assert await door.admins.has_owner()


async def test_a_disabled_person_stays_out(door: Door) -> None:
    ann = await door.enter(("ops",))
    await door.admins.change(ann.id, enabled=False)
    assert await door.refused(await with_groups(door, ["ops"])) == "disabled"
    assert await door.admins.by_subject(Subject(ISSUER, "user-1")) is not None


# the answer belongs to the browser that asked


async def test_an_answer_is_taken_once_even_by_many_at_once(door: Door) -> None:
    query = await door.begin()
    done = await asyncio.gather(*(door.oidc.finish(query, door.secret) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, tuple) for one in done) == 1
    assert {one.code for one in done if isinstance(one, OidcRefused)} == {"state_used"}


async def test_an_answer_of_another_browser_too_late_or_altered_is_refused(door: Door, clock: FakeClock) -> None:
    query = await door.begin()
    state = query["state"]
    payload, _, signature = state.partition(".")
    assert await door.refused(query, new_browser_secret()) == "state_mismatch"
    assert await door.refused(query, Secret("")) == "state_mismatch"
    with pytest.raises(OidcRefused):
        await door.oidc.finish(query, None)
    for forged in (
        "", ".", payload, f"{payload}.", f"{payload}.{signature[:-1]}", f"x{state}", f"{state}x", "ä.ä", "a" * 5000,
        f"{base64.urlsafe_b64encode(b'{}').decode()}.{signature}",
    ):  # fmt: skip
        assert await door.refused({**query, "state": forged}) == "state_mismatch"
    assert await door.refused({"code": "x"}) == "state_mismatch"
    clock.advance(FLOW_S)
    assert await door.refused(query) == "state_mismatch"
    assert not door.fake.asked_for("/token")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"iss": "https://evil.example"}, "wrong_issuer"),
        ({"iss": None}, "wrong_issuer"),
        ({"error": "access_denied", "error_description": "code-0"}, "provider_refused"),
        ({"error": "<script>"}, "provider_refused"),
        ({"code": ""}, "no_code"),
        ({"code": None}, "no_code"),
        ({"code": "a b"}, "no_code"),
        ({"code": "x" * 5000}, "no_code"),
        ({"code": "another"}, "code_refused"),
    ],
    ids=str,
)
async def test_a_forged_answer_is_refused_by_name(door: Door, answer: dict[str, str | None], code: str) -> None:
    query = {name: value for name, value in {**await door.begin(), **answer}.items() if value is not None}
    assert await door.refused(query) == code
    assert await door.admins.all() == ()


async def test_a_stolen_code_is_worth_nothing_in_another_browser(door: Door, clock: FakeClock) -> None:
    stolen = await door.begin()
    thief = Door(door.store, clock, door.fake)
    own = await thief.begin()
    assert await thief.refused({**own, "code": stolen["code"]}) == "code_refused"  # the verifier is another
    assert await door.admins.all() == ()


async def test_a_token_of_another_sign_in_is_refused(door: Door) -> None:
    door.fake.claims = {"nonce": "of another"}
    assert await door.refused(await door.begin()) == "token_refused"
    door.fake.claims = {}
    door.fake.forge = lambda claims: sign(claims, STRANGER)
    assert await door.refused(await door.begin()) == "token_refused"
    assert await door.admins.all() == ()


async def test_a_provider_that_is_away_is_told_apart(door: Door) -> None:
    query = await door.begin()
    door.fake.answers["/token"] = lambda _: httpx.Response(503)
    with pytest.raises(OidcUnavailable, match="503"):
        await door.oidc.finish(query, door.secret)


# where to go afterwards


@pytest.mark.parametrize(
    "path",
    ["/console", "/console/", "/console/accounts", "/console/keys?tenant=a%20b&x=//y", "/console#/accounts", HOME],
)
def test_a_path_of_the_console_is_kept(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "//evil", "/\\evil", "\\\\evil", "https:evil", "https://evil.example", "http:/console/", "%2f%2fevil",
        "javascript:alert(1)",
        "data:text/html,x", "", "/", "/evil", "/consolevil", "console/", "//console/", "/console//evil",
        "/console/..//evil", "/console/../../evil", "/console/%2e%2e/x", "/console/%2F%2Fevil", "/console/%5cevil",
        "/console/\\evil", "/console/\n", "/console/%0d%0aset-cookie:x", "/console/\t", " /console/", "/console/ x",
        "/CONSOLE/", "/console/ä", "/console/<b>", "/console/" + "x" * 600, "/console/\x00", "/console/;@evil\"",
        "/console/./x", "/console/.git",
    ],
)  # fmt: skip
def test_anything_else_leads_home(path: str) -> None:
    assert safe_next(path) == HOME


@given(st.text(max_size=60).map(lambda text: f"/console/{text}") | st.text(max_size=60))
def test_whatever_comes_the_browser_stays_here(path: str) -> None:
    kept = safe_next(path)
    parts = urlsplit(kept)
    assert (parts.scheme, parts.netloc) == ("", "")
    assert kept.startswith("/console")
    assert kept.isascii()
    assert kept.isprintable()
    assert "\\" not in kept


async def test_a_foreign_target_leads_home_after_the_sign_in(door: Door) -> None:
    door.fake.groups = ["ops"]
    assert (await door.oidc.finish(await door.begin("//evil.example"), door.secret))[1] == HOME
