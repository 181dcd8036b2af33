"""A run is a task that no list shows, that goes first, that is cancelled when nobody waits, and that leaves nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from auth.types import Caller
from gateway.x_codex.queued import PAGE, SETTLE_S, RunQueue
from sandbox.bodies import AttemptBody, read_task, write_attempt
from sandbox.results import ResultsUnavailable
from sandbox.types import Ended, RunEvent, RunLevel, RunMode, RunResult, TaskSpec
from store.errors import StoreError
from store.memory_tasks import MemoryTaskStore
from store.records import Limits
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState
from tests.fakes.clock import FakeClock

CALLER = Caller("tenant", "tenant", "key1", frozenset(), (), (), Limits(), Limits())
SPEC = TaskSpec("do it", "gpt-5.5", "env_1", mode=RunMode(RunLevel.READ_ONLY, False, 60.0))


@dataclass
class Removed:
    """The one method of a ResultStore that is used."""

    keys: list[str] = field(default_factory=list)
    away: bool = False

    async def remove(self, key: str) -> int:
        if self.away:
            raise ResultsUnavailable("the disk is gone")
        self.keys.append(key)
        return 0


class Away(MemoryTaskStore):
    away = False

    async def cancel_attempts(self, task_id: str) -> int:
        if self.away:
            raise StoreError("the store does not answer")
        return await super().cancel_attempts(task_id)


@dataclass
class House:
    clock: FakeClock = field(default_factory=FakeClock)
    removed: Removed = field(default_factory=Removed)

    def __post_init__(self) -> None:
        self.tasks = Away(self.clock)
        results: Any = self.removed
        self.queue = RunQueue(self.tasks, lambda: results, self.clock)

    async def lease(self) -> AttemptRecord:
        found = await self.tasks.lease_attempt("worker", 30, 4)
        assert found is not None
        return found

    async def end(self, leased: AttemptRecord, ended: Ended, state: TaskState | None = TaskState.READY) -> None:
        body = write_attempt(AttemptBody(result=RunResult(ended)))
        await self.tasks.put_attempt(replace(leased, state=AttemptState.ENDED, body=body))
        task = await self.tasks.task(leased.task_id)
        assert task is not None
        if state is not None:
            await self.tasks.put_task(replace(task, state=state), task.version)

    async def log(self, task_id: str, *bodies: bytes) -> None:
        await self.tasks.append_log([LogLine(task_id, 1, body) for body in bodies])


def line(seq: int) -> bytes:
    return msgspec.json.encode(RunEvent(seq, 1.0, "codex", "codex.turn.started", {}))


async def test_no_list_shows_it_and_it_goes_first() -> None:
    house = House()
    now_s = house.clock.now_s()
    ordinary = TaskRecord("task_a", "tenant", "env_1", TaskState.QUEUED, b"", created_at_s=now_s)
    await house.tasks.add_task(
        ordinary, [AttemptRecord("task_a", 1, "tenant", AttemptState.QUEUED, b"", created_at_s=now_s)]
    )
    house.clock.advance(5)
    task_id = await house.queue.add(CALLER, SPEC)
    assert [task.id for task in await house.tasks.tasks(TaskFilter(tenant_id="tenant"))] == ["task_a"]
    assert (await house.lease()).task_id == task_id
    task = await house.tasks.task(task_id)
    assert task is not None
    assert (task.tenant_id, task.environment_id, task.archived) == ("tenant", "env_1", True)
    assert read_task(task.body).spec == SPEC
    assert read_task(task.body).created_by == "key:key1"


async def test_a_look_tells_what_is_new() -> None:
    house = House()
    task_id = await house.queue.add(CALLER, SPEC)
    look = await house.queue.look(task_id, 0)
    assert (look.begun, look.lines, look.more, look.result) == (False, (), False, None)
    leased = await house.lease()
    await house.log(task_id, line(1), b"of another release", line(2))
    look = await house.queue.look(task_id, look.after)
    assert (look.begun, [one.seq for one in look.lines], look.after) == (True, [1, 2], 3)
    await house.log(task_id, *[line(n) for n in range(PAGE + 1)])
    await house.end(leased, Ended.DONE)
    look = await house.queue.look(task_id, look.after)
    assert (len(look.lines), look.more) == (PAGE, True)
    look = await house.queue.look(task_id, look.after)
    assert (len(look.lines), look.more) == (1, False)
    assert look.result == RunResult(Ended.DONE)


async def test_how_a_run_without_a_result_ended_is_known() -> None:
    house = House()
    assert (await house.queue.look("task_gone", 0)).result == RunResult(Ended.LOST)
    task_id = await house.queue.add(CALLER, SPEC)
    await house.queue.leave(task_id)
    assert (await house.queue.look(task_id, 0)).result == RunResult(Ended.CANCELLED)


async def test_a_run_that_has_settled_is_removed_with_its_files() -> None:
    house = House()
    task_id = await house.queue.add(CALLER, SPEC)
    await house.end(await house.lease(), Ended.DONE)
    await house.queue.leave(task_id)
    house.removed.away = True
    await house.queue.step()
    assert await house.tasks.task(task_id) is not None
    house.removed.away = False
    await house.queue.step()
    assert await house.tasks.task(task_id) is None
    assert house.removed.keys == [f"tenant/{task_id}"]
    await house.queue.step()
    assert len(house.removed.keys) == 1


async def test_a_running_one_is_cancelled_and_stays_until_its_worker_is_done() -> None:
    house = House()
    task_id = await house.queue.add(CALLER, SPEC)
    leased = await house.lease()
    await house.queue.leave(task_id)
    assert (await house.tasks.attempts(task_id))[0].cancel
    house.clock.advance(SETTLE_S * 2)
    await house.queue.step()
    assert await house.tasks.task(task_id) is not None
    await house.end(leased, Ended.CANCELLED, TaskState.CANCELLED)
    await house.queue.step()
    assert await house.tasks.task(task_id) is None


async def test_one_that_no_worker_settles_goes_after_a_while() -> None:
    house = House()
    task_id = await house.queue.add(CALLER, SPEC)
    await house.queue.leave(task_id)
    await house.queue.step()
    assert await house.tasks.task(task_id) is not None
    house.clock.advance(SETTLE_S)
    await house.queue.step()
    assert await house.tasks.task(task_id) is None


async def test_a_store_that_is_away_is_asked_again() -> None:
    house = House()
    task_id = await house.queue.add(CALLER, SPEC)
    await house.lease()
    house.tasks.away = True
    await house.queue.leave(task_id)
    assert not (await house.tasks.attempts(task_id))[0].cancel
    house.tasks.away = False
    await house.queue.step()
    assert (await house.tasks.attempts(task_id))[0].cancel
