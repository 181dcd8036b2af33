"""One tenant's environments, or all: what an administrator sees and a tenant never does."""

from __future__ import annotations

from tests.gateway.tasks.rig import TaskHouse


async def test_a_tenant_finds_its_own_and_nobodys_question_is_for_all(house: TaskHouse) -> None:
    assert [one.spec.label for one in await house.desk.find("ten-1")] == ["env_1"]
    assert [one.spec.label for one in await house.desk.find(None)] == ["env_1", "env_2"]
    assert await house.desk.find("") == ()
    assert await house.desk.get("ten-2", house.places["env_1"]) is None
    found = await house.desk.get(None, house.places["env_2"])
    assert found is not None
    assert found.spec.tenant_id == "ten-2"
