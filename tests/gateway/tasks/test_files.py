"""Files come as attachments, by their own names, however hostile these are."""

from __future__ import annotations

import pytest

from gateway.tasks.files import disposition
from sandbox.types import Ended
from tests.gateway.tasks.rig import TaskHouse
from tests.gateway.tasks.worker import DIFF

HOSTILE = (
    'artifacts/a"; filename=evil.html', "artifacts/<svg onload=alert(1)>.svg", "artifacts/x\r\nset-cookie: a=b",
    "artifacts/../../etc/passwd", "artifacts/\u202egnp.exe", "artifacts/" + "\u00e9" * 300, "artifacts/.htaccess",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=repr)
async def test_a_hostile_name_is_a_name(house: TaskHouse, name: str) -> None:
    task = await house.new()
    await house.worker.lease()
    await house.worker.end(files={name: b"<script>alert(1)</script>"})
    line = await house.ask("GET", f"/v1/tasks/{task['id']}/attempts/1/files/{name}", house.one)
    assert (line.status, line.body) == (200, b"<script>alert(1)</script>")
    assert line.headers[b"content-type"] == b"application/octet-stream"
    assert line.headers[b"x-content-type-options"] == b"nosniff"
    assert b"sandbox" in line.headers[b"content-security-policy"]
    assert [key for key, _ in line.messages[0]["headers"]].count(b"content-security-policy") == 1
    told = line.headers[b"content-disposition"]
    assert told.startswith(b'attachment; filename="')
    assert told.count(b'"') == 2
    assert not set(told) & set(b"\r\n<>")


@pytest.mark.parametrize("path", ["1/files/no", "2/files/diff.patch", "01/files/diff.patch", "x/files/diff.patch",
                                  "1/files/../1/files/diff.patch", "1/files//diff.patch"])  # fmt: skip
async def test_what_is_not_in_the_list_is_not_there(house: TaskHouse, path: str) -> None:
    task = await house.ready()
    line = await house.ask("GET", f"/v1/tasks/{task['id']}/attempts/{path}", house.one)
    assert (line.status, line.code) == (404, "not_found")


async def test_the_diff_is_the_best_ones_or_the_named_ones_or_as_far_as_it_got(house: TaskHouse) -> None:
    task = await house.new(attempts=2)
    path = f"/v1/tasks/{task['id']}/diff"
    assert (await house.ask("GET", path, house.one)).status == 404
    await house.worker.lease()
    await house.worker.end(Ended.TIMED_OUT, diff="far")
    assert (await house.ask("GET", path, house.one)).body == b"far"
    await house.worker.lease()
    await house.worker.end()
    best = await house.ask("GET", path, house.one)
    assert best.body == DIFF.encode()
    assert b"content-length" not in best.headers, "its end is the stream's end: what is cut short is seen to be"
    assert (await house.ask("GET", path, house.one, query="attempt=1")).body == b"far"
    assert (await house.ask("HEAD", path, house.one)).body == b""


def test_a_name_of_nothing_is_still_a_file() -> None:
    assert disposition("...").startswith(b'attachment; filename="file"')
