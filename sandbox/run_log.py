"""How do the lines of a container reach the task's log: once each, in order, in batches, and not without end?

The runner numbers its lines per container. Rules that hold:

* a line whose number was stored before is dropped, so a container may be followed again from its start;
* what waits for the store is bounded: the reader of the container stands still when the store is slow;
* a batch is what has gathered while the one before was written; nobody waits for a batch to be full;
* beyond ``output_mib`` (and a quarter, for the runner cuts by itself before) ``full`` is set and lines are dropped;
* what is no line of the runner's is not stored: a container's raw words never reach the log.

``stored_seq`` finds out from the stored log how far a container had been followed by an earlier worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec

from ops.clock import Clock
from sandbox.types import RunEvent
from store.base import TaskStore
from store.errors import StoreError
from store.task_records import LogLine

STARTED: Final = "worker.container"
BATCH: Final = 200
WAITING: Final = 1000
RETRY_S: Final = 0.5
PAGE: Final = 1000
_MIB: Final = 1 << 20

LineReader = Callable[[bytes], RunEvent | None]


class RunLog:
    """The log of one attempt, for one worker. ``keep_writing`` must run as long as lines come."""

    def __init__(self, tasks: TaskStore, task_id: str, attempt: int, clock: Clock) -> None:
        self._tasks = tasks
        self._task_id = task_id
        self._attempt = attempt
        self._clock = clock
        self._waiting: asyncio.Queue[RunEvent] = asyncio.Queue(WAITING)
        self.last_seq = 0
        self.full = asyncio.Event()

    async def begin(self, container_id: str, phase: str, **data: Any) -> None:
        """A new container's lines come now, numbered from 1."""
        self.last_seq = 0
        self.full.clear()
        await self.say("container", id=container_id, phase=phase, **data)

    async def say(self, kind: str, **data: Any) -> None:
        """A word of the worker's own."""
        await self._waiting.put(RunEvent(0, self._clock.now_s(), "worker", f"worker.{kind}", data))

    def decided(self, **data: Any) -> None:
        """A decision of the egress server; dropped when the log is behind, for nobody may wait here."""
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(RunEvent(0, self._clock.now_s(), "egress", "egress.decision", data))

    async def take(self, lines: AsyncIterator[bytes], read: LineReader, output_mib: int) -> None:
        """Adds the lines beyond ``last_seq`` until they end. Errors of the engine go through."""
        most, seen = output_mib * _MIB * 5 // 4, 0
        async for line in lines:
            seen += len(line) + 1
            if seen > most:
                if not self.full.is_set():
                    await self.say("log_cut", output_mib=output_mib)
                    self.full.set()
                continue
            event = read(line)
            if event is None or event.seq <= self.last_seq:
                continue
            self.last_seq = event.seq
            await self._waiting.put(event)

    async def keep_writing(self) -> None:
        """Writes what waits, for ever. Lines that were taken when it is cancelled are written by ``flush``."""
        while True:
            first = await self._waiting.get()
            batch = [first]
            try:
                while len(batch) < BATCH and not self._waiting.empty():
                    batch.append(self._waiting.get_nowait())
                await self._write(batch)
            finally:
                for _ in batch:
                    self._waiting.task_done()

    async def flush(self) -> None:
        """Returns when everything that was said is stored; ``keep_writing`` does it."""
        await self._waiting.join()

    async def _write(self, batch: Sequence[RunEvent]) -> None:
        lines = [LogLine(self._task_id, self._attempt, msgspec.json.encode(one)) for one in batch]
        while True:
            try:
                await self._tasks.append_log(lines)
            except StoreError:
                await self._clock.sleep(RETRY_S)  # the lease runs out if this goes on
                continue
            return


async def stored_seq(tasks: TaskStore, task_id: str, attempt: int, container_id: str) -> int:
    """The highest number stored of the container's lines; 0 for none."""
    after, last, ours = 0, 0, False
    while page := await tasks.log(task_id, after, PAGE):
        after = page[-1].number
        for line in page:
            if line.attempt != attempt:
                continue
            with contextlib.suppress(msgspec.DecodeError):
                event = msgspec.json.decode(line.body, type=RunEvent)
                if event.kind == STARTED:
                    ours, last = event.data.get("id") == container_id, 0
                elif ours:
                    last = max(last, event.seq)
    return last
