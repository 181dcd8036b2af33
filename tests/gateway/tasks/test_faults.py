"""Errors of the sandbox in the client's words; what is not one of them is nobody's to explain."""

from __future__ import annotations

import pytest

from gateway.tasks.faults import refusal
from sandbox.environments import BadEnvironment, NoSuchEnvironment
from sandbox.results import ResultsUnavailable, TooLarge
from sandbox.service import BadTask, NoSuchTask, NotYours, QueueFull, TaskError
from sandbox.states import WrongState
from store.errors import Conflict, StoreUnavailable
from store.task_records import TaskState


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NoSuchTask("x"), 404, "not_found"),
        (NoSuchEnvironment("x"), 404, "not_found"),
        (WrongState(TaskState.READY, TaskState.APPLIED), 409, "conflict"),
        (QueueFull("full"), 429, "queue_full"),
        (NotYours("no"), 403, "forbidden"),
        (BadTask("prompt", "no"), 400, "invalid_request"),
        (BadEnvironment("label", "no"), 400, "invalid_request"),
        (TaskError("odd"), 409, "conflict"),
        (TooLarge("big"), 413, "body_too_large"),
        (ResultsUnavailable("away"), 503, "store_unavailable"),
        (Conflict("moved"), 409, "conflict"),
        (StoreUnavailable("away"), 503, "store_unavailable"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_has_its_answer(error: Exception, status: int, code: str) -> None:
    found = refusal(error)
    assert found is not None
    assert (found.status, found.code) == (status, code)


def test_what_is_our_own_fault_stays_one() -> None:
    assert refusal(RuntimeError("oh")) is None
