"""Workers beside each other, after each other, and told to stop: every attempt ends once, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from sandbox.bodies import read_attempt
from sandbox.run import AttemptRun
from sandbox.run_lease import Lease, LeaseLost
from sandbox.types import Ended
from sandbox.worker import REAP_S
from store.errors import StoreUnavailable
from store.task_records import AttemptState, TaskState
from tests.fakes.engine import FakeEngine, Inside
from tests.sandbox.worker_rig import ANN, LEASE_S, PATCH, SPEC, Rig, good, until_stopped


class Gate:
    """Agents wait at it; set-ups and judges pass."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.waiting = 0
        self.most = 0

    async def __call__(self, inside: Inside) -> int:
        if inside.step != "agent":
            return await good(inside)
        inside.say("codex.begun")
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.open.wait()
        self.waiting -= 1
        return await good(inside)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig(Gate())
    yield rig
    await rig.close()


def gate(rig: Rig) -> Gate:
    assert isinstance(rig.engine.script, Gate)
    return rig.engine.script


async def test_three_attempts_run_side_by_side_and_are_ranked(rig: Rig) -> None:
    async def script(inside: Inside) -> int:
        if inside.step == "judge":
            return inside.end(tests_passed=inside.labels["codex-relay.attempt"] == "2")
        return await at_gate(inside)

    at_gate = gate(rig)
    rig.engine.script = script
    rig.environments.known["env_1"] = replace(rig.environments.known["env_1"], test_command="make test")
    rig.begin()
    task = await rig.service.create(ANN, replace(SPEC, attempts=3))
    await rig.until(lambda: at_gate.waiting == 3)
    at_gate.open.set()
    task = await rig.over(task)
    assert task.record.state is TaskState.READY
    assert task.best is not None
    assert task.best.record.number == 2
    assert len({one.told["secrets"]["task_key"] for one in rig.engine.made if one.step == "agent"}) == 3


async def test_no_more_run_at_once_than_the_worker_and_the_tenant_may(rig: Rig) -> None:
    rig.begin(max_tasks=2)
    tasks = [await rig.service.create(ANN, SPEC) for _ in range(5)]
    await rig.until(lambda: gate(rig).waiting == 2)
    for _ in range(20):
        await rig.until(lambda: True)
        rig.clock.advance(0.1)
    assert gate(rig).most == 2
    gate(rig).open.set()
    for task in tasks:
        assert (await rig.over(task)).record.state is TaskState.READY
    assert gate(rig).most == 2


async def test_a_worker_killed_in_mid_task_is_followed_by_another_that_does_it_once(rig: Rig) -> None:
    first = rig.begin("w1")
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: gate(rig).waiting == 1)
    first.cancel()
    other = FakeEngine(good, rig.clock)
    rig.begin("w2", other)
    await rig.until(lambda: bool(other.made), step_s=1.0)
    await rig.until(lambda: not other.there)
    task = await rig.service.get(ANN, task.record.id)
    assert task.record.state is TaskState.READY
    assert task.attempts[0].record.worker == "w2"
    assert (await rig.kinds(task)).count("task.ready") == 1
    gate(rig).open.set()
    rig.clock.advance(REAP_S)
    again = rig.begin("w1")  # its old container belongs to nobody now
    await rig.until(lambda: not rig.engine.there)
    again.cancel()
    assert [one.step for one in rig.engine.made] == ["checkout", "agent"]
    assert (await rig.kinds(task)).count("task.ready") == 1


async def test_a_restarted_worker_adopts_what_went_on_without_it(rig: Rig) -> None:
    first = rig.begin("w1")
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: gate(rig).waiting == 1)
    await rig.until(lambda: len(rig.tasks._logs[task.record.id]) >= 5)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate(rig).open.set()  # the container ends while nobody looks
    await rig.until(lambda: rig.agent is not None and rig.agent.exit is not None)
    rig.begin("w1")
    task = await rig.over(task, step_s=0.5)
    assert task.record.state is TaskState.READY
    assert [one.step for one in rig.engine.made] == ["checkout", "agent"]
    assert await rig.file(task, 1, "diff.patch") == PATCH
    assert await rig.file(task, 1, "prompt.txt") == SPEC.prompt.encode()
    kinds = await rig.kinds(task)
    assert [kinds.count(one) for one in ("codex.begun", "codex.began", "worker.adopted")] == [1, 2, 1]
    assert rig.keys.minted == 1
    assert rig.keys.alive == {}


async def test_a_cancel_that_came_while_no_worker_lived_still_keeps_the_diff(rig: Rig) -> None:
    rig.engine.script = until_stopped
    first = rig.begin("w1")
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.agent is not None and bool(rig.agent.lines))
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await rig.service.cancel(ANN, task.record.id)
    rig.begin("w1")
    task = await rig.over(task, step_s=0.5)
    assert task.record.state is TaskState.CANCELLED
    assert await rig.file(task, 1, "diff.patch") == PATCH


async def test_a_lease_that_another_took_is_written_by_the_other_alone(rig: Rig) -> None:
    """The first worker's renewals do not go through, the second one takes over, then both come to an end."""
    task = await rig.service.create(ANN, SPEC)
    slow = rig.worker("w1")
    real = rig.tasks.renew_lease

    async def no_answer(attempt: object, ttl_s: float) -> None:
        raise StoreUnavailable("the store does not answer")

    rig.tasks.renew_lease = no_answer  # type: ignore[method-assign]
    rig.workers.append(asyncio.create_task(slow.run(asyncio.Event())))
    await rig.until(lambda: gate(rig).waiting == 1)
    rig.clock.advance(LEASE_S + 1)
    rig.tasks.renew_lease = real  # type: ignore[method-assign]
    taken = await rig.tasks.lease_attempt("w2", LEASE_S, 9)
    assert taken is not None
    other = FakeEngine(good, rig.clock)
    run = asyncio.create_task(AttemptRun(rig.tools("w2", other), rig.service, taken, LEASE_S).run())
    await rig.until(run.done)
    gate(rig).open.set()
    await rig.until(lambda: slow.running == 0)
    (record,) = await rig.tasks.attempts(task.record.id)
    assert (record.worker, record.state) == ("w2", AttemptState.ENDED)
    assert (await rig.kinds(task)).count("task.ready") == 1


async def test_an_attempt_that_ends_its_workers_is_given_up(rig: Rig) -> None:
    task = await rig.service.create(ANN, SPEC)
    for _ in range(4):
        await rig.tasks.lease_attempt("w9", 1, 9)
        rig.clock.advance(2)
    rig.begin()
    task = await rig.over(task)
    assert task.body.ended is Ended.LOST
    assert rig.engine.made == []


async def test_told_to_stop_it_finishes_what_runs_and_takes_no_more(rig: Rig) -> None:
    stop = asyncio.Event()
    worker = asyncio.create_task(rig.worker().run(stop))
    rig.workers.append(worker)
    first = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: gate(rig).waiting == 1)
    stop.set()
    await rig.until(lambda: True)
    second = await rig.service.create(ANN, SPEC)
    gate(rig).open.set()
    assert (await rig.over(first)).record.state is TaskState.READY
    await rig.until(worker.done)
    assert (await rig.service.get(ANN, second.record.id)).record.state is TaskState.QUEUED


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_does_not_end_within_the_drain_is_left_for_adoption(rig: Rig, *, hurried: bool) -> None:
    stop, quick = asyncio.Event(), asyncio.Event()
    worker = asyncio.create_task(rig.worker().run(stop, quick))
    rig.workers.append(worker)
    task = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: gate(rig).waiting == 1)
    stop.set()
    if hurried:
        quick.set()
    began_s = rig.clock.monotonic_s()
    await rig.until(worker.done)
    assert (rig.clock.monotonic_s() - began_s < 1) is hurried
    assert [one.step for one in rig.engine.there.values()] == ["checkout", "agent"]
    assert len(rig.keys.alive) == 1
    gate(rig).open.set()
    rig.begin()
    assert (await rig.over(task, step_s=0.5)).record.state is TaskState.READY
    assert [one.step for one in rig.engine.made] == ["checkout", "agent"]


async def test_a_broken_engine_does_not_eat_the_queue(rig: Rig) -> None:
    gate(rig).open.set()
    rig.engine.go_away()
    rig.begin(max_tasks=1)
    first = await rig.service.create(ANN, SPEC)
    rig.clock.advance(1)
    second = await rig.service.create(ANN, SPEC)
    await rig.until(lambda: rig.told.count("task.failed") == 1)
    for _ in range(100):
        await rig.until(lambda: True)
        rig.clock.advance(0.5)
    assert (await rig.service.get(ANN, second.record.id)).record.state is TaskState.QUEUED
    rig.engine.come_back()
    assert (await rig.over(second)).record.state is TaskState.READY
    assert (await rig.service.get(ANN, first.record.id)).body.ended is Ended.ENGINE


async def test_a_store_that_is_away_for_a_moment_stops_nobody(rig: Rig) -> None:
    real = rig.tasks.lease_attempt
    left = [3]

    async def lease(worker: str, ttl_s: float, per_tenant: int) -> object:
        left[0] -= 1
        if left[0] >= 0:
            raise StoreUnavailable("the store does not answer")
        return await real(worker, ttl_s, per_tenant)

    rig.tasks.lease_attempt = lease  # type: ignore[method-assign, assignment]
    gate(rig).open.set()
    rig.begin()
    assert (await rig.over(await rig.service.create(ANN, SPEC))).record.state is TaskState.READY


async def test_a_lease_is_kept_by_renewing_and_refuses_to_write_when_lost(rig: Rig) -> None:
    await rig.service.create(ANN, SPEC)
    record = await rig.tasks.lease_attempt("w1", LEASE_S, 9)
    assert record is not None
    lease = Lease(rig.tasks, record, LEASE_S, rig.clock)
    keeping = asyncio.create_task(lease.keep())
    began_s = rig.clock.now_s()
    await rig.until(lambda: rig.clock.now_s() - began_s > 3 * LEASE_S, step_s=0.5)
    assert not lease.lost.is_set()
    assert await rig.tasks.lease_attempt("w2", LEASE_S, 9) is None
    rig.clock.advance(LEASE_S + 1)  # it slept through all of it
    assert await rig.tasks.lease_attempt("w2", LEASE_S, 9) is not None
    await rig.until(lease.lost.is_set)
    with pytest.raises(LeaseLost):
        await lease.put(read_attempt(record.body), ended=True)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
