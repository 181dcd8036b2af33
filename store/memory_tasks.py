"""Tasks, their attempts and their logs in the memory of one process: the same promises, but durability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ops.clock import Clock
from store.errors import Conflict, NotFound
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState


class MemoryTaskStore:
    """Implements store.base.TaskStore. No method awaits, so each is atomic on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: dict[str, TaskRecord] = {}
        self._attempts: dict[tuple[str, int], AttemptRecord] = {}
        self._logs: dict[str, list[LogLine]] = {}

    async def add_task(self, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> TaskRecord:
        for known in self._tasks.values():
            if task.idempotency and (known.tenant_id, known.idempotency) == (task.tenant_id, task.idempotency):
                return known
        if task.id in self._tasks:
            raise Conflict("a task with this id exists already")
        stored = self._tasks[task.id] = replace(task, version=1)
        self._logs[task.id] = []
        for attempt in attempts:
            await self.add_attempt(attempt)
        return stored

    async def task(self, task_id: str) -> TaskRecord | None:
        return self._tasks.get(task_id)

    async def tasks(self, wanted: TaskFilter) -> tuple[TaskRecord, ...]:
        found = [
            task
            for task in self._tasks.values()
            if wanted.tenant_id in (None, task.tenant_id)
            and wanted.environment_id in (None, task.environment_id)
            and wanted.archived in (None, task.archived)
            and (not wanted.states or task.state in wanted.states)
            and (wanted.before_id is None or task.id < wanted.before_id)
        ]
        return tuple(sorted(found, key=lambda task: task.id, reverse=True)[: wanted.limit])

    async def count_tasks(self, tenant_id: str, states: Sequence[TaskState]) -> int:
        return sum(task.tenant_id == tenant_id and task.state in states for task in self._tasks.values())

    async def put_task(self, task: TaskRecord, expected_version: int) -> TaskRecord:
        found = self._tasks.get(task.id)
        if found is None:
            raise NotFound(f"there is no task {task.id!r}")
        if found.version != expected_version:
            raise Conflict(f"task {task.id!r} has changed since it was read")
        stored = self._tasks[task.id] = replace(task, version=expected_version + 1)
        return stored

    async def remove_task(self, task_id: str) -> bool:
        self._logs.pop(task_id, None)
        self._attempts = {key: one for key, one in self._attempts.items() if key[0] != task_id}
        return self._tasks.pop(task_id, None) is not None

    async def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        return tuple(self._attempts[key] for key in sorted(self._attempts) if key[0] == task_id)

    async def add_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        if attempt.task_id not in self._tasks:
            raise NotFound(f"there is no task {attempt.task_id!r}")
        key = (attempt.task_id, attempt.number)
        if key in self._attempts:
            raise Conflict(f"task {attempt.task_id!r} has an attempt {attempt.number} already")
        stored = self._attempts[key] = replace(attempt, version=1)
        return stored

    async def lease_attempt(self, worker: str, ttl_s: float, per_tenant: int) -> AttemptRecord | None:
        now_s = self._clock.now_s()
        leased = [one for one in self._attempts.values() if one.state is AttemptState.LEASED]
        live = [one for one in leased if one.lease_until_s > now_s]
        for one in sorted(self._attempts.values(), key=lambda one: (one.created_at_s, one.task_id, one.number)):
            open_now = one.state is AttemptState.QUEUED or (one in leased and one not in live)
            if open_now and sum(other.tenant_id == one.tenant_id for other in live) < per_tenant:
                return self._write(
                    replace(
                        one,
                        state=AttemptState.LEASED,
                        worker=worker,
                        fence=one.fence + 1,
                        leases=one.leases + 1,
                        lease_until_s=now_s + ttl_s,
                    )
                )
        return None

    async def renew_lease(self, attempt: AttemptRecord, ttl_s: float) -> AttemptRecord | None:
        found = self._attempts.get((attempt.task_id, attempt.number))
        if found is None or found.fence != attempt.fence or found.state is not AttemptState.LEASED:
            return None
        return self._write(replace(found, lease_until_s=self._clock.now_s() + ttl_s))

    async def put_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        found = self._attempts.get((attempt.task_id, attempt.number))
        if found is None:
            raise NotFound(f"there is no attempt {attempt.number} of task {attempt.task_id!r}")
        if found.fence != attempt.fence:
            raise Conflict(f"attempt {attempt.number} of task {attempt.task_id!r} is another worker's now")
        return self._write(replace(found, state=attempt.state, body=attempt.body))

    async def cancel_attempts(self, task_id: str) -> int:
        asked = [one for one in await self.attempts(task_id) if one.state is not AttemptState.ENDED]
        for one in asked:
            ended = AttemptState.ENDED if one.state is AttemptState.QUEUED else one.state
            self._write(replace(one, state=ended, cancel=True))
        return len(asked)

    def _write(self, changed: AttemptRecord) -> AttemptRecord:
        stored = replace(changed, version=changed.version + 1)
        self._attempts[stored.task_id, stored.number] = stored
        return stored

    async def append_log(self, lines: Sequence[LogLine]) -> int:
        number = 0
        for line in lines:
            if (log := self._logs.get(line.task_id)) is not None:
                number = len(log) + 1
                log.append(replace(line, number=number))
        return number

    async def log(self, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]:
        return tuple(self._logs.get(task_id, [])[after : after + limit])
