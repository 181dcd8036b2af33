"""What stops a container that runs, and how did it end?

One container, from its start (or from where an earlier worker left it) to its exit. Several things are waited for at
once, each in a task of its own that ends with ``watch``: the container's lines, the wish to cancel, the lost lease,
the wall clock, the disk and the output. Rules that hold:

* whatever stops it, it is asked first (TERM, so that the runner still writes the diff) and killed ``GRACE_S`` later;
* a lost lease leaves the container alone: it is another worker's now;
* an engine that does not answer is asked again for ``AWAY_S`` while the container runs on, then EngineUnavailable
  goes up; lines that were stored already are not stored again;
* the wall clock is the container's own label, so that a restart gives nobody more time.

``ending_of`` is pure: it tells the causes apart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from ops.clock import Clock
from sandbox.engine import ContainerEngine, ContainerGone, EngineError, EngineUnavailable, Exit
from sandbox.run_lease import Lease, LeaseLost
from sandbox.run_log import LineReader, RunLog
from sandbox.types import Ended, Limits, RunResult

GRACE_S: Final = 10.0
AWAY_S: Final = 60.0
RETRY_S: Final = 1.0
DISK_EVERY_S: Final = 5.0
WALL_SLACK_S: Final = 15.0
"""The runner's own watchdog comes first, and writes what there is."""
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a container ended. ``cause`` None: by itself."""

    exit: Exit
    cause: Ended | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    ended: Ended
    detail: str


@dataclass(frozen=True, slots=True)
class Watch:
    """What is needed to watch any container of one attempt."""

    engine: ContainerEngine
    clock: Clock
    lease: Lease
    log: RunLog
    read: LineReader

    async def watch(self, container_id: str, limits: Limits, deadline_at_s: float) -> Stopped:
        """Returns when the container has ended. Raises LeaseLost, EngineUnavailable, ContainerGone. Cancel: the
        container goes on, for whoever adopts it."""
        following = asyncio.create_task(self._follow(container_id, limits.output_mib))
        guarding = asyncio.create_task(self._guard(container_id, limits, deadline_at_s))
        try:
            await asyncio.wait({following, guarding}, return_when=asyncio.FIRST_COMPLETED)
            cause: Cause | None = None
            if not following.done():
                cause = guarding.result()
                await self._stop(container_id, following)
            else:
                following.result()
            left = await self.engine.wait(container_id)
            return Stopped(left, cause.ended if cause else None, cause.detail if cause else "")
        finally:
            await _end(following, guarding)

    async def _stop(self, container_id: str, following: asyncio.Task[None]) -> None:
        try:
            await self.engine.stop(container_id, GRACE_S)
        except ContainerGone:
            raise
        except EngineError:
            await self.engine.kill(container_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_S):
                await asyncio.shield(following)

    async def _follow(self, container_id: str, output_mib: int) -> None:
        """Returns when the container has said all."""
        away_since_s: float | None = None
        while True:
            before = self.log.last_seq
            try:
                await self.log.take(self.engine.follow(container_id), self.read, output_mib)
            except EngineUnavailable:
                now_s = self.clock.monotonic_s()
                if away_since_s is None or self.log.last_seq > before:
                    away_since_s = now_s
                if now_s - away_since_s >= AWAY_S:
                    raise
                await self.clock.sleep(RETRY_S)
            else:
                return

    async def _guard(self, container_id: str, limits: Limits, deadline_at_s: float) -> Cause:
        """Why it must stop. Raises LeaseLost, ContainerGone."""
        waits: list[Coroutine[Any, Any, Cause]] = [
            self._lost(),
            self._cancelled(),
            self._wall(deadline_at_s + WALL_SLACK_S),
            self._disk(container_id, limits.disk_mib),
            self._output(limits.output_mib),
        ]
        tasks = [asyncio.create_task(one) for one in waits]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(one for one in tasks if one in done).result()
        finally:
            await _end(*tasks)

    async def _lost(self) -> Cause:
        await self.lease.lost.wait()
        raise LeaseLost

    async def _cancelled(self) -> Cause:
        await self.lease.cancel.wait()
        return Cause(Ended.CANCELLED, "it was cancelled; what had been done until then is kept")

    async def _wall(self, until_s: float) -> Cause:
        while (left_s := until_s - self.clock.now_s()) > 0:
            await self.clock.sleep(left_s)
        return Cause(Ended.TIMED_OUT, "it did not end within its time")

    async def _disk(self, container_id: str, disk_mib: int) -> Cause:
        while True:
            await self.clock.sleep(DISK_EVERY_S)
            with contextlib.suppress(EngineError):  # the line of its output tells whether it is still there
                if await self.engine.written_bytes(container_id) > disk_mib * _MIB:
                    return Cause(Ended.LIMIT, f"it wrote more than {disk_mib} MiB")

    async def _output(self, output_mib: int) -> Cause:
        await self.log.full.wait()
        return Cause(Ended.LIMIT, f"it said more than {output_mib} MiB")


def ending_of(stopped: Stopped, told: RunResult | None) -> tuple[Ended, str]:
    """(how it ended, in words) from what the worker did, what the engine saw and what the runner says."""
    if stopped.cause is not None:
        return stopped.cause, stopped.detail
    if stopped.exit.oom and (stopped.exit.code != 0 or told is None):
        return Ended.OUT_OF_MEMORY, "it used more memory than its limit allows"
    if told is not None:
        return told.ended, told.message
    if stopped.exit.code == 0:
        return Ended.LOST, "its container ended without a result"
    return Ended.LOST, f"its container ended with code {stopped.exit.code} and without a result"


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels them and waits; what they would have raised does not matter any more."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
