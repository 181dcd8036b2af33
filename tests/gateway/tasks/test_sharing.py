"""A link reads one task until it ends; every other token is the same 404."""

from __future__ import annotations

from typing import Any

from tests.gateway.tasks.rig import TaskHouse


async def shared(house: TaskHouse) -> tuple[dict[str, Any], str]:
    task = await house.ready()
    made = (await house.ask("POST", f"/v1/tasks/{task['id']}/share", house.one, {"expires_in_s": 60})).json
    return task, made["url"].partition("8080")[2]


async def test_it_shows_the_task_and_no_people(house: TaskHouse) -> None:
    task, path = await shared(house)
    line = await house.ask("GET", path)
    assert line.json["id"] == task["id"]
    assert {"created_by", "review", "environment_id", "version"}.isdisjoint(line.json)
    assert [one["worker"] for one in line.json["attempts"]] == [None]
    assert b"+world" in (await house.ask("GET", f"{path}/diff")).body
    assert (await house.ask("GET", f"{path}/log")).json["items"][0]["kind"] == "task.created"
    assert (await house.ask("GET", f"{path}/attempts/1/files/diff.patch")).status == 200
    assert (await house.ask("POST", path)).status == 405


async def test_unknown_tampered_expired_revoked_and_deleted_are_one_answer(house: TaskHouse) -> None:
    task, path = await shared(house)
    unknown = (await house.ask("GET", "/share/unknown")).json
    for at in range(len("/share/"), len(path)):
        tampered = f"{path[:at]}{'A' if path[at] != 'A' else 'B'}{path[at + 1 :]}"
        if tampered[:-1] == path[:-1]:
            continue  # the last letter of a signature has two bits to spare
        line = await house.ask("GET", tampered)
        assert (line.status, line.json) == (404, unknown), at
    listed = (await house.ask("GET", f"/v1/tasks/{task['id']}/share", house.one)).json["items"]
    assert path.rpartition("/")[2] not in str(listed)
    await house.ask("DELETE", f"/v1/tasks/{task['id']}/share/{listed[0]['id']}", house.one)
    assert (await house.ask("GET", path)).json == unknown
    _, path = await shared(house)
    house.clock.advance(61)
    assert (await house.ask("GET", path)).json == unknown
    task, path = await shared(house)
    await house.records.remove_task(task["id"])
    assert (await house.ask("GET", path)).json == unknown
