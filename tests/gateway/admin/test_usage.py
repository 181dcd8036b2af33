"""Who has used how much, over HTTP."""

from __future__ import annotations

import pytest

from auth.roles import Role
from gateway.admin.routes import API
from tests.gateway.admin.rig import House


@pytest.mark.parametrize(
    ("by", "names"),
    [("account", ["acct-2", "acct-1"]), ("tenant", ["ten-1"]), ("key", ["key-1"]), ("model", ["m"])],
)
async def test_use_is_told_by_name_and_by_the_hour(by: str, names: list[str]) -> None:
    house = await House().furnish()
    auditor = await house.person("eyes", Role.AUDITOR)
    await house.used("acct-1", 2)
    await house.used("acct-2", 4)
    items = (await house.ask("GET", f"{API}/usage", auditor, query=f"by={by}")).json["items"]
    assert [one["name"] for one in items] == names
    assert sum(one["requests"] for one in items) == 6
    assert sum(one["errors"] for one in items) == 2
    assert sum(one["input_tokens"] + one["output_tokens"] for one in items) == 72
    later = f"by={by}&since_at_s={house.clock.now_s() + 7200}"
    assert (await house.ask("GET", f"{API}/usage", auditor, query=later)).json["items"] == []


async def test_only_the_four_books_are_kept() -> None:
    house = await House().furnish()
    auditor = await house.person("eyes", Role.AUDITOR)
    line = await house.ask("GET", f"{API}/usage", auditor, query="by=prompt")
    assert (line.code, line.json["error"]["param"]) == ("invalid_request", "by")
