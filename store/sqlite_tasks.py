"""Tasks, their attempts and their logs in SQLite.

Plain columns find, order and lease; bodies are sealed in their place (task or attempt, and its version), lines of a
log likewise under their number. Leases are judged by the store's clock inside the transaction, so that of two workers
one gets an attempt. What the calls promise stands in store.base.TaskStore.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from store.errors import Conflict, NotFound
from store.sqlite_threads import SqliteThreads
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState
from store.vault import Place, Vault

_TASK: Final = """SELECT id, tenant_id, environment_id, state, body, idempotency, created_at_s, updated_at_s, archived,
    version FROM tasks"""
_ATTEMPT: Final = """SELECT task_id, number, tenant_id, state, body, worker, fence, lease_until_s, leases, cancel,
    created_at_s, version FROM attempts"""
_NEXT: Final = """SELECT task_id, number, tenant_id, state, body, worker, fence, lease_until_s, leases, cancel,
    created_at_s, version FROM attempts AS wanted
    WHERE (state = 'queued' OR (state = 'leased' AND lease_until_s <= :now)) AND
        (SELECT count(*) FROM attempts AS live WHERE live.tenant_id = wanted.tenant_id AND live.state = 'leased'
            AND live.lease_until_s > :now) < :most
    ORDER BY created_at_s, task_id, number LIMIT 1"""


class SqliteTaskStore:
    """Implements store.base.TaskStore on the threads of a SqliteStore, which closes them."""

    def __init__(self, threads: SqliteThreads, vault: Vault, now_s: Callable[[sqlite3.Connection], float]) -> None:
        self._threads = threads
        self._vault = vault
        self._now_s = now_s

    # tasks

    async def add_task(self, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> TaskRecord:
        return await self._threads.write(lambda db: self._add_task(db, task, attempts))

    def _add_task(self, db: sqlite3.Connection, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> TaskRecord:
        if task.idempotency is not None:
            row = db.execute(
                _TASK + " WHERE tenant_id = ? AND idempotency = ?", (task.tenant_id, task.idempotency)
            ).fetchone()
            if row is not None:
                return self._task(row)
        stored = replace(task, version=1)
        try:
            db.execute(
                """INSERT INTO tasks (id, tenant_id, environment_id, state, body, idempotency, created_at_s,
                    updated_at_s, archived, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)""",
                (
                    stored.id,
                    stored.tenant_id,
                    stored.environment_id,
                    stored.state.value,
                    self._vault.seal(stored.body, _task_place(stored)),
                    stored.idempotency,
                    stored.created_at_s,
                    stored.updated_at_s,
                    int(stored.archived),
                ),
            )
        except sqlite3.IntegrityError:
            raise Conflict("a task with this id exists already") from None
        for attempt in attempts:
            self._add_attempt(db, attempt)
        return stored

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._threads.read(lambda db: self._find(db, task_id))

    def _find(self, db: sqlite3.Connection, task_id: str) -> TaskRecord | None:
        row = db.execute(_TASK + " WHERE id = ?", (task_id,)).fetchone()
        return None if row is None else self._task(row)

    async def tasks(self, wanted: TaskFilter) -> tuple[TaskRecord, ...]:
        states = tuple(state.value for state in (wanted.states or TaskState))
        archived = None if wanted.archived is None else int(wanted.archived)
        values = {
            "tenant": wanted.tenant_id,
            "environment": wanted.environment_id,
            "archived": archived,
            "before": wanted.before_id,
            "limit": wanted.limit,
        }

        def job(db: sqlite3.Connection) -> tuple[TaskRecord, ...]:
            rows = db.execute(
                _TASK
                + """ WHERE (:tenant IS NULL OR tenant_id = :tenant)
                AND (:environment IS NULL OR environment_id = :environment)
                AND (:archived IS NULL OR archived = :archived) AND (:before IS NULL OR id < :before)
                ORDER BY id DESC""",
                values,
            )
            found: list[TaskRecord] = []
            for row in rows:
                if len(found) == wanted.limit:
                    break
                if row[3] in states:
                    found.append(self._task(row))
            return tuple(found)

        return await self._threads.read(job)

    async def count_tasks(self, tenant_id: str, states: Sequence[TaskState]) -> int:
        wanted = {state.value for state in states}

        def job(db: sqlite3.Connection) -> int:
            rows = db.execute("SELECT state, count(*) FROM tasks WHERE tenant_id = ? GROUP BY state", (tenant_id,))
            return sum(count for state, count in rows if state in wanted)

        return await self._threads.read(job)

    async def put_task(self, task: TaskRecord, expected_version: int) -> TaskRecord:
        stored = replace(task, version=expected_version + 1)

        def job(db: sqlite3.Connection) -> TaskRecord:
            done = db.execute(
                """UPDATE tasks SET environment_id = ?, state = ?, body = ?, updated_at_s = ?, archived = ?, version = ?
                WHERE id = ? AND version = ?""",
                (
                    stored.environment_id,
                    stored.state.value,
                    self._vault.seal(stored.body, _task_place(stored)),
                    stored.updated_at_s,
                    int(stored.archived),
                    stored.version,
                    stored.id,
                    expected_version,
                ),
            )
            if not done.rowcount:
                if self._find(db, stored.id) is None:
                    raise NotFound(f"there is no task {stored.id!r}")
                raise Conflict(f"task {stored.id!r} has changed since it was read")
            return stored

        return await self._threads.write(job)

    async def remove_task(self, task_id: str) -> bool:
        return await self._threads.write(
            lambda db: db.execute("DELETE FROM tasks WHERE id = ?", (task_id,)).rowcount > 0
        )

    # attempts

    async def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        return await self._threads.read(lambda db: self._attempts(db, task_id))

    def _attempts(self, db: sqlite3.Connection, task_id: str) -> tuple[AttemptRecord, ...]:
        rows = db.execute(_ATTEMPT + " WHERE task_id = ? ORDER BY number", (task_id,))
        return tuple(self._attempt(row) for row in rows)

    async def add_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        return await self._threads.write(lambda db: self._add_attempt(db, attempt))

    def _add_attempt(self, db: sqlite3.Connection, attempt: AttemptRecord) -> AttemptRecord:
        if db.execute("SELECT 1 FROM tasks WHERE id = ?", (attempt.task_id,)).fetchone() is None:
            raise NotFound(f"there is no task {attempt.task_id!r}")
        stored = replace(attempt, version=1)
        try:
            db.execute(
                """INSERT INTO attempts (task_id, number, tenant_id, state, body, worker, fence, lease_until_s, leases,
                    cancel, created_at_s, version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)""",
                (
                    stored.task_id,
                    stored.number,
                    stored.tenant_id,
                    stored.state.value,
                    self._vault.seal(stored.body, _attempt_place(stored)),
                    stored.worker,
                    stored.fence,
                    stored.lease_until_s,
                    stored.leases,
                    int(stored.cancel),
                    stored.created_at_s,
                ),
            )
        except sqlite3.IntegrityError:
            raise Conflict(f"task {attempt.task_id!r} has an attempt {attempt.number} already") from None
        return stored

    async def lease_attempt(self, worker: str, ttl_s: float, per_tenant: int) -> AttemptRecord | None:
        return await self._threads.write(lambda db: self._lease(db, worker, ttl_s, per_tenant))

    def _lease(self, db: sqlite3.Connection, worker: str, ttl_s: float, per_tenant: int) -> AttemptRecord | None:
        now_s = self._now_s(db)
        row = db.execute(
            _NEXT,
            {"now": now_s, "most": per_tenant},
        ).fetchone()
        if row is None:
            return None
        old = self._attempt(row)
        return self._write(
            db,
            replace(
                old,
                state=AttemptState.LEASED,
                worker=worker,
                fence=old.fence + 1,
                leases=old.leases + 1,
                lease_until_s=now_s + ttl_s,
            ),
        )

    async def renew_lease(self, attempt: AttemptRecord, ttl_s: float) -> AttemptRecord | None:
        def job(db: sqlite3.Connection) -> AttemptRecord | None:
            found = self._one(db, attempt)
            if found is None or found.fence != attempt.fence or found.state is not AttemptState.LEASED:
                return None
            return self._write(db, replace(found, lease_until_s=self._now_s(db) + ttl_s))

        return await self._threads.write(job)

    async def put_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        def job(db: sqlite3.Connection) -> AttemptRecord:
            found = self._one(db, attempt)
            if found is None:
                raise NotFound(f"there is no attempt {attempt.number} of task {attempt.task_id!r}")
            if found.fence != attempt.fence:
                raise Conflict(f"attempt {attempt.number} of task {attempt.task_id!r} is another worker's now")
            return self._write(db, replace(found, state=attempt.state, body=attempt.body))

        return await self._threads.write(job)

    async def cancel_attempts(self, task_id: str) -> int:
        def job(db: sqlite3.Connection) -> int:
            asked = [one for one in self._attempts(db, task_id) if one.state is not AttemptState.ENDED]
            for one in asked:
                ended = AttemptState.ENDED if one.state is AttemptState.QUEUED else one.state
                self._write(db, replace(one, state=ended, cancel=True))
            return len(asked)

        return await self._threads.write(job)

    def _one(self, db: sqlite3.Connection, attempt: AttemptRecord) -> AttemptRecord | None:
        row = db.execute(_ATTEMPT + " WHERE task_id = ? AND number = ?", (attempt.task_id, attempt.number)).fetchone()
        return None if row is None else self._attempt(row)

    def _write(self, db: sqlite3.Connection, changed: AttemptRecord) -> AttemptRecord:
        stored = replace(changed, version=changed.version + 1)
        db.execute(
            """UPDATE attempts SET state = ?, body = ?, worker = ?, fence = ?, lease_until_s = ?, leases = ?,
                cancel = ?, version = ? WHERE task_id = ? AND number = ?""",
            (
                stored.state.value,
                self._vault.seal(stored.body, _attempt_place(stored)),
                stored.worker,
                stored.fence,
                stored.lease_until_s,
                stored.leases,
                int(stored.cancel),
                stored.version,
                stored.task_id,
                stored.number,
            ),
        )
        return stored

    # logs

    async def append_log(self, lines: Sequence[LogLine]) -> int:
        return await self._threads.write(lambda db: self._append(db, lines), durable=False)

    def _append(self, db: sqlite3.Connection, lines: Sequence[LogLine]) -> int:
        number = 0
        for line in lines:
            row = db.execute(
                "UPDATE tasks SET last_line = last_line + 1 WHERE id = ? RETURNING last_line", (line.task_id,)
            ).fetchone()
            if row is None:
                continue
            number = int(row[0])
            db.execute(
                "INSERT INTO task_log (task_id, number, attempt, body) VALUES (?, ?, ?, ?)",
                (line.task_id, number, line.attempt, self._vault.seal(line.body, _line_place(line.task_id, number))),
            )
        return number

    async def log(self, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]:
        def job(db: sqlite3.Connection) -> tuple[LogLine, ...]:
            rows = db.execute(
                """SELECT attempt, body, number FROM task_log WHERE task_id = ? AND number > ?
                ORDER BY number LIMIT ?""",
                (task_id, after, limit),
            )
            return tuple(
                LogLine(task_id, attempt, self._vault.open(body, _line_place(task_id, number)), number)
                for attempt, body, number in rows
            )

        return await self._threads.read(job)

    def _task(self, row: tuple[Any, ...]) -> TaskRecord:
        found = TaskRecord(
            id=row[0],
            tenant_id=row[1],
            environment_id=row[2],
            state=TaskState(row[3]),
            body=b"",
            idempotency=row[5],
            created_at_s=row[6],
            updated_at_s=row[7],
            archived=bool(row[8]),
            version=row[9],
        )
        return replace(found, body=self._vault.open(row[4], _task_place(found)))

    def _attempt(self, row: tuple[Any, ...]) -> AttemptRecord:
        found = AttemptRecord(
            task_id=row[0],
            number=row[1],
            tenant_id=row[2],
            state=AttemptState(row[3]),
            body=b"",
            worker=row[5],
            fence=row[6],
            lease_until_s=row[7],
            leases=row[8],
            cancel=bool(row[9]),
            created_at_s=row[10],
            version=row[11],
        )
        return replace(found, body=self._vault.open(row[4], _attempt_place(found)))


def _task_place(task: TaskRecord) -> Place:
    return Place("tasks", task.id, "body", task.version)


def _attempt_place(attempt: AttemptRecord) -> Place:
    return Place("attempts", f"{attempt.task_id}/{attempt.number}", "body", attempt.version)


def _line_place(task_id: str, number: int) -> Place:
    return Place("task_log", f"{task_id}/{number}", "body", 1)
