"""What may be done with a task, by whom, and what becomes of it; over every kind of store that needs no server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sandbox.bodies import read_attempt, write_attempt
from sandbox.results import LocalResults, pieces
from sandbox.service import (
    Actor,
    BadTask,
    NoSuchTask,
    NotYours,
    QueueFull,
    Task,
    TaskRules,
    TaskService,
)
from sandbox.states import WrongState
from sandbox.types import ArchiveSource, Ended, Phase, RunEvent, RunLevel, RunMode, RunResult, TaskSpec
from store.base import TaskStore
from store.memory import MemoryStore
from store.task_records import AttemptState, TaskFilter, TaskState
from tests.fakes.clock import FakeClock

ANN, BOB, EVE = Actor("ann", "acme"), Actor("bob", "acme"), Actor("eve", "other")
SPEC = TaskSpec("fix the bug", "gpt-5.5", "env_1", attempts=2)


class Rig:
    def __init__(self, folder: Path, rules: TaskRules | None = None) -> None:
        self.clock = FakeClock()
        self.tasks: TaskStore = MemoryStore(self.clock).task_store()
        self.results = LocalResults(folder)
        self.told: list[str] = []
        self.service = TaskService(
            self.tasks, self.results, self.clock, rules or TaskRules(), lambda what, task: self.told.append(what)
        )

    async def work(self, ended: Ended | None, *, phase: Phase = Phase.AGENT, **fields: object) -> None:
        """A worker takes the next attempt, and ends it unless ``ended`` is None."""
        leased = await self.tasks.lease_attempt("w", 30, 99)
        assert leased is not None
        body = replace(read_attempt(leased.body), phase=phase)
        state = leased.state
        if ended is not None:
            state, body = AttemptState.ENDED, replace(body, result=replace(RunResult(ended), **fields))  # type: ignore[arg-type]
        await self.tasks.put_attempt(replace(leased, state=state, body=write_attempt(body)))
        await self.service.settle(leased.task_id)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def state(task: Task) -> TaskState:
    return task.record.state


async def ready(rig: Rig) -> Task:
    task = await rig.service.create(ANN, SPEC)
    await rig.work(Ended.DONE, tests_passed=False, files_changed=1, lines_added=1)
    await rig.work(Ended.DONE, tests_passed=True, files_changed=1, lines_added=50, thread_id="th")
    return await rig.service.get(ANN, task.record.id)


async def test_a_task_goes_its_way_and_the_judge_has_a_word(rig: Rig) -> None:
    task = await rig.service.create(ANN, SPEC)
    assert (state(task), len(task.attempts), task.body.title) == (TaskState.QUEUED, 2, "fix the bug")
    await rig.work(None, phase=Phase.SETUP)
    assert state(await rig.service.get(ANN, task.record.id)) is TaskState.SETTING_UP
    await rig.work(Ended.DONE)
    assert state(await rig.service.get(ANN, task.record.id)) is TaskState.SETTING_UP
    rig.clock.advance(31)
    await rig.work(Ended.DONE, tests_passed=True, lines_added=3, files_changed=1)
    task = await rig.service.get(ANN, task.record.id)
    assert state(task) is TaskState.READY
    assert task.best is not None
    assert task.best.verdict is not None
    assert (task.best.record.number, task.best.verdict.reasons[0]) == (1, "its tests pass")
    assert rig.told == ["task.created", "task.setting_up", "task.ready"]
    kinds = [msgspec.json.decode(line.body, type=RunEvent).kind for line in await rig.tasks.log(task.record.id, 0, 99)]
    assert kinds == rig.told


async def test_another_tenants_task_is_no_task(rig: Rig) -> None:
    task = await ready(rig)
    service, task_id = rig.service, task.record.id
    for call in (service.get, service.cancel, service.retry, service.claim, service.approve, service.reject,
                 service.applied, service.archive):  # fmt: skip
        with pytest.raises(NoSuchTask):
            await call(EVE, task_id)
    with pytest.raises(NoSuchTask):
        await service.log(EVE, task_id, 0, 10)
    with pytest.raises(NoSuchTask):
        await service.follow_up(EVE, task_id, "more")
    with pytest.raises(NoSuchTask):
        await service.create(EVE, replace(SPEC, thread_of=task_id))
    assert await service.find(EVE, TaskFilter(tenant_id="acme")) == ()
    assert [one.record.id for one in await service.find(Actor("root", None), TaskFilter())] == [task_id]


async def test_the_same_wish_twice_is_one_task(rig: Rig) -> None:
    first = await rig.service.create(ANN, SPEC, "k1")
    again = await rig.service.create(BOB, SPEC, "k1")
    theirs = await rig.service.create(EVE, SPEC, "k1")
    assert again.record.id == first.record.id != theirs.record.id
    assert rig.told == ["task.created", "task.created"]


async def test_wishes_that_cannot_be_are_refused_with_the_field(rig: Rig) -> None:
    for spec, field in (
        (replace(SPEC, prompt=" "), "prompt"),
        (replace(SPEC, prompt="x" * 300_000), "prompt"),
        (replace(SPEC, attempts=5), "attempts"),
        (replace(SPEC, attempts=0), "attempts"),
        (replace(SPEC, source=ArchiveSource("acme/uploads/none", "a.zip")), "source"),
        (replace(SPEC, source=ArchiveSource("other/uploads/u1", "a.zip")), "source"),
    ):
        await rig.results.put("other/uploads/u1", pieces(b"x"), 10)
        with pytest.raises(BadTask) as caught:
            await rig.service.create(ANN, spec)
        assert caught.value.field == field
    with pytest.raises(BadTask):
        await rig.service.create(Actor("root", None), SPEC)


async def test_a_queue_has_an_end(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TaskRules(queue_max=2))
    for _ in range(2):
        await rig.service.create(ANN, SPEC)
    with pytest.raises(QueueFull):
        await rig.service.create(ANN, SPEC)
    await rig.service.create(EVE, SPEC)


async def test_cancelling_ends_what_waits_and_keeps_what_was_reached(rig: Rig) -> None:
    task = await rig.service.create(ANN, SPEC)
    await rig.work(None)
    task = await rig.service.cancel(BOB, task.record.id)
    assert state(task) is TaskState.RUNNING
    assert [one.record.cancel for one in task.attempts] == [True, True]
    leased = task.attempts[0].record
    body = replace(read_attempt(leased.body), result=RunResult(Ended.CANCELLED, files=(("diff.patch", "k"),)))
    await rig.tasks.put_attempt(replace(leased, state=AttemptState.ENDED, body=write_attempt(body)))
    task = await rig.service.settle(task.record.id)
    assert (state(task), task.body.ended) == (TaskState.CANCELLED, Ended.CANCELLED)
    with pytest.raises(WrongState):
        await rig.service.cancel(ANN, task.record.id)
    retried = await rig.service.retry(ANN, task.record.id)
    assert (state(retried), len(retried.attempts), retried.body.ended) == (TaskState.QUEUED, 3, None)


async def test_a_follow_up_goes_on_with_the_best_attempts_thread(rig: Rig) -> None:
    task = await ready(rig)
    task = await rig.service.follow_up(BOB, task.record.id, "now add a test")
    newest = task.attempts[-1].body
    assert (newest.prompt, newest.thread_id, newest.follows) == ("now add a test", "th", 2)
    fresh = await rig.service.create(ANN, SPEC)
    with pytest.raises(BadTask):
        await rig.service.follow_up(ANN, fresh.record.id, "more")


async def test_a_verdict_is_a_persons_and_stays(rig: Rig) -> None:
    task = await ready(rig)
    service, task_id = rig.service, task.record.id
    assert (await service.claim(BOB, task_id)).body.review.claimed_by == "bob"
    with pytest.raises(BadTask):
        await service.approve(BOB, task_id, 9)
    task = await service.approve(BOB, task_id, 1)
    assert (state(task), task.body.chosen) == (TaskState.APPROVED, 1)
    assert state(await service.settle(task_id)) is TaskState.APPROVED
    assert state(await service.applied(ANN, task_id)) is TaskState.APPLIED
    for call in (service.reject, service.approve, service.retry, service.cancel):
        with pytest.raises(WrongState):
            await call(ANN, task_id)


async def test_two_people_who_did_not_ask_for_it_must_say_yes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, TaskRules(two_persons=True))
    task = await ready(rig)
    with pytest.raises(NotYours):
        await rig.service.approve(ANN, task.record.id)
    for _ in range(2):
        assert state(await rig.service.approve(BOB, task.record.id)) is TaskState.READY
    assert state(await rig.service.approve(Actor("cy", "acme"), task.record.id)) is TaskState.APPROVED


async def test_a_rejected_task_may_be_tried_again(rig: Rig) -> None:
    task = await ready(rig)
    task = await rig.service.reject(BOB, task.record.id, "too big")
    assert (state(task), task.body.review.reason) == (TaskState.REJECTED, "too big")
    assert state(await rig.service.retry(ANN, task.record.id)) is TaskState.QUEUED


async def test_old_tasks_go_with_their_files(rig: Rig) -> None:
    old = await ready(rig)
    await rig.results.put(f"acme/{old.record.id}/1/diff.patch", pieces(b"x"), 10)
    rig.clock.advance(1000)
    await rig.service.create(ANN, SPEC)
    assert await rig.service.sweep(2000) == 0
    rig.clock.advance(1500)
    assert await rig.service.sweep(2000) == 1
    with pytest.raises(NoSuchTask):
        await rig.service.get(ANN, old.record.id)
    assert await rig.results.size(f"acme/{old.record.id}/1/diff.patch") is None


async def test_an_archived_task_leaves_the_list(rig: Rig) -> None:
    task = await ready(rig)
    await rig.service.archive(ANN, task.record.id)
    assert await rig.service.find(ANN, TaskFilter()) == ()
    assert len(await rig.service.find(ANN, TaskFilter(archived=True))) == 1


async def test_nobody_is_notified_of_a_synchronous_run(rig: Rig) -> None:
    mode = RunMode(RunLevel.READ_ONLY, network=False, wall_s=60.0)
    task = await rig.service.create(ANN, replace(SPEC, attempts=1, mode=mode))
    await rig.work(Ended.DONE)
    assert rig.told == []
    assert (await rig.service.get(ANN, task.record.id)).record.state is TaskState.READY
