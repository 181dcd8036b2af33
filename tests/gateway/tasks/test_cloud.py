"""The shapes of codex cloud, as recorded from the client; the real client's own word is in tests/real."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.types import Ended
from tests.gateway.tasks.good import CLOUD_TASK
from tests.gateway.tasks.rig import TaskHouse
from tests.gateway.tasks.worker import DIFF

BASES = ("/backend-api/wham", "/api/codex")


@pytest.mark.parametrize("base", BASES)
async def test_a_task_as_a_conversation(house: TaskHouse, base: str) -> None:
    made = (await house.ask("POST", f"{base}/tasks", house.one, CLOUD_TASK)).json["task"]["id"]
    waiting = (await house.ask("GET", f"{base}/tasks/{made}", house.one)).json
    assert waiting["task_status_display"]["latest_turn_status_display"]["turn_status"] == "pending"
    assert waiting["current_diff_task_turn"] is None
    for diff in (DIFF, DIFF.replace("world", "universe")):
        await house.worker.lease()
        await house.worker.end(diff=diff)
    shown = (await house.ask("GET", f"{base}/tasks/{made}", house.one)).json
    assert shown["current_user_turn"]["input_items"][0]["content"][0]["text"] == "do it"
    assert shown["current_assistant_turn"]["sibling_turn_ids"] == ["turn_a2"]
    assert shown["current_diff_task_turn"]["output_items"] == [
        {"type": "output_diff", "diff": DIFF}, {"type": "pr", "output_diff": {"diff": DIFF}},
    ]  # fmt: skip
    turns = (await house.ask("GET", f"{base}/tasks/{made}/turns/turn_a1/sibling_turns", house.one)).json
    (other,) = turns["sibling_turns"]
    assert (other["id"], other["attempt_placement"], other["turn_status"]) == ("turn_a2", 1, "completed")
    assert "universe" in other["output_items"][0]["diff"]
    assert (await house.ask("GET", f"{base}/tasks/{made}/turns/x/sibling_turns", house.one)).status == 404
    listed = (await house.ask("GET", f"{base}/tasks/list", house.one, query="limit=20&task_filter=current&new=1")).json
    assert {"id", "title", "archived", "has_unread_turn"} <= set(listed["items"][0])
    assert listed["items"][0]["task_status_display"]["environment_label"] == "env_1"


@pytest.mark.parametrize(
    ("ended", "turn"), [(Ended.TIMED_OUT, "failed"), (Ended.CANCELLED, "cancelled"), (Ended.DONE, "completed")]
)
async def test_how_it_ended(house: TaskHouse, ended: Ended, turn: str) -> None:
    task = await house.new()
    await house.worker.lease()
    await house.worker.end(ended)
    shown = (await house.ask("GET", f"/backend-api/wham/tasks/{task['id']}", house.one)).json
    assert shown["current_assistant_turn"]["turn_status"] == turn
    assert (shown["current_assistant_turn"]["error"] is None) == (turn != "failed")


async def test_environments_by_repository(house: TaskHouse) -> None:
    base = "/backend-api/wham/environments"
    assert [one["label"] for one in (await house.ask("GET", base, house.one)).json] == ["env_1"]
    found = (await house.ask("GET", f"{base}/by-repo/github/ACME/Widgets1", house.one)).json
    assert [(one["label"], one["is_pinned"]) for one in found] == [("env_1", True)]
    assert (await house.ask("GET", f"{base}/by-repo/github/acme/widgets2", house.one)).json == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_items": []},
        {"input_items": [{"type": "message", "role": "assistant", "content": [{"text": "x"}]}]},
        {"metadata": {"best_of_n": 5}},
        {"new_task": {"environment_id": "env_1", "branch": "--upload-pack=x"}},
        {"input_items": [{"content": [{"text": "x"}]}, {"type": "pre_apply_patch", "output_diff": {"diff": "no"}}]},
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused(house: TaskHouse, wrong: dict[str, Any]) -> None:
    line = await house.ask("POST", "/backend-api/wham/tasks", house.one, CLOUD_TASK | wrong)
    assert line.status == 400, line.body
    assert house.crashes == []
