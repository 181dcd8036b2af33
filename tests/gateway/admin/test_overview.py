"""The gateway at a glance, and when its pools run dry."""

from __future__ import annotations

from auth.roles import Role
from gateway.admin.routes import API
from store.records import WindowRecord
from tests.gateway.admin.rig import House


async def test_accounts_are_counted_by_state_and_pool() -> None:
    house = await House().furnish()
    auditor, owner = await house.person("eyes", Role.AUDITOR), await house.person("root", Role.OWNER)
    await house.ask("PATCH", f"{API}/accounts/acct-2", owner, {"enabled": False, "pool": "green"})
    shown = (await house.ask("GET", f"{API}/overview", auditor)).json
    assert shown["accounts"] == {"total": 2, "by_state": {"ready": 1, "disabled": 1}}
    assert [(one["name"], one["accounts"], one["usable"]) for one in shown["pools"]] == [
        ("blue", 1, 1), ("green", 1, 0),
    ]  # fmt: skip
    assert (shown["version"], shown["workers"]) == ("1.2.3", 2)
    assert (shown["requests_1h"], shown["tokens_1h"]) == (0, 0)
    await house.used("acct-1", 5)
    shown = (await house.ask("GET", f"{API}/overview", auditor)).json
    assert (shown["requests_1h"], shown["tokens_1h"]) == (5, 60)


async def test_a_pool_that_burns_is_foretold_and_a_disabled_account_brings_nothing() -> None:
    house = await House().furnish()
    owner = await house.person("root", Role.OWNER)
    now_s = house.clock.now_s()
    for name in ("acct-1", "acct-2"):
        # half of the window gone and 90 % used: dry after another tenth at this rate
        window = WindowRecord(name, "primary", 90.0, 300, now_s + 9000, now_s)
        await house.store.publish([], [window])
    (pool,) = (await house.ask("GET", f"{API}/forecast", owner)).json["pools"]
    assert pool | {"dry_at_s": 0} == {"name": "blue", "dry_at_s": 0, "confidence": "high", "usable": 2, "total": 2}
    assert now_s < pool["dry_at_s"] < now_s + 9000
    overview = (await house.ask("GET", f"{API}/overview", owner)).json
    assert overview["pools"][0]["dry_at_s"] == pool["dry_at_s"]
    for name in ("acct-1", "acct-2"):
        await house.ask("PATCH", f"{API}/accounts/{name}", owner, {"enabled": False})
    (pool,) = (await house.ask("GET", f"{API}/forecast", owner)).json["pools"]
    assert pool == {"name": "blue", "dry_at_s": None, "confidence": "low", "usable": 0, "total": 2}
