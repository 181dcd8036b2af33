"""Tasks of the sandbox, their attempts and their logs in Redis: one look and one commit each.

Plain fields find, order and lease; bodies are sealed in their place (task or attempt, and its version), lines of a log
likewise under their number. A lease is judged by the server's clock, and every lease moves one counter that each of
them looked at, so that of two workers one gets an attempt and no tenant gets more than its share. What the calls
promise stands in store.base.TaskStore.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import msgspec

from store.errors import Conflict, NotFound
from store.redis_records import Decision, Op, Query, RedisRecords, Seen, Table, drop, get, page, pairs, whole
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState
from store.vault import Place, Vault

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode
_STEP: Final = 100
_MOST_ATTEMPTS: Final = 10_000
_LEASES: Final = get(Table.COUNTERS, "leases")
"""Moves whenever a list of attempts does, so that who decided upon one knows that it still holds."""


class RedisTaskStore:
    """Implements store.base.TaskStore on the records of a RedisStore, which closes them."""

    def __init__(self, records: RedisRecords, vault: Vault) -> None:
        self._records = records
        self._vault = vault

    # tasks

    async def add_task(self, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> TaskRecord:
        await asyncio.to_thread(self._vault.look)
        stored = replace(task, version=1)
        repeat = _encode((task.tenant_id, task.idempotency))
        ops = [*self._task_ops(stored), ("ZADD", Table.TASK_NAMES, 0, task.id)]
        if task.idempotency is not None:
            ops.append(("HSET", Table.TASK_REPEATS, repeat, task.id))
        for attempt in attempts:
            ops += self._attempt_ops(replace(attempt, version=1))
        while True:
            outcome = await self._records.transact(
                [get(Table.TASKS, task.id), get(Table.TASK_REPEATS, repeat)], lambda seen: _adding(task, seen, ops)
            )
            if outcome is None:
                return stored
            known = await self.task(outcome)
            if known is not None:
                return known

    async def task(self, task_id: str) -> TaskRecord | None:
        (row,) = (await self._records.look(get(Table.TASKS, task_id))).found
        return None if row is None else self._task(task_id, row)

    async def tasks(self, wanted: TaskFilter) -> tuple[TaskRecord, ...]:
        found: list[TaskRecord] = []
        before = b"+" if wanted.before_id is None else b"(" + wanted.before_id.encode()
        while len(found) < wanted.limit:
            seen = await self._records.look(page(Table.TASK_NAMES, Table.TASKS, b"-", before, _STEP, down=True))
            rows = pairs(seen.found[0])
            for name, row in rows:
                if len(found) < wanted.limit and row is not None and _wanted(wanted, _decode(row)):
                    found.append(self._task(name.decode(), row))
            if len(rows) < _STEP:
                break
            before = b"(" + rows[-1][0]
        return tuple(found)

    async def count_tasks(self, tenant_id: str, states: Sequence[TaskState]) -> int:
        (rows,) = (await self._records.look(whole(Table.TASK_BRIEFS))).found
        counted = {_encode((tenant_id, state.value)) for state in states}
        return sum(row in counted for row in rows[1::2])

    async def put_task(self, task: TaskRecord, expected_version: int) -> TaskRecord:
        await asyncio.to_thread(self._vault.look)

        def decide(seen: Seen) -> Decision[TaskRecord]:
            (row,) = seen.found
            if row is None:
                raise NotFound(f"there is no task {task.id!r}")
            old = self._task(task.id, row)
            if old.version != expected_version:
                raise Conflict(f"task {task.id!r} has changed since it was read")
            stored = replace(
                task, version=expected_version + 1, tenant_id=old.tenant_id, idempotency=old.idempotency,
                created_at_s=old.created_at_s,
            )  # fmt: skip
            return Decision(replace(task, version=stored.version), self._task_ops(stored))

        return await self._records.transact([get(Table.TASKS, task.id)], decide)

    async def remove_task(self, task_id: str) -> bool:
        def decide(seen: Seen) -> Decision[bool]:
            row, lines, attempts, leases = seen.found
            if row is None:
                return Decision(False)
            fields = _decode(row)
            names = [name for name, _ in pairs(attempts)]
            numbered = [_line_name(task_id, number) for number in range(1, int(lines or 0) + 1)]
            ops: list[Op] = [("HDEL", table, task_id) for table in (Table.TASKS, Table.TASK_BRIEFS, Table.TASK_LINES)]
            ops += [("ZREM", Table.TASK_NAMES, task_id), _next(leases)]
            ops += [("HDEL", Table.TASK_REPEATS, _encode((fields[1], fields[4])))]
            ops += drop(Table.ATTEMPT_NAMES, "ZREM", names)
            for table in (Table.ATTEMPTS, Table.ATTEMPTS_OPEN):
                ops += drop(table, "HDEL", names)
            return Decision(True, ops + drop(Table.TASK_LOG, "HDEL", numbered))

        queries = [get(Table.TASKS, task_id), get(Table.TASK_LINES, task_id), _attempts_of(task_id), _LEASES]
        return await self._records.transact(queries, decide)

    # attempts

    async def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        (rows,) = (await self._records.look(_attempts_of(task_id))).found
        return tuple(self._attempt(name, row) for name, row in pairs(rows))

    async def add_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        await asyncio.to_thread(self._vault.look)
        stored = replace(attempt, version=1)

        def decide(seen: Seen) -> Decision[AttemptRecord]:
            task, row, leases = seen.found
            if task is None:
                raise NotFound(f"there is no task {attempt.task_id!r}")
            if row is not None:
                raise Conflict(f"task {attempt.task_id!r} has an attempt {attempt.number} already")
            return Decision(stored, self._moved(stored, leases))

        queries = [get(Table.TASKS, attempt.task_id), *_one(attempt)]
        return await self._records.transact(queries, decide)

    async def lease_attempt(self, worker: str, ttl_s: float, per_tenant: int) -> AttemptRecord | None:
        await asyncio.to_thread(self._vault.look)

        while True:
            queue, leases = (seen := await self._records.look(whole(Table.ATTEMPTS_OPEN), _LEASES)).found
            name = _oldest(pairs(queue), seen.now_s, per_tenant)
            if name is None:
                return None
            taken = await self._records.transact(
                [get(Table.ATTEMPTS, name), _LEASES], partial(self._lease, name, leases, worker, ttl_s)
            )
            if taken is not None:
                return taken

    def _lease(
        self, name: bytes, leases: bytes | None, worker: str, ttl_s: float, seen: Seen
    ) -> Decision[AttemptRecord | None]:
        """None when the queue that ``name`` was chosen from is another by now."""
        row, now_leases = seen.found
        if row is None or now_leases != leases:
            return Decision(None)
        old = self._attempt(name, row)
        leased = replace(
            old, state=AttemptState.LEASED, worker=worker, fence=old.fence + 1, leases=old.leases + 1,
            lease_until_s=seen.now_s + ttl_s, version=old.version + 1,
        )  # fmt: skip
        return Decision(leased, self._moved(leased, leases))

    async def renew_lease(self, attempt: AttemptRecord, ttl_s: float) -> AttemptRecord | None:
        await asyncio.to_thread(self._vault.look)

        def decide(seen: Seen) -> Decision[AttemptRecord | None]:
            row, leases = seen.found
            old = None if row is None else self._attempt(_attempt_name(attempt), row)
            if old is None or old.fence != attempt.fence or old.state is not AttemptState.LEASED:
                return Decision(None)
            renewed = replace(old, lease_until_s=seen.now_s + ttl_s, version=old.version + 1)
            return Decision(renewed, self._moved(renewed, leases))

        return await self._records.transact(_one(attempt), decide)

    async def put_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        await asyncio.to_thread(self._vault.look)

        def decide(seen: Seen) -> Decision[AttemptRecord]:
            row, leases = seen.found
            if row is None:
                raise NotFound(f"there is no attempt {attempt.number} of task {attempt.task_id!r}")
            old = self._attempt(_attempt_name(attempt), row)
            if old.fence != attempt.fence:
                raise Conflict(f"attempt {attempt.number} of task {attempt.task_id!r} is another worker's now")
            stored = replace(old, state=attempt.state, body=attempt.body, version=old.version + 1)
            return Decision(stored, self._moved(stored, leases))

        return await self._records.transact(_one(attempt), decide)

    async def cancel_attempts(self, task_id: str) -> int:
        await asyncio.to_thread(self._vault.look)

        def decide(seen: Seen) -> Decision[int]:
            rows, leases = seen.found
            asked = [one for one in (self._attempt(*row) for row in pairs(rows)) if one.state is not AttemptState.ENDED]
            ops: list[Op] = [_next(leases)]
            for one in asked:
                ended = AttemptState.ENDED if one.state is AttemptState.QUEUED else one.state
                ops += self._attempt_ops(replace(one, state=ended, cancel=True, version=one.version + 1))
            return Decision(len(asked), ops if asked else [])

        return await self._records.transact([_attempts_of(task_id), _LEASES], decide)

    def _moved(self, stored: AttemptRecord, leases: bytes | None) -> list[Op]:
        return [*self._attempt_ops(stored), _next(leases)]

    # logs

    async def append_log(self, lines: Sequence[LogLine]) -> int:
        await asyncio.to_thread(self._vault.look)
        tasks = list(dict.fromkeys(line.task_id for line in lines))

        def decide(seen: Seen) -> Decision[int]:
            last: dict[str, int] = {}
            for at, task_id in enumerate(tasks):
                if seen.found[2 * at] is not None:
                    last[task_id] = int(seen.found[2 * at + 1] or 0)
            number = 0
            ops: list[Op] = []
            for line in lines:
                if line.task_id in last:
                    number = last[line.task_id] = last[line.task_id] + 1
                    sealed = self._vault.seal(line.body, line_place(line.task_id, number))
                    name = _line_name(line.task_id, number)
                    ops.append(("HSET", Table.TASK_LOG, name, _encode((line.attempt, sealed))))
            ops += [("HSET", Table.TASK_LINES, task_id, count) for task_id, count in last.items()]
            return Decision(number, ops)

        queries = [query for task_id in tasks for query in (get(Table.TASKS, task_id), get(Table.TASK_LINES, task_id))]
        return await self._records.transact(queries, decide, durable=False)

    async def log(self, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]:
        (count,) = (await self._records.look(get(Table.TASK_LINES, task_id))).found
        numbers = range(after + 1, min(after + limit, int(count or 0)) + 1)
        if not numbers:
            return ()
        seen = await self._records.look(*(get(Table.TASK_LOG, _line_name(task_id, number)) for number in numbers))
        found: list[LogLine] = []
        for number, row in zip(numbers, seen.found, strict=True):
            if row is not None:
                attempt, sealed = _decode(row)
                found.append(LogLine(task_id, attempt, self._vault.open(sealed, line_place(task_id, number)), number))
        return tuple(found)

    # rows

    def _task_ops(self, stored: TaskRecord) -> list[Op]:
        row = (
            stored.version, stored.tenant_id, stored.environment_id, stored.state.value, stored.idempotency,
            stored.created_at_s, stored.updated_at_s, stored.archived,
            self._vault.seal(stored.body, task_place(stored.id, stored.version)),
        )  # fmt: skip
        return [
            ("HSET", Table.TASKS, stored.id, _encode(row)),
            ("HSET", Table.TASK_BRIEFS, stored.id, _encode((stored.tenant_id, stored.state.value))),
        ]

    def _task(self, task_id: str, row: bytes) -> TaskRecord:
        version, tenant_id, environment_id, state, idempotency, created_s, updated_s, archived, sealed = _decode(row)
        body = self._vault.open(sealed, task_place(task_id, version))
        return TaskRecord(
            task_id, tenant_id, environment_id, TaskState(state), body, idempotency, created_s, updated_s, archived,
            version,
        )  # fmt: skip

    def _attempt_ops(self, stored: AttemptRecord) -> list[Op]:
        name = _attempt_name(stored)
        row = _encode(
            (
                stored.version, stored.tenant_id, stored.state.value, stored.worker, stored.fence,
                stored.lease_until_s, stored.leases, stored.cancel, stored.created_at_s,
                self._vault.seal(stored.body, attempt_place(stored.task_id, stored.number, stored.version)),
            )
        )  # fmt: skip
        ops: list[Op] = [("HSET", Table.ATTEMPTS, name, row), ("ZADD", Table.ATTEMPT_NAMES, 0, name)]
        if stored.state is AttemptState.ENDED:
            return [*ops, ("HDEL", Table.ATTEMPTS_OPEN, name)]
        brief = (stored.tenant_id, stored.state.value, stored.lease_until_s, stored.created_at_s)
        return [*ops, ("HSET", Table.ATTEMPTS_OPEN, name, _encode(brief))]

    def _attempt(self, name: bytes, row: bytes) -> AttemptRecord:
        task, _, number = name.rpartition(b"\x00")
        version, tenant_id, state, worker, fence, until_s, leases, cancel, created_s, sealed = _decode(row)
        task_id = task.decode()
        body = self._vault.open(sealed, attempt_place(task_id, int(number), version))
        return AttemptRecord(
            task_id, int(number), tenant_id, AttemptState(state), body, worker, fence, until_s, leases, cancel,
            created_s, version,
        )  # fmt: skip


def _adding(task: TaskRecord, seen: Seen, ops: Sequence[Op]) -> Decision[str | None]:
    """The id of the task that this one repeats, with nothing written, or None."""
    row, repeated = seen.found
    if task.idempotency is not None and repeated is not None:
        return Decision(repeated.decode())
    if row is not None:
        raise Conflict("a task with this id exists already")
    return Decision(None, ops)


def _wanted(wanted: TaskFilter, row: Sequence[Any]) -> bool:
    _, tenant_id, environment_id, state, _, _, _, archived, _ = row
    return (
        wanted.tenant_id in (None, tenant_id)
        and wanted.environment_id in (None, environment_id)
        and wanted.archived in (None, archived)
        and (not wanted.states or TaskState(state) in wanted.states)
    )


def _oldest(rows: Sequence[tuple[bytes, bytes]], now_s: float, per_tenant: int) -> bytes | None:
    """The attempt to lease next: free, of a tenant with room, the oldest."""
    live: Counter[str] = Counter()
    free: list[tuple[float, bytes, str]] = []
    for name, row in rows:
        tenant_id, state, until_s, created_s = _decode(row)
        if state == AttemptState.LEASED and until_s > now_s:
            live[tenant_id] += 1
        else:
            free.append((created_s, name, tenant_id))
    return next((name for _, name, tenant_id in sorted(free) if live[tenant_id] < per_tenant), None)


def _one(attempt: AttemptRecord) -> list[Query]:
    return [get(Table.ATTEMPTS, _attempt_name(attempt)), _LEASES]


def _next(leases: bytes | None) -> Op:
    return ("HSET", Table.COUNTERS, "leases", int(leases or 0) + 1)


def _attempts_of(task_id: str) -> Query:
    start = task_id.encode() + b"\x00"
    end = task_id.encode() + b"\x01"
    return page(Table.ATTEMPT_NAMES, Table.ATTEMPTS, b"[" + start, b"(" + end, _MOST_ATTEMPTS)


def _attempt_name(attempt: AttemptRecord) -> bytes:
    return f"{attempt.task_id}\x00{attempt.number:010d}".encode()


def _line_name(task_id: str, number: int) -> bytes:
    return f"{task_id}\x00{number}".encode()


def task_place(task_id: str, version: int) -> Place:
    """Where a task's body is sealed."""
    return Place("tasks", task_id, "body", version)


def attempt_place(task_id: str, number: int, version: int) -> Place:
    """Where an attempt's body is sealed."""
    return Place("attempts", f"{task_id}/{number}", "body", version)


def line_place(task_id: str, number: int) -> Place:
    """Where a line of a log is sealed."""
    return Place("task_log", f"{task_id}/{number}", "body", 1)
