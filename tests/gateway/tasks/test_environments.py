"""Environments: secrets stay in, limits stay below the gateway's, a change needs the version that was read."""

from __future__ import annotations

from typing import Any

import pytest

from store.records import Secret
from tests.gateway.tasks.rig import MOST, TaskHouse

BODY = {
    "label": "fresh",
    "repository": "https://git.example/acme/fresh.git",
    "setup_script": "make",
    "variables": {"A": "1"},
    "secrets": {"TOKEN": "a-long-secret-value"},
    "network": {"setup": {"domains": ["PyPI.org"]}},
    "limits": {"cpus": 1},
}


async def test_its_life(house: TaskHouse) -> None:
    line = await house.ask("POST", "/v1/environments", house.one, BODY)
    assert line.status == 201, line.body
    made = line.json
    assert (made["secrets"], made["limits"]["cpus"], made["limits"]["pids"]) == (["TOKEN"], 1.0, MOST.pids)
    assert made["network"]["setup"]["domains"] == ["pypi.org"]
    path = f"/v1/environments/{made['id']}"
    change = {"label": "renamed", "secrets": {"OTHER": "another-long-value"}, "version": made["version"]}
    changed = await house.ask("PATCH", path, house.one, change)
    assert changed.json["secrets"] == ["OTHER", "TOKEN"]
    assert changed.json["setup_script"] == "make"
    assert (await house.ask("PATCH", path, house.one, change)).code == "conflict"
    full = await house.environments.full("ten-1", made["id"])
    assert dict(full.secrets)["TOKEN"] == Secret("a-long-secret-value")
    dropped = await house.ask("PATCH", path, house.one, {"secrets": {"TOKEN": None}, "repository": None})
    assert (dropped.json["secrets"], dropped.json["repository"]) == (["OTHER"], None)
    shown = await house.ask("GET", path, house.one)
    assert b"long" not in line.body + changed.body + shown.body
    assert (await house.ask("DELETE", path, house.one)).status == 204
    assert (await house.ask("GET", path, house.one)).status == 404


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"limits": {"cpus": 1000}}, "limits.cpus"),
        ({"limits": {"memory_mib": MOST.memory_mib + 1}}, "limits.memory_mib"),
        ({"limits": {"wall_s": None, "forever": True}}, "limits.forever"),
        ({"repository": "ssh://git@inside/a/b"}, "repository"),
        ({"repository": "https://inside.example/a/b"}, "repository"),
        ({"variables": {"a b": "1"}}, ""),
        ({"label": "env_1"}, "label"),
        ({"image": "evil/image"}, "image"),
        ({"tenant_id": "ten-2"}, "tenant_id"),
        ({"network": {"agent": {"domains": ["*"]}}}, "network.agent.domains"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(house: TaskHouse, wrong: dict[str, Any], param: str) -> None:
    line = await house.ask("POST", "/v1/environments", house.one, BODY | wrong)
    assert line.status == 400, line.body
    assert (line.json["error"]["param"] or "").startswith(param), line.body
    assert house.crashes == []
