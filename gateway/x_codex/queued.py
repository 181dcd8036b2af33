"""A synchronous run as a task in the store: put there, looked at, cancelled, and taken out when it is over.

A worker leases it like every other attempt. What differs: its task is archived from the start, so no list shows it;
its attempt counts as the oldest, because somebody waits on an open connection; it is removed with its log and files
soon after its end. Rules that hold:

* a run that nobody waits for any more is cancelled at once; a store that does not answer then is asked again by
  ``step`` until it does;
* it is removed only when no worker writes to it any more (its task has settled, or its attempt ended ``SETTLE_S``
  ago); what a process leaves behind when it dies goes with the retention of tasks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from auth.types import Caller
from ops.clock import Clock
from sandbox.bodies import AttemptBody, TaskBody, read_attempt, title_of, write_attempt, write_task
from sandbox.results import ResultStore, ResultsUnavailable
from sandbox.states import WORKED_ON
from sandbox.types import Ended, RunEvent, RunResult, TaskSpec
from store.base import TaskStore
from store.errors import StoreError
from store.task_records import AttemptRecord, AttemptState, TaskRecord, TaskState

PAGE: Final = 200
SETTLE_S: Final = 30.0
FIRST_S: Final = 0.0
"""When the attempt of a run was made, as the queue sees it: before every task's."""


@dataclass(frozen=True, slots=True)
class Look:
    """A run as it stands. ``lines`` are new; ``after`` is the cursor for the next look; ``more`` lines wait already.
    ``result`` is there once it has ended."""

    begun: bool
    lines: tuple[RunEvent, ...]
    after: int
    more: bool
    result: RunResult | None


class RunQueue:
    """The runs of this process. ``results`` is asked for when the first one is removed."""

    def __init__(self, tasks: TaskStore, results: Callable[[], ResultStore], clock: Clock) -> None:
        self._tasks = tasks
        self._results = results
        self._clock = clock
        self._leaving: dict[str, float] = {}

    async def add(self, caller: Caller, spec: TaskSpec) -> str:
        """The id of the queued task. Raises StoreError; then nothing is queued, or its id is not known to anybody
        and its own wall clock ends it."""
        now_s = self._clock.now_s()
        task_id = f"task_e_{int(now_s * 1000):012x}{secrets.token_hex(8)}"
        body = TaskBody(title_of(spec.prompt), f"key:{caller.key_id}", spec)
        record = TaskRecord(
            task_id, caller.tenant_id, spec.environment_id, TaskState.QUEUED, write_task(body), None, now_s, now_s, True
        )
        attempt = AttemptRecord(
            task_id, 1, caller.tenant_id, AttemptState.QUEUED, write_attempt(AttemptBody()), created_at_s=FIRST_S
        )
        await self._tasks.add_task(record, [attempt])
        return task_id

    async def look(self, task_id: str, after: int) -> Look:
        """Raises StoreError. A task that is gone has ended as lost."""
        attempts = await self._tasks.attempts(task_id)
        lines = await self._tasks.log(task_id, after, PAGE)
        result: RunResult | None = None
        if not attempts:
            result = RunResult(Ended.LOST)
        elif attempts[-1].state is AttemptState.ENDED:
            ended = Ended.CANCELLED if attempts[-1].cancel else Ended.LOST
            result = read_attempt(attempts[-1].body).result or RunResult(ended)
        begun = result is not None or attempts[-1].state is AttemptState.LEASED
        events = tuple(event for line in lines if (event := _event(line.body)) is not None)
        return Look(begun, events, lines[-1].number if lines else after, len(lines) == PAGE, result)

    async def leave(self, task_id: str) -> None:
        """Nobody waits for it any more: it is cancelled when it has not ended, and removed later. Never raises a
        StoreError; may be called again."""
        self._leaving.setdefault(task_id, self._clock.monotonic_s())
        try:
            await self._tasks.cancel_attempts(task_id)
        except StoreError:
            return  # step asks again

    async def step(self) -> None:
        """Removes what has ended, asks what has not to stop. Raises StoreError; what is left waits for the next."""
        for task_id, since_s in tuple(self._leaving.items()):
            task = await self._tasks.task(task_id)
            if task is not None:
                asked = await self._tasks.cancel_attempts(task_id)
                waited_s = self._clock.monotonic_s() - since_s
                if asked or (task.state in WORKED_ON and waited_s < SETTLE_S):
                    continue
                try:
                    await self._results().remove(f"{task.tenant_id}/{task_id}")
                except ResultsUnavailable:
                    continue
                await self._tasks.remove_task(task_id)
            self._leaving.pop(task_id, None)


def _event(body: bytes) -> RunEvent | None:
    """The line, or None for one of another release."""
    try:
        return msgspec.json.decode(body, type=RunEvent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
