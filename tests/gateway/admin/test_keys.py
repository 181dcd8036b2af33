"""Keys over HTTP: shown once, never more than their maker has, and never another tenant's."""

from __future__ import annotations

import itertools

import pytest

from auth.keys import SCOPES
from auth.roles import Role
from gateway.admin.routes import API
from tests.gateway.admin.rig import House

EVERY = [set(some) for n in range(1, 5) for some in itertools.combinations(sorted(SCOPES), n)]


async def test_a_key_is_shown_once_and_works() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    body = {"tenant": "name of ten-1", "name": "ci", "models": ["m"], "limits": {"requests_per_minute": 5}}
    made = (await house.ask("POST", f"{API}/keys", owner, body)).json
    await house.reload()
    caller = house.directory.authenticate(f"Bearer {made['key']}".encode(), house.clock.now_s())
    assert (caller.key_id, caller.tenant_id, caller.models) == (made["record"]["id"], "ten-1", ("m",))
    assert made["record"]["scopes"] == ["relay"]
    listed = await house.ask("GET", f"{API}/keys", owner, query="tenant=ten-1")
    assert made["key"].encode() not in listed.body
    assert {one["tenant_id"] for one in listed.json["items"]} == {"ten-1"}
    assert made["key"] not in repr(await house.store.search_audit())


async def test_a_key_is_revoked_for_good_and_again_is_no_error() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    key_id = (house.keys["ten-1"].key or "").split("-")[2]
    first = await house.ask("DELETE", f"{API}/keys/{key_id}", owner)
    assert first.json["revoked_at_s"] == house.clock.now_s()
    assert (await house.ask("DELETE", f"{API}/keys/{key_id}", owner)).json == first.json
    assert len(await house.audited("key.revoke")) == 1


@pytest.mark.parametrize("own", [one for one in EVERY if "admin" in one], ids=sorted)
async def test_a_key_gives_no_scope_that_it_lacks_and_never_admin(own: set[str]) -> None:
    house = await House().furnish()
    acting = await house.key("ten-1", own)
    for wanted in EVERY:
        line = await house.ask("POST", f"{API}/keys", acting, {"tenant": "ten-1", "scopes": sorted(wanted)})
        assert line.status == (201 if wanted <= own - {"admin"} else 403), wanted


async def test_a_key_gives_no_model_that_it_lacks() -> None:
    house = await House().furnish()
    acting = await house.key("ten-1", {"admin", "relay"}, models=("m", "n"))
    for models, status in ((["m"], 201), (["n", "m"], 201), ([], 403), (["x"], 403), (["m", "x"], 403)):
        line = await house.ask("POST", f"{API}/keys", acting, {"tenant": "ten-1", "models": models})
        assert line.status == status, models


async def test_who_is_bound_to_a_tenant_meets_no_other() -> None:
    house = await House().furnish()
    bound = await house.person("bound", Role.ADMIN, "ten-1")
    theirs = (house.keys["ten-2"].key or "").split("-")[2]
    assert {one["tenant_id"] for one in (await house.ask("GET", f"{API}/keys", bound)).json["items"]} == {"ten-1"}
    for method, path, body, query in (
        ("GET", "keys", None, "tenant=ten-2"),
        ("GET", "keys", None, "tenant=name%20of%20ten-2"),
        ("POST", "keys", {"tenant": "ten-2"}, ""),
        ("DELETE", f"keys/{theirs}", None, ""),
    ):
        line = await house.ask(method, f"{API}/{path}", bound, body, query=query)
        assert (line.status, line.code) == (404, "not_found")
    raised = await house.ask("POST", f"{API}/keys", bound, {"tenant": "ten-1", "scopes": ["admin"]})
    assert (raised.status, raised.json["error"]["param"]) == (403, "scopes"), "a key with admin is bound to none"
