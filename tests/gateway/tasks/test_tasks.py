"""Asking for work and saying what shall become of it; what is refused, and by which name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.service import TaskRules
from tests.gateway.tasks.rig import TaskHouse
from tests.gateway.tasks.worker import DIFF

GOOD = {"environment": "env_1", "prompt": "fix the bug"}


async def test_a_whole_life(house: TaskHouse) -> None:
    task = await house.new(attempts=2, effort="high", artifacts=["dist/out.bin"], starting_diff=DIFF)
    assert (task["state"], task["model"], task["review"], len(task["attempts"])) == ("queued", "gpt-5.5", None, 2)
    path = f"/v1/tasks/{task['id']}"
    assert (await house.ask("POST", f"{path}/approve", house.one, {})).code == "conflict"
    for _ in range(2):
        await house.worker.lease()
        await house.worker.end()
    shown = (await house.ask("GET", path, house.one)).json
    assert shown["state"] == "ready"
    assert sorted(one["rank"] for one in shown["attempts"]) == [1, 2]
    assert {(one["attempt"], one["name"], one["size_bytes"]) for one in shown["files"]} == {
        (1, "diff.patch", len(DIFF)), (2, "diff.patch", len(DIFF)),
    }  # fmt: skip
    await house.ask("POST", f"{path}/claim", house.one)
    approved = (await house.ask("POST", f"{path}/approve", house.one, {"attempt": 2})).json
    assert (approved["state"], approved["chosen"]) == ("approved", 2)
    assert (await house.ask("POST", f"{path}/applied", house.one)).json["state"] == "applied"
    assert (await house.ask("POST", f"{path}/cancel", house.one)).code == "conflict"
    assert (await house.ask("POST", f"{path}/archive", house.one, {})).json["archived"] is True
    assert (await house.ask("GET", "/v1/tasks", house.one)).json["items"] == []
    assert len((await house.ask("GET", "/v1/tasks", house.one, query="archived=yes")).json["items"]) == 1


async def test_the_same_idempotency_key_makes_one_task_per_tenant(house: TaskHouse) -> None:
    headers = {"idempotency-key": "abc"}
    first = (await house.ask("POST", "/v1/tasks", house.one, GOOD, headers=headers)).json["id"]
    again = (await house.ask("POST", "/v1/tasks", house.one, GOOD, headers=headers)).json["id"]
    other = await house.ask("POST", "/v1/tasks", house.two, GOOD | {"environment": "env_2"}, headers=headers)
    assert first == again
    assert other.json["id"] != first
    bad = await house.ask("POST", "/v1/tasks", house.one, GOOD, headers={"idempotency-key": "a b"})
    assert (bad.status, bad.json["error"]["param"]) == (400, "Idempotency-Key")


async def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    house = await TaskHouse(tmp_path, TaskRules(queue_max=1)).open()
    await house.new()
    line = await house.ask("POST", "/v1/tasks", house.one, GOOD)
    assert (line.status, line.code) == (429, "queue_full")
    assert int(line.headers[b"retry-after"]) > 0
    assert (await house.ask("POST", "/v1/tasks", house.two, GOOD | {"environment": "env_2"})).status == 201


@pytest.mark.parametrize(
    ("wrong", "status", "param"),
    [
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": " \n"}, 400, "prompt"),
        ({"attempts": 5}, 400, "attempts"),
        ({"attempts": 0}, 400, "attempts"),
        ({"tenant_id": "ten-2"}, 400, "tenant_id"),
        ({"created_by": "root"}, 400, "created_by"),
        ({"environment": "env_2"}, 404, "environment"),
        ({"environment": "../env_1"}, 404, "environment"),
        ({"source": {}}, 400, "source"),
        ({"source": {"upload": "up_1", "git": {"url": "https://git.example/a/b"}}}, 400, "source"),
        ({"source": {"upload": "../../ten-2/uploads/x"}}, 400, "source.upload"),
        ({"source": {"upload": f"up_{'0' * 32}"}}, 400, "source"),
        ({"source": {"git": {"url": "file:///etc/passwd"}}}, 400, "source.git.url"),
        ({"source": {"git": {"url": "https://inside.example/a/b"}}}, 400, "source.git.url"),
        ({"source": {"git": {"url": "https://git.example/a/b", "ref": "--upload-pack=x"}}}, 400, "source.git.ref"),
        ({"source": {"git": {"url": "https://git.example/a/b", "token": "a b"}}}, 400, "source.git.token"),
        ({"starting_diff": "rm -rf /"}, 400, "starting_diff"),
        ({"artifacts": ["/etc/passwd"]}, 400, "artifacts"),
        ({"artifacts": ["a/../../b"]}, 400, "artifacts"),
        ({"effort": "more"}, 400, "effort"),
        ({"budget_tokens": 1}, 400, "budget_tokens"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_named(house: TaskHouse, wrong: dict[str, Any], status: int, param: str) -> None:
    line = await house.ask("POST", "/v1/tasks", house.one, GOOD | wrong)
    assert line.status == status, line.body
    assert line.json["error"]["param"].startswith(param)
    assert house.crashes == []
    assert (await house.ask("GET", "/v1/tasks", house.one)).json["items"] == []


async def test_a_token_goes_in_and_never_out(house: TaskHouse) -> None:
    source = {"git": {"url": "https://git.example/a/b", "token": "ghp_very-secret"}}
    task = await house.new(source=source)
    shown = await house.ask("GET", f"/v1/tasks/{task['id']}", house.one)
    log = await house.ask("GET", f"/v1/tasks/{task['id']}/log", house.one)
    assert b"ghp_very" not in shown.body + log.body
    assert "ghp_very" not in str(await house.store.search_audit())


async def test_pages_and_filters(house: TaskHouse) -> None:
    made = []
    for _ in range(5):
        made.append((await house.new())["id"])
        house.clock.advance(1)
    await house.ask("POST", f"/v1/tasks/{made[0]}/cancel", house.one)
    page = (await house.ask("GET", "/v1/tasks", house.one, query="limit=3&environment=env_1")).json
    assert [one["id"] for one in page["items"]] == made[:1:-1]
    rest = (await house.ask("GET", "/v1/tasks", house.one, query=f"limit=3&before={page['next_before']}")).json
    assert ([one["id"] for one in rest["items"]], rest["next_before"]) == (made[1::-1], None)
    gone = (await house.ask("GET", "/v1/tasks", house.one, query="state=cancelled")).json
    assert [one["id"] for one in gone["items"]] == made[:1]


async def test_going_on_and_trying_again(house: TaskHouse) -> None:
    task = await house.ready()
    path = f"/v1/tasks/{task['id']}"
    more = (await house.ask("POST", f"{path}/follow-up", house.one, {"prompt": "and tests"})).json
    assert (more["state"], len(more["attempts"])) == ("queued", 2)
    assert (await house.ask("POST", f"{path}/retry", house.one)).code == "conflict"
    await house.worker.lease()
    await house.worker.end()
    rejected = (await house.ask("POST", f"{path}/reject", house.one, {"reason": "<b>no</b>"})).json
    assert (rejected["state"], rejected["review"]["reason"]) == ("rejected", "<b>no</b>")
    assert len((await house.ask("POST", f"{path}/retry", house.one)).json["attempts"]) == 3
