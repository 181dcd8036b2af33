"""The audit log over HTTP: paged, filtered, and a tenant's own for who is bound to one."""

from __future__ import annotations

from auth.roles import Role
from gateway.admin.routes import API
from store.records import AuditRecord
from tests.gateway.admin.rig import House


async def filled() -> House:
    house = await House().furnish()
    records = [
        AuditRecord(house.clock.now_s() + n, "key:k", f"request.{n % 2}", "ok", f"ten-{1 + n % 2}", detail=(("n", n),))
        for n in range(10)
    ]
    await house.store.append_audit(records)
    return house


async def test_pages_follow_each_other_without_a_gap() -> None:
    house = await filled()
    auditor = await house.person("eyes", Role.AUDITOR)
    seen: list[int] = []
    after = 0
    while True:
        page = (await house.ask("GET", f"{API}/audit", auditor, query=f"limit=4&after_seq={after}")).json
        seen += [one["seq"] for one in page["items"]]
        if page["next_after_seq"] is None:
            break
        after = page["next_after_seq"]
    assert seen == list(range(1, 11))
    one = (await house.ask("GET", f"{API}/audit", auditor, query="action=request.1&limit=1")).json["items"][0]
    assert (one["action"], one["detail"]) == ("request.1", {"n": 1})
    whole = (await house.ask("GET", f"{API}/audit/verify", auditor)).json
    assert whole == {"records": 10, "fault": None}


async def test_who_is_bound_reads_his_tenant_whatever_he_asks() -> None:
    house = await filled()
    bound = await house.person("bound", Role.AUDITOR, "ten-1")
    for query, count in (("", 5), ("tenant=ten-1", 5), ("tenant=ten-2", 0), ("action=request.*", 5)):
        items = (await house.ask("GET", f"{API}/audit", bound, query=query)).json["items"]
        assert [one["tenant_id"] for one in items] == ["ten-1"] * count, query
