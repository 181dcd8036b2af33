"""A task in the words of ``codex cloud``, as recorded from the client: turns, placements, output items. Pure.

The status that the CLI shows comes from ``turn_status`` (completed: ready; failed, cancelled: error; in_progress,
pending: pending), and where there is none from ``state``; so a task that was applied has no ``turn_status``.
``codex cloud diff`` reads an item of type ``output_diff``, ``codex apply`` one of type ``pr``: both are there.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.tasks.files import attempt_of
from gateway.tasks.views import ended_of
from sandbox.service import Attempt, Task
from sandbox.types import Ended
from store.task_records import AttemptState, TaskState

_STATES: Final = {
    TaskState.READY: "ready",
    TaskState.APPROVED: "ready",
    TaskState.APPLIED: "applied",
    TaskState.REJECTED: "error",
    TaskState.FAILED: "error",
    TaskState.CANCELLED: "error",
}
_TURNS: Final = {
    TaskState.CREATED: "pending",
    TaskState.QUEUED: "pending",
    TaskState.SETTING_UP: "in_progress",
    TaskState.RUNNING: "in_progress",
    TaskState.READY: "completed",
    TaskState.APPROVED: "completed",
    TaskState.REJECTED: "failed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "cancelled",
}
USER_TURN: Final = "turn_u1"


def turn_id(attempt: Attempt) -> str:
    """The assistant's turn that an attempt is; unique within its task."""
    return f"turn_a{attempt.record.number}"


def current_of(task: Task) -> Attempt | None:
    """The attempt that stands for the task: the best one, else the first."""
    return attempt_of(task, None) or (task.attempts[0] if task.attempts else None)


def status_of(task: Task, label: str | None) -> dict[str, Any]:
    """``task_status_display``."""
    state, current = task.record.state, current_of(task)
    latest: dict[str, Any] = {}
    if current is not None:
        result = current.body.result
        latest = {
            "turn_id": turn_id(current),
            "diff_stats": {
                "files_modified": 0 if result is None else result.files_changed,
                "lines_added": 0 if result is None else result.lines_added,
                "lines_removed": 0 if result is None else result.lines_removed,
            },
            "sibling_turn_ids": _siblings(task, current),
        }
        if (turn := _TURNS.get(state)) is not None:
            latest["turn_status"] = turn
    return {
        "state": _STATES.get(state, "pending"),
        "environment_label": label,
        "latest_turn_status_display": latest or None,
    }


def list_item(task: Task, label: str | None) -> dict[str, Any]:
    record = task.record
    return {
        "id": record.id,
        "title": task.body.title,
        "has_generated_title": True,
        "updated_at": record.updated_at_s,
        "created_at": record.created_at_s,
        "archived": record.archived,
        "has_unread_turn": record.state is TaskState.READY,
        "pull_requests": [],
        "task_status_display": status_of(task, label),
    }


def shown(task: Task, label: str | None, diff: str) -> dict[str, Any]:
    """One task whole; ``diff`` is the current attempt's."""
    record, current = task.record, current_of(task)
    head = {
        "id": record.id,
        "title": task.body.title,
        "created_at": record.created_at_s,
        "archived": record.archived,
        "external_pull_requests": [],
        "has_unread_turn": record.state is TaskState.READY,
        "current_turn_id": USER_TURN if current is None else turn_id(current),
    }
    found: dict[str, Any] = {
        "task": head,
        "task_status_display": status_of(task, label),
        "current_user_turn": {
            "id": USER_TURN,
            "input_items": [{"type": "message", "role": "user", "content": _text(task.body.spec.prompt)}],
        },
        "current_assistant_turn": None,
        "current_diff_task_turn": None,
    }
    if current is not None:
        found["current_assistant_turn"] = {
            **_turn(task, current),
            "sibling_turn_ids": _siblings(task, current),
            "output_items": _message(current),
            "worklog": {"messages": []},
            "error": _error(current),
        }
        if diff:
            found["current_diff_task_turn"] = {"id": turn_id(current), "output_items": _diffs(diff)}
    return found


def sibling(task: Task, attempt: Attempt, diff: str) -> dict[str, Any]:
    return {
        **_turn(task, attempt),
        "created_at": attempt.record.created_at_s,
        "output_items": [*(_diffs(diff) if diff else ()), *_message(attempt)],
    }


def turn_status(attempt: Attempt) -> str:
    if attempt.record.state is AttemptState.QUEUED:
        return "pending"
    if attempt.record.state is AttemptState.LEASED:
        return "in_progress"
    ended = ended_of(attempt)
    if ended is Ended.DONE:
        return "completed"
    return "cancelled" if ended is Ended.CANCELLED else "failed"


def _turn(task: Task, attempt: Attempt) -> dict[str, Any]:
    placement = [one.record.number for one in task.attempts].index(attempt.record.number)
    return {"id": turn_id(attempt), "attempt_placement": placement, "turn_status": turn_status(attempt)}


def _siblings(task: Task, current: Attempt) -> list[str]:
    return [turn_id(one) for one in task.attempts if one is not current]


def _text(text: str) -> list[dict[str, str]]:
    return [{"content_type": "text", "text": text}]


def _message(attempt: Attempt) -> list[dict[str, Any]]:
    text = "" if attempt.body.result is None else attempt.body.result.message
    return [{"type": "message", "role": "assistant", "content": _text(text)}] if text else []


def _diffs(diff: str) -> list[dict[str, Any]]:
    return [{"type": "output_diff", "diff": diff}, {"type": "pr", "output_diff": {"diff": diff}}]


def _error(attempt: Attempt) -> dict[str, str] | None:
    if turn_status(attempt) != "failed":
        return None
    ended = ended_of(attempt)
    message = "" if attempt.body.result is None else attempt.body.result.message
    return {"code": ended.value, "message": message or ended.value.replace("_", " ")}
