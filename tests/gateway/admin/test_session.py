"""Signing in, by password and by link: a new session each time, on record, and refused in one way."""

from __future__ import annotations

from auth.roles import Role
from auth.sessions import Sessions
from gateway.admin.access import PLAIN_COOKIE
from gateway.admin.routes import API
from store.records import Secret
from tests.fakes.line import Line
from tests.gateway.admin.good import NEW_PASSWORD
from tests.gateway.admin.rig import NOBODY, PASSWORD, House, Someone, code_of


def signed_in(line: Line) -> Someone:
    cookie = line.headers[b"set-cookie"].decode().split(";")[0].removeprefix(f"{PLAIN_COOKIE}=")
    return Someone(cookie, line.json["csrf_token"])


async def sign_in(house: House, who: Someone = NOBODY, **body: str) -> Line:
    return await house.ask("POST", f"{API}/session", who, {"name": "root", "password": PASSWORD, **body})


async def test_a_person_signs_in_is_shown_and_signs_out() -> None:
    house = await House(sandbox=True).furnish()
    await house.person("root", Role.OWNER, password=True)
    line = await sign_in(house)
    assert line.status == 200
    assert line.json["principal"] | {"id": ""} == {"id": "", "name": "root", "role": "owner", "tenant_id": None}
    assert line.json["features"] == {"sandbox": True}
    assert line.json["idle_expires_at_s"] == house.clock.now_s() + 1800
    who = signed_in(line)
    assert who.csrf == Sessions.csrf_token(Secret(who.cookie or ""))
    shown = await house.ask("GET", f"{API}/session", who)
    assert shown.json == line.json
    out = await house.ask("DELETE", f"{API}/session", who)
    assert (out.status, out.headers[b"set-cookie"].split(b";")[0]) == (204, f"{PLAIN_COOKIE}=".encode())
    assert b"Max-Age=0" in out.headers[b"set-cookie"]
    assert (await house.ask("GET", f"{API}/session", who)).code == "not_signed_in"
    assert await house.audited() == [("admin:root", "session.open", "ok"), ("admin:root", "session.close", "ok")]
    assert [one.actor for one in house.seen[:2]] == ["admin:root", "admin:root"]


async def test_a_session_that_came_along_is_ended_and_never_becomes_the_new_one() -> None:
    house = await House().furnish()
    await house.person("root", Role.OWNER, password=True)
    first = signed_in(await sign_in(house))
    second = signed_in(await sign_in(house, Someone(first.cookie)))
    assert first.cookie != second.cookie
    assert (await house.ask("GET", f"{API}/session", first)).status == 401
    assert (await house.ask("GET", f"{API}/session", second)).status == 200


async def test_who_is_not_let_in_is_told_the_same_and_recorded_without_what_was_typed() -> None:
    house = await House().furnish()
    await house.person("root", Role.OWNER, password=True)
    wrong = await sign_in(house, password="a wrong password here")
    unknown = await sign_in(house, name="hunter2-typed-as-name")
    assert (wrong.status, wrong.code) == (unknown.status, unknown.code) == (401, "wrong_credentials")
    assert wrong.json == unknown.json
    found = await house.store.search_audit()
    assert [(one.actor, one.action, one.outcome) for one in found] == [("anonymous", "session.open", "failed")] * 2
    assert found[0].detail == (("reason", "wrong_credentials"),)
    assert "hunter2" not in repr(found)
    assert b"set-cookie" not in wrong.headers


async def test_too_many_failures_make_wait_and_say_how_long() -> None:
    house = await House().furnish()
    await house.person("root", Role.OWNER, password=True)
    for _ in range(6):
        line = await sign_in(house, password="a wrong password here")
    assert (line.status, line.code) == (429, "login_throttled")
    assert 1 <= int(line.headers[b"retry-after"]) <= 60
    assert (await sign_in(house)).code == "login_throttled"


async def test_a_code_is_asked_for_where_one_is_set_up() -> None:
    house = await House().furnish()
    admin = (await house.person("root", Role.OWNER, password=True)).admin
    assert admin is not None
    secret = (await house.signin.begin_totp(admin)).secret.reveal()
    await house.signin.confirm_totp(admin, code_of(secret, house.clock))
    assert (await sign_in(house)).code == "code_required"
    house.clock.advance(60)
    line = await sign_in(house, code=code_of(secret, house.clock))
    assert (line.status, line.json["totp_enabled"]) == (200, True)


async def test_the_first_owner_comes_by_the_bootstrap_link_once() -> None:
    house = House()
    assert (await house.ask("GET", f"{API}/sign-in")).json == {
        "password": True, "oidc": False, "bootstrap_needed": True,
    }  # fmt: skip
    token = (await house.signin.bootstrap()).reveal()
    body = {"token": token, "name": "root", "password": "short"}
    refused = await house.ask("POST", f"{API}/bootstrap", NOBODY, body)
    assert (refused.code, refused.json["error"]["param"]) == ("invalid_request", "password")
    line = await house.ask("POST", f"{API}/bootstrap", NOBODY, body | {"password": NEW_PASSWORD})
    assert (line.status, line.json["principal"]["role"]) == (200, "owner")
    assert (await house.ask("GET", f"{API}/session", signed_in(line))).status == 200
    again = await house.ask("POST", f"{API}/bootstrap", NOBODY, body | {"password": NEW_PASSWORD})
    assert (again.status, again.code) == (401, "link_invalid")
    assert not (await house.ask("GET", f"{API}/sign-in")).json["bootstrap_needed"]
    assert token not in repr(await house.store.search_audit())


async def test_a_session_ends_with_its_time_its_person_and_its_role() -> None:
    house = await House().furnish()
    await house.person("first", Role.OWNER)
    for number, end in enumerate(("idle", "disabled", "role", "removed")):
        who = await house.person(f"person-{number}", Role.AUDITOR)
        assert who.admin is not None
        assert (await house.ask("GET", f"{API}/accounts", who)).status == 200
        if end == "idle":
            house.clock.advance(1801)
        elif end == "disabled":
            await house.people.change(who.admin.id, enabled=False)
        elif end == "role":
            await house.people.change(who.admin.id, role=Role.MEMBER)
        else:
            await house.people.remove(who.admin.id)
        assert (await house.ask("GET", f"{API}/accounts", who)).code == "not_signed_in", end
