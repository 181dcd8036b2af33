"""Tasks, attempts and logs: what every store promises about the work of the sandbox."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.base import Store, TaskStore
from store.errors import Conflict, NotFound
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState
from tests.fakes.clock import FakeClock


@pytest.fixture
def tasks(store: Store) -> TaskStore:
    return store.task_store()


@pytest.fixture
def others(other: Store) -> TaskStore:
    """The same tasks as another process sees them."""
    return other.task_store()


def make(task_id: str = "t1", tenant: str = "acme", **fields: object) -> TaskRecord:
    made = TaskRecord(
        task_id, tenant, "env", TaskState.QUEUED, b'{"prompt":"fix"}', created_at_s=float(ord(task_id[-1]))
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def attempt(task: TaskRecord, number: int = 1) -> AttemptRecord:
    return AttemptRecord(
        task.id, number, task.tenant_id, AttemptState.QUEUED, b"{}", created_at_s=task.created_at_s + number / 10
    )


async def added(tasks: TaskStore, *names: str, tenant: str = "acme") -> None:
    for name in names:
        task = make(name, tenant)
        await tasks.add_task(task, [attempt(task)])


async def test_a_task_and_its_attempts_come_together(tasks: TaskStore, others: TaskStore) -> None:
    task = make()
    stored = await tasks.add_task(task, [attempt(task, 1), attempt(task, 2)])
    assert await others.task("t1") == stored == task
    assert await others.attempts("t1") == (attempt(task, 1), attempt(task, 2))
    with pytest.raises(Conflict):
        await others.add_task(replace(task, idempotency="x"), [])


async def test_a_repeated_creation_gives_the_first_task(tasks: TaskStore, others: TaskStore) -> None:
    first = await tasks.add_task(make("t1", idempotency="k"), [])
    assert await others.add_task(make("t2", idempotency="k"), []) == first
    assert await tasks.task("t2") is None
    theirs = await tasks.add_task(make("t3", "other", idempotency="k"), [])
    assert theirs.id == "t3"


async def test_a_list_is_newest_first_filtered_and_paged(tasks: TaskStore) -> None:
    await added(tasks, "t1", "t2", "t3")
    await added(tasks, "t4", tenant="other")
    task = await tasks.task("t2")
    assert task is not None
    await tasks.put_task(replace(task, state=TaskState.READY), task.version)
    ids = [one.id for one in await tasks.tasks(TaskFilter(tenant_id="acme"))]
    assert ids == ["t3", "t2", "t1"]
    assert [one.id for one in await tasks.tasks(TaskFilter("acme", limit=1, before_id="t3"))] == ["t2"]
    assert [one.id for one in await tasks.tasks(TaskFilter(states=(TaskState.READY,)))] == ["t2"]
    assert await tasks.tasks(TaskFilter(environment_id="none")) == ()
    assert await tasks.tasks(TaskFilter(archived=True)) == ()
    assert await tasks.count_tasks("acme", [TaskState.QUEUED]) == 2


async def test_a_put_compares_the_version(tasks: TaskStore, others: TaskStore) -> None:
    first = await tasks.add_task(make(), [])
    second = await others.put_task(replace(first, state=TaskState.RUNNING, body=b"2"), first.version)
    assert (second.version, await tasks.task("t1")) == (2, second)
    with pytest.raises(Conflict):
        await tasks.put_task(first, first.version)
    with pytest.raises(NotFound):
        await tasks.put_task(make("t9"), 1)


async def test_one_worker_gets_an_attempt_and_the_oldest_goes_first(tasks: TaskStore, others: TaskStore) -> None:
    await added(tasks, "t2", "t1")
    mine, theirs = await tasks.lease_attempt("w1", 30, 9), await others.lease_attempt("w2", 30, 9)
    assert mine is not None
    assert theirs is not None
    assert (mine.task_id, theirs.task_id) == ("t1", "t2")
    assert (mine.state, mine.worker, mine.fence, mine.leases) == (AttemptState.LEASED, "w1", 1, 1)
    assert await tasks.lease_attempt("w3", 30, 9) is None


async def test_a_lease_that_ran_out_is_anothers_and_the_first_worker_is_fenced_off(
    tasks: TaskStore, others: TaskStore, clock: FakeClock
) -> None:
    await added(tasks, "t1")
    first = await tasks.lease_attempt("w1", 30, 9)
    assert first is not None
    clock.advance(29)
    renewed = await tasks.renew_lease(first, 30)
    assert renewed is not None
    clock.advance(29)
    assert await others.lease_attempt("w2", 30, 9) is None
    clock.advance(1)
    second = await others.lease_attempt("w2", 30, 9)
    assert second is not None
    assert (second.fence, second.leases, second.worker) == (2, 2, "w2")
    assert await tasks.renew_lease(renewed, 30) is None
    with pytest.raises(Conflict):
        await tasks.put_attempt(replace(renewed, state=AttemptState.ENDED))
    done = await others.put_attempt(replace(second, state=AttemptState.ENDED, body=b"done"))
    assert (done.state, done.body) == (AttemptState.ENDED, b"done")
    clock.advance(1000)
    assert await tasks.lease_attempt("w3", 30, 9) is None


async def test_a_tenant_has_so_many_leases_at_most(tasks: TaskStore, clock: FakeClock) -> None:
    await added(tasks, "t1", "t2")
    await added(tasks, "t3", tenant="other")
    assert [one and one.task_id for one in [await tasks.lease_attempt("w", 30, 1) for _ in range(3)]] == [
        "t1",
        "t3",
        None,
    ]
    clock.advance(30)
    again = await tasks.lease_attempt("w", 30, 1)
    assert again is not None
    assert again.task_id == "t1"


async def test_cancelling_ends_what_waits_and_asks_what_runs(tasks: TaskStore, others: TaskStore) -> None:
    task = make()
    await tasks.add_task(task, [attempt(task, 1), attempt(task, 2)])
    running = await tasks.lease_attempt("w1", 30, 9)
    assert running is not None
    assert await others.cancel_attempts("t1") == 2
    asked = await tasks.renew_lease(running, 30)
    assert asked is not None
    assert asked.cancel
    assert [one.state for one in await tasks.attempts("t1")] == [AttemptState.LEASED, AttemptState.ENDED]
    assert await tasks.lease_attempt("w1", 30, 9) is None


async def test_a_further_attempt_is_queued(tasks: TaskStore) -> None:
    await added(tasks, "t1")
    task = await tasks.task("t1")
    assert task is not None
    await tasks.add_attempt(attempt(task, 2))
    with pytest.raises(Conflict):
        await tasks.add_attempt(attempt(task, 2))
    with pytest.raises(NotFound):
        await tasks.add_attempt(attempt(make("t8")))
    assert len(await tasks.attempts("t1")) == 2


async def test_a_log_is_numbered_over_the_whole_task_and_read_from_a_cursor(
    tasks: TaskStore, others: TaskStore
) -> None:
    await added(tasks, "t1", "t2")
    assert await tasks.append_log([LogLine("t1", 1, b"a"), LogLine("t1", 2, b"b"), LogLine("gone", 1, b"x")]) == 2
    assert await others.append_log([LogLine("t1", 1, b"c")]) == 3
    assert [(one.number, one.attempt, one.body) for one in await tasks.log("t1", 0, 9)] == [
        (1, 1, b"a"),
        (2, 2, b"b"),
        (3, 1, b"c"),
    ]
    assert [one.body for one in await others.log("t1", 1, 1)] == [b"b"]
    assert await tasks.log("t2", 0, 9) == ()


async def test_a_removed_task_takes_everything_along(tasks: TaskStore) -> None:
    await added(tasks, "t1")
    await tasks.append_log([LogLine("t1", 1, b"a")])
    assert await tasks.remove_task("t1")
    assert not await tasks.remove_task("t1")
    assert await tasks.attempts("t1") == ()
    assert await tasks.log("t1", 0, 9) == ()
    assert await tasks.lease_attempt("w", 30, 9) is None
