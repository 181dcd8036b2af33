"""Where may a task go from where it is, and where do its attempts put it?

    created -> queued -> setting_up -> running -> ready -> approved -> applied
                  |           |           |         '----> rejected
                  '-----------'-----------'-> failed | cancelled
    failed, cancelled, rejected, ready -> queued    (a retry or a follow-up adds an attempt)

Rules that hold:

* a person's verdict (approved, rejected, applied) is never overwritten by a machine's news;
* the state of a task that is being worked on is read off its attempts: the most advanced one that has not ended says
  where it is; when all have ended, one good attempt makes it ready;
* a task whose attempts all failed says how the one ended that came furthest.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sandbox.types import Ended, Phase
from store.task_records import AttemptState, TaskState

MOVES: Final[dict[TaskState, frozenset[TaskState]]] = {
    TaskState.CREATED: frozenset(
        {
            TaskState.QUEUED,
            TaskState.SETTING_UP,
            TaskState.RUNNING,
            TaskState.READY,
            TaskState.FAILED,
            TaskState.CANCELLED,
        }
    ),
    TaskState.QUEUED: frozenset(
        {TaskState.SETTING_UP, TaskState.RUNNING, TaskState.READY, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.SETTING_UP: frozenset(
        {TaskState.QUEUED, TaskState.RUNNING, TaskState.READY, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.RUNNING: frozenset(
        {TaskState.QUEUED, TaskState.SETTING_UP, TaskState.READY, TaskState.FAILED, TaskState.CANCELLED}
    ),
    TaskState.READY: frozenset({TaskState.APPROVED, TaskState.REJECTED, TaskState.QUEUED}),
    TaskState.APPROVED: frozenset({TaskState.APPLIED, TaskState.REJECTED}),
    TaskState.REJECTED: frozenset({TaskState.QUEUED}),
    TaskState.APPLIED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
}

WORKED_ON: Final = frozenset({TaskState.CREATED, TaskState.QUEUED, TaskState.SETTING_UP, TaskState.RUNNING})
ENDED: Final = frozenset({TaskState.REJECTED, TaskState.APPLIED, TaskState.FAILED, TaskState.CANCELLED})
_FURTHEST: Final = (
    Ended.TIMED_OUT, Ended.BUDGET, Ended.FAILED, Ended.OUT_OF_MEMORY, Ended.LIMIT, Ended.LOST, Ended.ENGINE,
    Ended.INPUT,
    Ended.CANCELLED,
)  # fmt: skip


class WrongState(Exception):
    """The act does not fit the task as it stands; str() names both."""

    def __init__(self, state: TaskState, wanted: TaskState) -> None:
        super().__init__(f"a task that is {state.value} cannot become {wanted.value}")
        self.state = state


@dataclass(frozen=True, slots=True)
class Progress:
    """One attempt, as far as its task's state goes by it. ``ended`` None: it has not ended."""

    state: AttemptState
    phase: Phase | None
    ended: Ended | None


def check_move(state: TaskState, wanted: TaskState) -> None:
    """Raises WrongState."""
    if wanted not in MOVES[state]:
        raise WrongState(state, wanted)


def state_of(state: TaskState, attempts: Sequence[Progress]) -> tuple[TaskState, Ended | None]:
    """(where the task stands, how it failed) by its attempts; as it was when a person's verdict is on it."""
    if state not in WORKED_ON or not attempts:
        return state, None
    running = [one for one in attempts if one.state is not AttemptState.ENDED]
    if running:
        leased = [one for one in running if one.state is AttemptState.LEASED]
        if not leased:
            return TaskState.QUEUED, None
        beyond = any(one.phase in (Phase.AGENT, Phase.JUDGE) for one in leased)
        return (TaskState.RUNNING if beyond else TaskState.SETTING_UP), None
    ends = [one.ended or Ended.LOST for one in attempts]
    if Ended.DONE in ends:
        return TaskState.READY, None
    if all(end is Ended.CANCELLED for end in ends):
        return TaskState.CANCELLED, Ended.CANCELLED
    return TaskState.FAILED, min(ends, key=_FURTHEST.index)
