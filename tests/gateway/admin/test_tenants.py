"""Tenants over HTTP: made, changed by compare-and-put, and removed by their name."""

from __future__ import annotations

from auth.roles import Role
from gateway.admin.routes import API
from tests.gateway.admin.rig import House


async def test_what_is_left_out_stays_and_null_clears() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    body = {"name": "team", "pools": ["b", "a", "b"], "limits": {"requests_per_minute": 5, "concurrent_streams": 2}}
    made = (await house.ask("POST", f"{API}/tenants", owner, body)).json
    assert (made["pools"], made["version"]) == (["b", "a"], 1)
    path = f"{API}/tenants/{made['id']}"
    changed = (await house.ask("PATCH", path, owner, {"enabled": False, "version": 1})).json
    assert changed == made | {"enabled": False, "version": 2}
    cleared = (await house.ask("PATCH", path, owner, {"limits": {"concurrent_streams": 3}})).json
    assert cleared["limits"] == {"requests_per_minute": None, "concurrent_streams": 3}
    stale = await house.ask("PATCH", path, owner, {"name": "x", "version": 1})
    assert (stale.status, stale.code) == (409, "conflict")
    twin = await house.ask("POST", f"{API}/tenants", owner, {"name": "team"})
    assert (twin.status, twin.code) == (409, "conflict")


async def test_a_tenant_goes_by_its_exact_name_with_its_keys() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    refused = await house.ask("DELETE", f"{API}/tenants/ten-1", owner, {"confirm": "name of ten-2"})
    assert (refused.status, refused.json["error"]["param"]) == (400, "confirm")
    gone = await house.ask("DELETE", f"{API}/tenants/ten-1", owner, {"confirm": "name of ten-1"})
    assert gone.json == {"id": "ten-1"}
    assert {key.tenant_id for key in await house.store.keys()} == {"ten-2"}


async def test_who_is_bound_sees_his_own_and_changes_none() -> None:
    house = await House().furnish()
    bound = await house.person("bound", Role.ADMIN, "ten-1")
    assert [one["id"] for one in (await house.ask("GET", f"{API}/tenants", bound)).json["items"]] == ["ten-1"]
    for target in ("ten-1", "ten-2"):
        assert (await house.ask("PATCH", f"{API}/tenants/{target}", bound, {"pools": []})).code == "forbidden"
    nowhere = await house.person("stray", Role.AUDITOR, "ten-9")
    assert (await house.ask("GET", f"{API}/tenants", nowhere)).json["items"] == []
