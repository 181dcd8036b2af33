"""What is left over on the engine, and may it go? Looked at every minute by each worker.

    a container of ours whose task or attempt is unknown or has ended, or that another worker has     removed
    a container of anybody's whose deadline passed more than ``LATE_S`` ago                           removed
    a kept environment older than ``cache_s``                                                          removed

Rules that hold:

* containers without our labels are never touched, and another worker's only when nobody can still be using them;
* a container whose attempt may still be taken up again (its lease runs, or has just run out) stays: adoption comes
  first;
* a store that does not answer removes nothing; an engine that does not is asked again next time.

``leftovers`` is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ops.clock import Clock
from ops.log import get_logger
from sandbox.engine import LABEL_ATTEMPT, LABEL_DEADLINE, LABEL_OWNER, LABEL_TASK, ContainerEngine, EngineError, Found
from sandbox.run_plan import LABEL_ENVIRONMENT
from store.base import TaskStore
from store.errors import StoreError
from store.task_records import AttemptRecord, AttemptState

LATE_S: Final = 600.0
YOUNG_S: Final = 60.0
"""A container may be a moment older than what is written of it."""


class Reaper:
    """See the module. ``owner`` is the label of this worker's containers, ``worker`` its name on leases."""

    def __init__(self, engine: ContainerEngine, tasks: TaskStore, clock: Clock, owner: str, cache_s: float) -> None:
        self._engine = engine
        self._tasks = tasks
        self._clock = clock
        self._owner = owner
        self._cache_s = cache_s

    async def step(self) -> int:
        """One look; how many containers and images went. Never raises for an engine or a store that is away."""
        try:
            return await self._containers() + await self._images()
        except (EngineError, StoreError) as error:
            get_logger().warning("reaper_waits", reason=str(error)[:300])
            return 0

    async def _containers(self) -> int:
        found = await self._engine.containers(LABEL_TASK)
        attempts: dict[str, tuple[AttemptRecord, ...]] = {}
        for task_id in {one.labels.get(LABEL_TASK, "") for one in found if one.labels.get(LABEL_OWNER) == self._owner}:
            attempts[task_id] = await self._tasks.attempts(task_id)
        gone = leftovers(found, attempts, self._owner, self._clock.now_s())
        for one in gone:
            await self._engine.remove(one.id)
            get_logger().info("container_reaped", task=one.labels.get(LABEL_TASK), name=one.name)
        return len(gone)

    async def _images(self) -> int:
        """An image in use goes next time: the engine refuses meanwhile."""
        count = 0
        for tag, made_at_s in (await self._engine.images(LABEL_ENVIRONMENT)).items():
            if self._clock.now_s() - made_at_s >= self._cache_s:
                try:
                    await self._engine.remove_image(tag)
                except EngineError:
                    continue
                count += 1
        return count


def leftovers(
    found: Iterable[Found], attempts: Mapping[str, Iterable[AttemptRecord]], owner: str, now_s: float
) -> tuple[Found, ...]:
    """Those that nobody will go on with. ``attempts``: of every task that has a container of ours."""
    gone = []
    for one in found:
        if _late(one, now_s):
            gone.append(one)
        elif one.labels.get(LABEL_OWNER) == owner and now_s - one.created_at_s >= YOUNG_S:
            records = attempts.get(one.labels.get(LABEL_TASK, ""), ())
            record = next((each for each in records if str(each.number) == one.labels.get(LABEL_ATTEMPT)), None)
            if record is None or record.state is AttemptState.ENDED or _anothers(record, owner, now_s):
                gone.append(one)
    return tuple(gone)


def _anothers(record: AttemptRecord, owner: str, now_s: float) -> bool:
    return record.worker not in (None, owner) and record.lease_until_s > now_s


def _late(one: Found, now_s: float) -> bool:
    try:
        deadline_at_s = float(one.labels.get(LABEL_DEADLINE, ""))
    except ValueError:
        return False
    return now_s > deadline_at_s + LATE_S
