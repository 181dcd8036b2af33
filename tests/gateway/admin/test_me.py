"""One's own password, codes and sessions, and nobody else's."""

from __future__ import annotations

from auth.roles import Role
from gateway.admin.access import PLAIN_COOKIE
from gateway.admin.routes import API
from tests.gateway.admin.good import NEW_PASSWORD
from tests.gateway.admin.rig import PASSWORD, House, Someone, code_of


async def test_a_new_password_ends_every_other_session_and_keeps_this_browser() -> None:
    house = await House().furnish()
    me = await house.person("root", Role.OWNER, password=True)
    assert me.admin is not None
    other = await house.opened(me.admin)
    line = await house.ask("PUT", f"{API}/me/password", me, {"old": PASSWORD, "new": NEW_PASSWORD})
    assert line.status == 204
    fresh = Someone(line.headers[b"set-cookie"].decode().split(";")[0].removeprefix(f"{PLAIN_COOKIE}="))
    assert (await house.ask("GET", f"{API}/session", fresh)).status == 200
    for old in (me, other):
        assert (await house.ask("GET", f"{API}/session", old)).status == 401
    assert await house.audited() == [("admin:root", "admin.password", "ok")]


async def test_a_password_is_changed_by_who_knows_it_and_by_the_rules() -> None:
    house = await House().furnish()
    me = await house.person("root", Role.OWNER, password=True)
    wrong = await house.ask("PUT", f"{API}/me/password", me, {"old": "not this one, no", "new": NEW_PASSWORD})
    assert (wrong.status, wrong.code) == (401, "wrong_credentials")
    short = await house.ask("PUT", f"{API}/me/password", me, {"old": PASSWORD, "new": "short"})
    assert (short.code, short.json["error"]["param"]) == ("invalid_request", "new")
    assert [outcome for *_, outcome in await house.audited()] == ["failed", "failed"]
    assert (await house.ask("GET", f"{API}/session", me)).status == 200


async def test_codes_are_set_up_confirmed_and_dropped() -> None:
    house = await House().furnish()
    me = await house.person("root", Role.OWNER, password=True)
    offer = (await house.ask("POST", f"{API}/me/totp", me)).json
    assert offer["uri"].startswith("otpauth://totp/")
    wrong = await house.ask("PUT", f"{API}/me/totp", me, {"code": "000000"})
    assert (wrong.status, wrong.json["error"]["param"]) == (400, "code")
    right = await house.ask("PUT", f"{API}/me/totp", me, {"code": code_of(offer["secret"], house.clock)})
    assert right.status == 204
    assert (await house.ask("GET", f"{API}/session", me)).json["totp_enabled"]
    assert (await house.ask("DELETE", f"{API}/me/totp", me, {"password": "not this one, no"})).status == 401
    assert (await house.ask("DELETE", f"{API}/me/totp", me, {"password": PASSWORD})).status == 204
    assert not (await house.ask("GET", f"{API}/session", me)).json["totp_enabled"]
    assert offer["secret"] not in repr(await house.store.search_audit())


async def test_sessions_are_ones_own_and_anothers_do_not_exist() -> None:
    house = await House().furnish()
    me, other = await house.person("root", Role.OWNER), await house.person("other", Role.OWNER)
    assert me.admin is not None
    second = await house.opened(me.admin)
    items = (await house.ask("GET", f"{API}/me/sessions", me)).json["items"]
    assert [one["current"] for one in items].count(True) == 1
    assert len(items) == 2
    theirs = (await house.ask("GET", f"{API}/me/sessions", other)).json["items"][0]["id"]
    assert (await house.ask("DELETE", f"{API}/me/sessions/{theirs}", me)).status == 404
    assert (await house.ask("GET", f"{API}/session", other)).status == 200
    mine = next(one["id"] for one in items if not one["current"])
    assert (await house.ask("DELETE", f"{API}/me/sessions/{mine}", me)).status == 204
    assert (await house.ask("GET", f"{API}/session", second)).status == 401
    assert me.cookie is not None
    assert me.cookie.partition(".")[2] not in repr(items), "an id opens nothing"
