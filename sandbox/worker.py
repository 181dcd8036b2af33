"""Which attempts does this process work on, how many at once, and when does it stop taking more?

    lease -> AttemptRun in a task of its own -> lease the next ...      beside it: the reaper, the sweep

Rules that hold:

* no more than ``max_tasks`` run here at once, and no more than ``tenant_tasks`` of one tenant over all workers (the
  store counts the leases);
* an engine that failed somebody is asked whether it answers before another attempt is leased: a broken host does not
  eat the queue;
* told to stop, it leases no more, waits ``drain_s`` for what runs, and then leaves it: the containers go on and are
  adopted by the next life of the same worker (or the lease runs out and another begins anew);
* a run that fails by a defect of ours is logged; its lease runs out, and after a few lives it ends as lost.

``run`` starts its own tasks, for attempts live for hours and end on their own, and ends all of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ops.log import get_logger
from sandbox.engine import EngineError
from sandbox.reaper import Reaper
from sandbox.results import ResultsUnavailable
from sandbox.run import AttemptRun, Settling, log_end
from sandbox.run_step import Tools
from sandbox.types import Ended, RunResult
from store.errors import StoreError
from store.task_records import AttemptRecord

IDLE_S: Final = 0.1
AWAY_S: Final = 2.0
AWAY_MAX_S: Final = 30.0
REAP_S: Final = 60.0
SWEEP_S: Final = 3600.0


class Service(Settling, Protocol):
    """What is asked of the service of tasks."""

    async def sweep(self, retention_s: float) -> int: ...


@dataclass(frozen=True, slots=True)
class WorkerValues:
    """The settings' values."""

    name: str
    max_tasks: int
    tenant_tasks: int
    lease_s: float
    drain_s: float
    retention_s: float


class Worker:
    """See the module."""

    def __init__(self, tools: Tools, service: Service, values: WorkerValues) -> None:
        self._tools = tools
        self._service = service
        self._values = values
        self._clock = tools.clock
        self._running: set[asyncio.Task[None]] = set()
        self._suspect = False
        self._reaper = Reaper(tools.engine, tools.tasks, tools.clock, tools.owner, tools.cache_s)

    @property
    def running(self) -> int:
        """Attempts that run here now."""
        return len(self._running)

    async def run(self, stop: asyncio.Event, quick: asyncio.Event | None = None) -> None:
        """Works until ``stop`` is set, then drains; ``quick`` ends the drain at once. Cancel: as a drain of 0 s."""
        beside = [asyncio.create_task(self._reap()), asyncio.create_task(self._sweep())]
        leasing = asyncio.create_task(self._lease())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({leasing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if leasing.done():
                leasing.result()  # raises what must not happen
            await _end(leasing)
            await self._drain(quick or asyncio.Event())
        finally:
            left = len(self._running)
            await _end(leasing, stopping, *beside, *self._running)
            if left:
                get_logger().warning("attempts_left", count=left, next="they are adopted when this worker starts again")

    async def _drain(self, quick: asyncio.Event) -> None:
        if not self._running:
            return
        get_logger().info("draining", attempts=len(self._running))
        hurry = [asyncio.create_task(quick.wait()), asyncio.create_task(self._clock.sleep(self._values.drain_s))]
        done = asyncio.create_task(self._all_done())
        try:
            await asyncio.wait({*hurry, done}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(*hurry, done)

    async def _all_done(self) -> None:
        while self._running:
            await asyncio.wait(set(self._running))

    async def _lease(self) -> None:
        values = self._values
        away_s = 0.0
        while True:
            if len(self._running) >= values.max_tasks:
                await asyncio.wait(set(self._running), return_when=asyncio.FIRST_COMPLETED)
                continue
            if self._suspect and not await self._answers():
                away_s = min(max(AWAY_S, away_s * 2), AWAY_MAX_S)
                await self._clock.sleep(away_s)
                continue
            away_s = 0.0
            try:
                record = await self._tools.tasks.lease_attempt(values.name, values.lease_s, values.tenant_tasks)
            except StoreError as error:
                get_logger().warning("lease_failed", reason=str(error)[:300])
                await self._clock.sleep(AWAY_S)
                continue
            if record is None:
                await self._clock.sleep(IDLE_S)
                continue
            task = asyncio.create_task(self._work(record))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _answers(self) -> bool:
        try:
            await self._tools.engine.info()
        except EngineError as error:
            get_logger().warning("engine_away", reason=str(error)[:300])
            return False
        self._suspect = False
        return True

    async def _work(self, record: AttemptRecord) -> None:
        began_s = self._clock.monotonic_s()
        result: RunResult | None = None
        try:
            result = await AttemptRun(self._tools, self._service, record, self._values.lease_s).run()
        except StoreError as error:
            get_logger().error("attempt_left", task=record.task_id, attempt=record.number, reason=str(error)[:300])
            return
        except Exception:  # noqa: BLE001 - the worker goes on; the lease runs out
            get_logger().exception("attempt_broken", task=record.task_id, attempt=record.number)
            return
        if result is not None and result.ended is Ended.ENGINE:
            self._suspect = True
        log_end(record, result, self._clock.monotonic_s() - began_s)

    async def _reap(self) -> None:
        while True:
            await self._reaper.step()
            await self._clock.sleep(REAP_S)

    async def _sweep(self) -> None:
        while True:
            try:
                removed = await self._service.sweep(self._values.retention_s)
            except (StoreError, ResultsUnavailable) as error:
                get_logger().warning("sweep_waits", reason=str(error)[:300])
            else:
                if removed:
                    get_logger().info("tasks_swept", count=removed)
            await self._clock.sleep(SWEEP_S)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
