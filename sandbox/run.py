"""From a leased attempt to its result: the one run of one attempt by one worker.

    adopt what an earlier life of this worker started, or: prepare -> agent
    -> files to the result store -> judge (when the environment has a test command)
    -> the key ends -> the result is written -> the task settles -> containers go

Rules that hold:

* a result is written once, under the fence of our lease; when the lease is lost nothing more is written and nothing
  is removed: what runs is the other worker's, or its reaper's;
* an engine that fails is tried again ``RETRIES`` times, each time by looking first what still runs there;
* an attempt that has been leased more than ``LEASES_MAX`` times ends as lost: something about it ends its workers;
* the result is written before the containers go, so that a death in between costs no work;
* cancelling ``run`` (the end of a drain) writes and removes nothing: the next life adopts what runs.

``run`` starts two tasks, the lease's renewal and the log's writer, and ends both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from ops.clock import Clock
from ops.log import get_logger
from sandbox import run_plan
from sandbox.bodies import read_attempt, read_task, without_token, write_task
from sandbox.engine import ContainerGone, EngineError, Found
from sandbox.modes import container_of
from sandbox.results import ResultsUnavailable, TooLarge, checked_key, pieces, whole
from sandbox.run_lease import Lease, LeaseLost
from sandbox.run_log import RunLog
from sandbox.run_plan import LABEL_STEP
from sandbox.run_setup import InputRefused, Prepared, Preparer
from sandbox.run_step import StepEnd, Stepper, Tools, is_ours, mine, remove_all
from sandbox.run_trees import session_of
from sandbox.types import Ended, EnvironmentSpec, GitSource, Phase, RunResult, TaskSpec
from store.errors import Conflict, NotFound
from store.task_records import AttemptRecord, AttemptState

RETRIES: Final = 2
RETRY_S: Final = 3.0
LEASES_MAX: Final = 4
FILE_BYTES: Final = 256 << 20
DIFF_BYTES: Final = 64 << 20
SESSION: Final = "session.tar"
_FAILING_TESTS: Final = frozenset({Ended.FAILED, Ended.TIMED_OUT, Ended.OUT_OF_MEMORY, Ended.LIMIT})


class Settling(Protocol):
    """What is asked of the service of tasks."""

    async def settle(self, task_id: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done, as it was read at the start."""

    spec: TaskSpec
    environment: EnvironmentSpec
    home: bytes | None


class AttemptRun:
    """See the module."""

    def __init__(self, tools: Tools, service: Settling, record: AttemptRecord, lease_s: float) -> None:
        self._tools = tools
        self._service = service
        self._clock: Clock = tools.clock
        self._lease = Lease(tools.tasks, record, lease_s, tools.clock)
        self._log = RunLog(tools.tasks, record.task_id, record.number, tools.clock)
        self._prefix = f"{record.tenant_id}/{record.task_id}/{record.number}"
        self._files: dict[str, str] = {}

    async def run(self) -> RunResult | None:
        """The result that was written; None when the attempt is another's now. Raises StoreError when the store went
        away: the lease runs out and somebody goes on."""
        beside = [asyncio.create_task(self._lease.keep()), asyncio.create_task(self._log.keep_writing())]
        try:
            result = await self._result()
            await self._finish(result)
        except LeaseLost:
            return None
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return result

    async def _result(self) -> RunResult:
        record = self._lease.record
        if record.leases > LEASES_MAX:
            return RunResult(Ended.LOST, f"given up: {record.leases - 1} workers were lost over it")
        fault = ""
        for turn in range(RETRIES + 1):
            if turn:
                await self._log.say("engine_fault", reason=fault, again_in_s=RETRY_S * turn)
                await self._clock.sleep(RETRY_S * turn)
            if self._lease.lost.is_set():
                raise LeaseLost
            try:
                return await self._once(turn)
            except ContainerGone:
                return RunResult(Ended.LOST, "its container was removed from outside", files=self._kept())
            except EngineError as error:
                fault = str(error)[:500]
            except (InputRefused, ValueError) as error:
                return RunResult(Ended.INPUT, str(error)[:500], files=self._kept())
            except TooLarge as error:
                return RunResult(Ended.LIMIT, str(error)[:500], files=self._kept())
            except ResultsUnavailable as error:
                fault = str(error)[:500]
        return RunResult(Ended.ENGINE, fault, files=self._kept())

    async def _once(self, turn: int) -> RunResult:
        job = await self._job()
        stepper = Stepper(self._tools, self._lease, self._log, job.spec, job.environment, turn * 10)
        running = await self._left_running()
        record = self._lease.record
        await remove_all(self._tools, record.task_id, record.number, but=running.id if running else None)
        if running is not None:
            image = self._lease.body.base or self._tools.image
            end = await stepper.adopt(run_plan.agent(job.environment, image, job.spec.mode), running, self._keep)
            return await self._after(stepper, end, image)
        if self._lease.cancel.is_set():
            return RunResult(Ended.CANCELLED, "it was cancelled before it began", files=self._kept())
        return await self._anew(stepper, job)

    async def _anew(self, stepper: Stepper, job: _Job) -> RunResult:
        await self._keep("prompt.txt", pieces(run_plan.prompt_of(job.spec, self._lease.body).encode()))
        await stepper.mint()
        await self._note(Phase.SETUP)
        prepared = await self._prepared(stepper)
        if prepared.failed is not None:
            end = prepared.failed
            return RunResult(end.ended, f"set-up: {end.message}", files=self._kept(), exit_code=_code(end))
        await self._forget_token()
        if self._lease.cancel.is_set():
            return RunResult(Ended.CANCELLED, "it was cancelled before its agent began", files=self._kept())
        step = run_plan.agent(job.environment, prepared.image, job.spec.mode)
        container_id = await stepper.begin(step, prepared.workspace, job.home)
        await self._note(Phase.AGENT, container=container_id, base=prepared.image)
        end = await stepper.finish(step, container_id, self._keep)
        return await self._after(stepper, end, prepared.image)

    async def _prepared(self, stepper: Stepper) -> Prepared:
        prepared = await Preparer(stepper).prepare()
        if prepared.setup_log:
            await self._keep("setup.log", pieces(prepared.setup_log))
        return prepared

    async def _after(self, stepper: Stepper, end: StepEnd, image: str) -> RunResult:
        """Files, the thread, the tests."""
        for name in ("prompt.txt", "setup.log"):  # of an adopted run's earlier life
            if name not in self._files and await self._tools.results.size(f"{self._prefix}/{name}") is not None:
                self._files[name] = f"{self._prefix}/{name}"
        told = end.told or RunResult(end.ended)
        if told.thread_id is not None:
            await self._keep_session(end.container_id)
        passed = None
        wanted = stepper.spec.mode is None and stepper.environment.test_command.strip()
        if end.ended is Ended.DONE and wanted:
            passed = await self._judge(stepper, end, image)
        return replace(told, ended=end.ended, message=end.message, tests_passed=passed, files=self._kept())

    async def _judge(self, stepper: Stepper, end: StepEnd, image: str) -> bool | None:
        """Whether the environment's own tests pass on the agent's tree, in a fresh container; None: unknown."""
        step = run_plan.judge(stepper.environment, image)
        await self._note(Phase.JUDGE, container=end.container_id, base=image)
        try:
            container_id = await stepper.begin(step, stepper.left_by(end.container_id))
            judged = await stepper.finish(step, container_id, self._keep_judge)
        except EngineError as error:
            await self._log.say("judge_failed", reason=str(error)[:500])
            return None
        await self._log.say("judged", ended=judged.ended.value, message=judged.message)
        if judged.told is not None and judged.told.tests_passed is not None:
            return judged.told.tests_passed
        if judged.ended is Ended.DONE:
            return True
        return False if judged.ended in _FAILING_TESTS else None

    async def _finish(self, result: RunResult) -> None:
        """The order matters; see the module. Raises LeaseLost, StoreError."""
        record, tools = self._lease.record, self._tools
        await self._unless_lost(self._log.flush())
        if self._lease.lost.is_set():
            raise LeaseLost
        await tools.keys.end_task(record.task_id, record.number)
        ended = replace(self._lease.body, result=result, ended_at_s=self._clock.now_s())
        await self._lease.put(ended, ended=True)
        await self._service.settle(record.task_id)
        await remove_all(tools, record.task_id, record.number)

    # what is read and noted

    async def _job(self) -> _Job:
        """Raises InputRefused."""
        tools, record = self._tools, self._lease.record
        task = await tools.tasks.task(record.task_id)
        if task is None:
            raise LeaseLost
        spec = read_task(task.body).spec
        environment = await tools.environments.get(record.tenant_id, spec.environment_id)
        if environment is None:
            raise InputRefused("its environment is not there any more; make a new task in another one")
        environment = replace(environment, limits=container_of(spec.mode, environment).limits)
        body = self._lease.body
        if body.thread_id is None:
            return _Job(spec, environment, None)
        before = await self._before(spec)
        if before is None:
            raise InputRefused("the thread that it goes on with is not kept any more; start a new task")
        prefix = f"{record.tenant_id}/{before[0]}/{before[1]}"
        diff = await whole(tools.results, f"{prefix}/diff.patch", DIFF_BYTES)
        home = await whole(tools.results, f"{prefix}/{SESSION}", DIFF_BYTES * 2)
        if home is None:
            raise InputRefused("the thread that it goes on with is not kept any more; start a new task")
        if diff:
            spec = replace(spec, starting_diff=diff.decode("utf-8", "surrogateescape"))
        return _Job(spec, environment, home)

    async def _before(self, spec: TaskSpec) -> tuple[str, int] | None:
        """(task, attempt) whose thread and tree this attempt goes on with."""
        body, record = self._lease.body, self._lease.record
        if body.follows is not None:
            return record.task_id, body.follows
        if spec.thread_of is not None:
            for one in await self._tools.tasks.attempts(spec.thread_of):
                found = read_attempt(one.body).result
                if one.tenant_id == record.tenant_id and found is not None and found.thread_id == body.thread_id:
                    return one.task_id, one.number
        return None

    async def _left_running(self) -> Found | None:
        """The agent's container of an earlier life, if there is one to go on with."""
        record = self._lease.record
        for one in await mine(self._tools, record.task_id, record.number):
            known = one.running or one.id == self._lease.body.container
            if known and is_ours(self._tools, one) and one.labels.get(LABEL_STEP) == run_plan.AGENT:
                return one
        return None

    async def _note(self, phase: Phase, *, container: str | None = None, base: str | None = None) -> None:
        body = self._lease.body
        started = body.started_at_s or self._clock.now_s()
        await self._lease.put(replace(body, phase=phase, container=container, base=base, started_at_s=started))
        await self._service.settle(self._lease.record.task_id)

    async def _forget_token(self) -> None:
        """The token of a private repository goes when no other attempt needs it any more."""
        record, tasks = self._lease.record, self._tools.tasks
        task = await tasks.task(record.task_id)
        if task is None or not isinstance(source := read_task(task.body).spec.source, GitSource) or not source.token:
            return
        for one in await tasks.attempts(record.task_id):
            begun = read_attempt(one.body).phase in (Phase.AGENT, Phase.JUDGE)
            if one.number != record.number and one.state is not AttemptState.ENDED and not begun:
                return
        body = read_task(task.body)
        try:
            await tasks.put_task(
                replace(task, body=write_task(replace(body, spec=without_token(body.spec)))), task.version
            )
        except (Conflict, NotFound):
            await self._forget_token()

    # files

    async def _keep(self, name: str, data: AsyncIterator[bytes]) -> None:
        if self._lease.lost.is_set():
            raise LeaseLost
        key = f"{self._prefix}/{name}"
        try:
            checked_key(key)
        except ValueError:
            key = f"{self._prefix}/file-{len(self._files)}"
        await self._tools.results.put(key, data, FILE_BYTES)
        self._files[name] = key

    async def _keep_judge(self, name: str, data: AsyncIterator[bytes]) -> None:
        if name == "judge.log":
            await self._keep(name, data)

    async def _keep_session(self, container_id: str) -> None:
        """The thread's own files, for a follow-up; not among the files that are shown."""
        try:
            found = self._tools.engine.collect(container_id, "/home/agent/.codex/sessions", DIFF_BYTES)
            data = await session_of(found)
        except (EngineError, ValueError) as error:
            await self._log.say("thread_not_kept", reason=str(error)[:300])
            return
        await self._tools.results.put(f"{self._prefix}/{SESSION}", pieces(data), DIFF_BYTES * 2)

    def _kept(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(self._files.items()))

    async def _unless_lost(self, doing: Any) -> None:
        work, lost = asyncio.ensure_future(doing), asyncio.ensure_future(self._lease.lost.wait())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            lost.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)


def _code(end: StepEnd) -> int | None:
    return None if end.told is None else end.told.exit_code


def log_end(record: AttemptRecord, result: RunResult | None, seconds: float) -> None:
    """One line of the worker's own log for each run."""
    ended = "lost_lease" if result is None else result.ended.value
    get_logger().info(
        "attempt_ended", task=record.task_id, attempt=record.number, ended=ended, seconds=round(seconds, 3)
    )
