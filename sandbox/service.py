"""What may be done with a task, by whom, and what becomes of it? The one door to tasks for every API and page.

The service keeps no state: tasks, attempts and logs rest in the TaskStore, files in the ResultStore. Workers lease the
attempts behind its back and call ``settle`` when one has moved on. Rules that hold:

* a tenant sees its own tasks only; another's is the same answer as none (NoSuchTask);
* every change is compare-and-put on the task's record, tried again when somebody else was first, and refused
  (WrongState) when the task has meanwhile gone where it does not fit any more;
* creating twice with the same idempotency key creates once;
* cancelling asks and never kills: the attempt ends by itself with what it has got;
* each change of state is one line in the log and one call of ``notify``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ops.clock import Clock
from sandbox.bodies import AttemptBody, Review, TaskBody, read_attempt, read_task, title_of, write_attempt, write_task
from sandbox.judge import Verdict, judge
from sandbox.results import ResultStore
from sandbox.states import ENDED, WORKED_ON, Progress, WrongState, check_move, state_of
from sandbox.types import ArchiveSource, Ended, RunEvent, TaskSpec
from store.base import TaskStore
from store.errors import Conflict, NotFound
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState

ATTEMPTS_MAX: Final = 4
PROMPT_MAX: Final = 256 * 1024
TRIES: Final = 8


class TaskError(Exception):
    """Base of what the service refuses; str() is one line with the cause. Nothing has changed."""


class NoSuchTask(TaskError):
    """There is none, or it is another tenant's."""


class BadTask(TaskError):
    """The wish itself is wrong; ``field`` names the part."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field}: {text}")
        self.field = field


class QueueFull(TaskError):
    """The tenant has as many tasks waiting as it may."""


class NotYours(TaskError):
    """This person may not say that of this task."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, for which tenant; ``tenant_id`` None: for every tenant (an administrator who only looks)."""

    name: str
    tenant_id: str | None


@dataclass(frozen=True, slots=True)
class TaskRules:
    """The settings' values."""

    queue_max: int = 200
    two_persons: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as it is shown; ``verdict`` once it has ended well."""

    record: AttemptRecord
    body: AttemptBody
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its attempts."""

    record: TaskRecord
    body: TaskBody
    attempts: tuple[Attempt, ...]

    @property
    def best(self) -> Attempt | None:
        """The chosen attempt, else the judge's first."""
        for one in self.attempts:
            if one.record.number == self.body.chosen:
                return one
        ranked = [one for one in self.attempts if one.verdict is not None and one.verdict.rank == 1]
        return ranked[0] if ranked else None


class TaskService:
    """See the module. ``notify`` hears (what happened, the task); it must not block or raise."""

    def __init__(
        self,
        tasks: TaskStore,
        results: ResultStore,
        clock: Clock,
        rules: TaskRules,
        notify: Callable[[str, Task], None],
    ) -> None:
        self._tasks = tasks
        self._results = results
        self._clock = clock
        self._rules = rules
        self._notify = notify

    # what people ask for

    async def create(self, by: Actor, spec: TaskSpec, idempotency: str | None = None) -> Task:
        """A queued task. Raises BadTask, QueueFull, StoreError."""
        if by.tenant_id is None:
            raise BadTask("tenant", "a task belongs to a tenant; use one of its keys")
        await self._check(by, spec)
        waiting = await self._tasks.count_tasks(by.tenant_id, [TaskState.CREATED, TaskState.QUEUED])
        if waiting >= self._rules.queue_max:
            raise QueueFull(f"{waiting} tasks of this tenant wait already; come back when some are done")
        now_s = self._clock.now_s()
        task_id = f"task_e_{int(now_s * 1000):012x}{secrets.token_hex(8)}"
        body = TaskBody(title_of(spec.prompt), by.name, spec)
        record = TaskRecord(
            task_id, by.tenant_id, spec.environment_id, TaskState.QUEUED, write_task(body), idempotency, now_s, now_s
        )
        parent = None if spec.thread_of is None else (await self.get(by, spec.thread_of)).best
        first = AttemptBody(
            thread_id=parent.body.result.thread_id if parent is not None and parent.body.result is not None else None
        )
        attempts = [self._attempt(record, number, first) for number in range(1, spec.attempts + 1)]
        stored = await self._tasks.add_task(record, attempts)
        task = await self.get(by, stored.id)
        if stored.id == task_id:
            await self._tell(task, "created")
        return task

    async def get(self, by: Actor, task_id: str) -> Task:
        """Raises NoSuchTask."""
        record = await self._tasks.task(task_id)
        if record is None or by.tenant_id not in (None, record.tenant_id):
            raise NoSuchTask("there is no such task")
        return await self._whole(record)

    async def find(self, by: Actor, wanted: TaskFilter) -> tuple[Task, ...]:
        """Newest first; the tenant of ``by`` overrules the filter's."""
        tenant_id = by.tenant_id if by.tenant_id is not None else wanted.tenant_id
        records = await self._tasks.tasks(replace(wanted, tenant_id=tenant_id))
        return tuple([await self._whole(record) for record in records])

    async def cancel(self, by: Actor, task_id: str) -> Task:
        """Asks what runs to stop. Raises WrongState for a task that is over."""
        task = await self.get(by, task_id)
        if task.record.state not in WORKED_ON:
            raise WrongState(task.record.state, TaskState.CANCELLED)
        await self._tasks.cancel_attempts(task_id)
        return await self.settle(task_id)

    async def retry(self, by: Actor, task_id: str) -> Task:
        """One more attempt at the same wish."""
        return await self._again(by, task_id, AttemptBody())

    async def follow_up(self, by: Actor, task_id: str, prompt: str) -> Task:
        """One more attempt that goes on where the best one stopped, with new words. Raises BadTask, WrongState."""
        task = await self.get(by, task_id)
        best = task.best
        if best is None or best.body.result is None or best.body.result.thread_id is None:
            raise BadTask("task", "there is no finished attempt to go on from")
        _check_prompt(prompt)
        thread = best.body.result.thread_id
        return await self._again(by, task_id, AttemptBody(prompt=prompt, thread_id=thread, follows=best.record.number))

    async def claim(self, by: Actor, task_id: str) -> Task:
        """Says that this person reviews it."""
        return await self._review(by, task_id, None, lambda old: replace(old, claimed_by=by.name))

    async def approve(self, by: Actor, task_id: str, attempt: int | None = None) -> Task:
        """One yes; the task is approved when the rules have enough of them. Raises NotYours, WrongState."""
        task = await self.get(by, task_id)
        if self._rules.two_persons and by.name == task.body.created_by:
            raise NotYours("whoever asked for the task cannot approve it; two others must")
        if attempt is not None and attempt not in {one.record.number for one in task.attempts if one.verdict}:
            raise BadTask("attempt", "there is no such finished attempt")
        needed = 2 if self._rules.two_persons else 1

        def said(old: Review) -> Review:
            return replace(old, approved_by=tuple(dict.fromkeys((*old.approved_by, by.name))))

        wanted = TaskState.APPROVED if len(said(task.body.review).approved_by) >= needed else None
        return await self._review(by, task_id, wanted, said, attempt)

    async def reject(self, by: Actor, task_id: str, reason: str = "") -> Task:
        return await self._review(
            by, task_id, TaskState.REJECTED, lambda old: replace(old, rejected_by=by.name, reason=reason[:2000])
        )

    async def applied(self, by: Actor, task_id: str) -> Task:
        """Its diff is where it belongs."""
        return await self._review(by, task_id, TaskState.APPLIED, lambda old: old)

    async def archive(self, by: Actor, task_id: str, *, archived: bool = True) -> Task:
        await self.get(by, task_id)
        await self._change(task_id, lambda record, body: (replace(record, archived=archived), body))
        return await self.get(by, task_id)

    async def log(self, by: Actor, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]:
        """Lines after the cursor. Raises NoSuchTask."""
        await self.get(by, task_id)
        return await self._tasks.log(task_id, after, limit)

    # what workers tell

    async def settle(self, task_id: str) -> Task:
        """The state as the attempts say it now. Raises NoSuchTask."""
        found: list[tuple[TaskState, TaskState]] = []

        async def look() -> tuple[TaskState, Ended | None]:
            attempts = [self._shown(one) for one in await self._tasks.attempts(task_id)]
            record = await self._tasks.task(task_id)
            state = record.state if record is not None else TaskState.FAILED
            progress = [Progress(one.record.state, one.body.phase, _ended(one)) for one in attempts]
            return state_of(state, progress)

        wanted, ended = await look()

        def change(record: TaskRecord, body: TaskBody) -> tuple[TaskRecord, TaskBody]:
            found.append((record.state, wanted))
            if record.state is wanted or record.state not in WORKED_ON:
                return record, body
            over = wanted not in WORKED_ON
            body = replace(body, ended=ended, ended_at_s=self._clock.now_s() if over else None)
            return replace(record, state=wanted), body

        await self._change(task_id, change)
        task = await self.get(Actor("worker", None), task_id)
        before, after = found[-1]
        if before is not after and task.record.state is after:
            await self._tell(task, after.value)
        return task

    async def note(self, task_id: str, attempt: int, events: Sequence[RunEvent]) -> int:
        """Adds lines to the task's log; the last number."""
        return await self._tasks.append_log([LogLine(task_id, attempt, msgspec.json.encode(one)) for one in events])

    async def sweep(self, retention_s: float) -> int:
        """Removes tasks that ended longer ago than that, with their files; how many."""
        removed, before = 0, None
        while page := await self._tasks.tasks(
            TaskFilter(states=tuple(ENDED | {TaskState.READY, TaskState.APPROVED}), archived=None, before_id=before)
        ):
            before = page[-1].id
            for record in page:
                if record.updated_at_s < self._clock.now_s() - retention_s:
                    await self._results.remove(f"{record.tenant_id}/{record.id}")
                    removed += await self._tasks.remove_task(record.id)
        return removed

    # within

    async def _check(self, by: Actor, spec: TaskSpec) -> None:
        _check_prompt(spec.prompt)
        if not 1 <= spec.attempts <= ATTEMPTS_MAX:
            raise BadTask("attempts", f"1 to {ATTEMPTS_MAX} attempts run side by side")
        if isinstance(spec.source, ArchiveSource):
            mine = spec.source.blob.startswith(f"{by.tenant_id}/")
            if not mine or await self._results.size(spec.source.blob) is None:
                raise BadTask("source", "there is no such upload")

    def _attempt(self, task: TaskRecord, number: int, body: AttemptBody) -> AttemptRecord:
        now_s = self._clock.now_s()
        return AttemptRecord(
            task.id, number, task.tenant_id, AttemptState.QUEUED, write_attempt(body), created_at_s=now_s
        )

    async def _again(self, by: Actor, task_id: str, body: AttemptBody) -> Task:
        task = await self.get(by, task_id)
        check_move(task.record.state, TaskState.QUEUED)
        number = max((one.record.number for one in task.attempts), default=0) + 1
        try:
            await self._tasks.add_attempt(self._attempt(task.record, number, body))
        except Conflict:
            raise BadTask("task", "somebody else has just asked for another attempt") from None

        def change(record: TaskRecord, body: TaskBody) -> tuple[TaskRecord, TaskBody]:
            fresh = replace(body, ended=None, ended_at_s=None, chosen=None, review=Review())
            return replace(record, state=TaskState.QUEUED), fresh

        await self._change(task_id, change)
        task = await self.get(by, task_id)
        await self._tell(task, TaskState.QUEUED.value)
        return task

    async def _review(
        self,
        by: Actor,
        task_id: str,
        wanted: TaskState | None,
        said: Callable[[Review], Review],
        attempt: int | None = None,
    ) -> Task:
        await self.get(by, task_id)

        def change(record: TaskRecord, body: TaskBody) -> tuple[TaskRecord, TaskBody]:
            check_move(record.state, wanted or TaskState.APPROVED)
            chosen = attempt if attempt is not None else body.chosen
            body = replace(body, review=said(body.review), chosen=chosen)
            return replace(record, state=wanted or record.state), body

        await self._change(task_id, change)
        task = await self.get(by, task_id)
        await self._tell(task, wanted.value if wanted is not None else "reviewed")
        return task

    async def _change(
        self, task_id: str, change: Callable[[TaskRecord, TaskBody], tuple[TaskRecord, TaskBody]]
    ) -> None:
        """Compare-and-put until it holds; nothing is written when nothing is different. Raises NoSuchTask."""
        for _ in range(TRIES):
            old = await self._tasks.task(task_id)
            if old is None:
                raise NoSuchTask("there is no such task")
            record, body = change(old, read_task(old.body))
            new = replace(record, body=write_task(body))
            if new == old:
                return
            try:
                await self._tasks.put_task(replace(new, updated_at_s=self._clock.now_s()), old.version)
            except Conflict:
                continue
            except NotFound:
                raise NoSuchTask("there is no such task") from None
            return
        raise BadTask("task", "it is being changed by too many at once; try again")

    async def _whole(self, record: TaskRecord) -> Task:
        shown = [self._shown(one) for one in await self._tasks.attempts(record.id)]
        results = [(one.record.number, one.body.result) for one in shown if one.body.result is not None]
        verdicts = {one.number: one for one in judge(results)}
        attempts = tuple(replace(one, verdict=verdicts.get(one.record.number)) for one in shown)
        return Task(record, read_task(record.body), attempts)

    def _shown(self, record: AttemptRecord) -> Attempt:
        return Attempt(record, read_attempt(record.body))

    async def _tell(self, task: Task, what: str) -> None:
        event = RunEvent(0, self._clock.now_s(), "worker", f"task.{what}", {"state": task.record.state.value})
        await self.note(task.record.id, 0, [event])
        if task.body.spec.mode is None:  # of a synchronous run only the caller on the line hears
            self._notify(f"task.{what}", task)


def _ended(attempt: Attempt) -> Ended | None:
    if attempt.record.state is not AttemptState.ENDED:
        return None
    if attempt.body.result is not None:
        return attempt.body.result.ended
    return Ended.CANCELLED if attempt.record.cancel else Ended.LOST


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise BadTask("prompt", "say what is to be done")
    if len(prompt.encode()) > PROMPT_MAX:
        raise BadTask("prompt", f"at most {PROMPT_MAX // 1024} KiB")
