"""The live log: resume without a gap, heartbeat, its end, and the end of who may read it. Time is a fake."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from auth.roles import Role
from gateway.tasks.log import AGAIN_S, HEARTBEAT_S
from sandbox.types import RunEvent
from tests.fakes.line import Line
from tests.gateway.admin.rig import Someone
from tests.gateway.tasks.rig import TaskHouse

LIVE = {"accept": "text/event-stream"}


async def listen(
    house: TaskHouse, task_id: str, who: Someone | None = None, last: int | None = None
) -> asyncio.Task[Line]:
    asking = house.ask(
        "GET",
        f"/v1/tasks/{task_id}/log",
        who or house.one,
        headers=LIVE | ({} if last is None else {"last-event-id": str(last)}),
    )
    listening = asyncio.get_running_loop().create_task(asking)
    await settle()
    return listening


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def later(house: TaskHouse, seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        house.clock.advance(0.5)
        await settle()


def numbers(body: bytes) -> list[int]:
    return [int(line[4:]) for line in body.split(b"\n") if line.startswith(b"id: ")]


async def test_it_tells_what_happens_and_ends_with_the_task(house: TaskHouse) -> None:
    task = await house.new()
    listening = await listen(house, task["id"])
    await house.worker.lease()
    await house.service.note(task["id"], 1, [RunEvent(1, 0.0, "codex", "codex.says", {"text": "</script>\n\nid: 9"})])
    await later(house, 1)
    assert not listening.done()
    await house.worker.end()
    await later(house, 3)
    line = await listening
    assert line.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    events = [json.loads(one[6:]) for one in line.body.split(b"\n") if one.startswith(b"data: ")]
    assert [one["kind"] for one in events[:-1]] == ["task.created", "task.running", "codex.says", "task.ready"]
    assert events[2]["data"] == {"text": "</script>\n\nid: 9"}, "what a container says forges no event"
    assert line.body.endswith(b'event: end\ndata: {"state":"ready"}\n\n')
    assert numbers(line.body) == sorted(set(numbers(line.body)))
    for seen in range(len(events) - 1):
        resumed = await listen(house, task["id"], last=numbers(line.body)[seen])
        await later(house, 2)
        assert numbers((await resumed).body) == numbers(line.body)[seen + 1 :]


async def test_silence_is_broken_and_a_shutdown_ends_it(house: TaskHouse) -> None:
    task = await house.new()
    listening = await listen(house, task["id"])
    await later(house, HEARTBEAT_S + 1)
    house.drains = True
    await later(house, 1)
    line = await listening
    assert b"\n\n: still here\n\n" in line.body
    assert b"event: end" not in line.body, "the client comes back"


async def test_a_revoked_key_and_a_disabled_person_hear_no_more(house: TaskHouse) -> None:
    task = await house.new()
    person = await house.person("ann", Role.MEMBER, "ten-1")
    by_key, by_cookie = await listen(house, task["id"]), await listen(house, task["id"], person)
    for record in await house.store.keys():
        await house.store.put_key(replace(record, revoked_at_s=house.clock.now_s()), record.version)
    await house.reload()
    assert person.admin is not None
    admin = await house.people.get(person.admin.id)
    assert admin is not None
    await house.people.change(admin.id, enabled=False)
    await later(house, AGAIN_S + 1)
    assert by_key.done()
    assert by_cookie.done()


async def test_a_page_at_a_time_and_what_is_no_cursor(house: TaskHouse) -> None:
    task = await house.new()
    await house.service.note(task["id"], 1, [RunEvent(n, 0.0, "codex", "codex.says", {"n": n}) for n in range(25)])
    seen, after = [], 0
    while True:
        path = f"/v1/tasks/{task['id']}/log"
        page = (await house.ask("GET", path, house.one, query=f"after={after}&limit=10")).json
        if not page["items"]:
            break
        seen += [one["number"] for one in page["items"]]
        after = page["next_after"]
    assert len(seen) == 26
    assert seen == sorted(set(seen))
    bad = await house.ask("GET", path, house.one, headers=LIVE | {"last-event-id": "x"})
    assert (bad.status, bad.json["error"]["param"]) == (400, "Last-Event-ID")
