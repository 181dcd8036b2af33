"""Accounts on their way in: what is shown to whom, who may finish them, and what is refused."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from auth.roles import Role
from gateway.admin.routes import API
from tests.gateway.admin.rig import House

PATH = f"{API}/logins"


async def test_a_device_login_is_shown_to_who_may_finish_it() -> None:
    house = await House().furnish()
    owner, auditor = await house.person("root", Role.OWNER), await house.person("eyes", Role.AUDITOR)
    made = await house.ask("POST", PATH, owner, {"kind": "device", "label": "team", "expect": "a@example.com"})
    login = made.json
    assert made.status == 201
    assert (login["user_code"], login["state"], login["requested_by"]) == ("ABCD-1234", "pending", "admin:root")
    assert (login["pool"], login["expect"]) == ("default", "a@example.com")
    assert b"device-secret" not in made.body
    seen = (await house.ask("GET", f"{PATH}/{login['id']}", auditor)).json
    hidden = {"user_code": None, "verification_url": None, "authorize_url": None}
    assert seen == login | hidden
    assert (await house.ask("GET", PATH, auditor)).json["items"] == [seen]
    ended = (await house.ask("DELETE", f"{PATH}/{login['id']}", owner)).json
    assert (ended["state"], ended["user_code"]) == ("cancelled", None)
    again = await house.ask("DELETE", f"{PATH}/{login['id']}", owner)
    assert (again.status, again.json["state"]) == (200, "cancelled")


async def test_a_browser_login_is_finished_by_the_session_that_began_it() -> None:
    house = await House().furnish()
    owner, other = await house.person("root", Role.OWNER), await house.person("other", Role.OWNER)
    login = (await house.ask("POST", PATH, owner, {"kind": "callback"})).json
    state = parse_qs(urlsplit(login["authorize_url"]).query)["state"][0]
    url = f"http://127.0.0.1:1455/auth/callback?code=c0de&state={state}"
    path = f"{PATH}/{login['id']}/callback"
    foreign = await house.ask("POST", path, other, {"url": url})
    assert (foreign.status, foreign.code) == (403, "forbidden")
    wrong = await house.ask("POST", path, owner, {"url": url.replace(state, "x" * len(state))})
    assert (wrong.status, wrong.code, wrong.json["error"]["param"]) == (400, "invalid_request", "url")
    done = (await house.ask("POST", path, owner, {"url": url})).json
    assert (done["state"], done["failure"]) == ("done", None)
    assert done["account_id"] in {one.id for one in await house.store.accounts()}


async def test_what_cannot_begin_is_refused_by_name() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    for body, param in (
        ({"kind": "magic"}, "kind"),
        ({"kind": "device", "expect": "not an address"}, "expect"),
        ({"kind": "device", "pool": "no pool"}, "pool"),
        ({"kind": "device", "requested_by": "me"}, "requested_by"),
    ):
        line = await house.ask("POST", PATH, owner, body)
        assert (line.code, line.json["error"]["param"]) == ("invalid_request", param)
