"""Is the attempt still ours, and does somebody want it to stop? One lease, kept alive while the attempt runs.

Rules that hold:

* the lease is renewed at a third of its life; a store that does not answer is asked again until the lease would have
  run out by our own clock, and from then on the attempt counts as lost, whatever the store says later;
* what is lost is written no more: ``put`` raises LeaseLost, and the store refuses an older fence anyway;
* the wish to cancel is looked for every second; ``cancel`` is set and stays set.

It does not stop anything by itself: who runs the attempt waits for the two events.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from ops.clock import Clock
from sandbox.bodies import AttemptBody, read_attempt, write_attempt
from store.base import TaskStore
from store.errors import Conflict, NotFound, StoreError
from store.task_records import AttemptRecord, AttemptState

LOOK_EVERY_S: Final = 1.0


class LeaseLost(Exception):
    """The attempt is another worker's, or gone; nothing may be written any more."""


class Lease:
    """See the module. ``body`` is the attempt's body as we wrote it last."""

    def __init__(self, tasks: TaskStore, record: AttemptRecord, lease_s: float, clock: Clock) -> None:
        self._tasks = tasks
        self._lease_s = lease_s
        self._clock = clock
        self._good_until_s = clock.monotonic_s() + lease_s
        self.record = record
        self.body: AttemptBody = read_attempt(record.body)
        self.cancel = asyncio.Event()
        self.lost = asyncio.Event()
        if record.cancel:
            self.cancel.set()

    async def keep(self) -> None:
        """Renews until the lease is lost, then returns. Cancel: the lease runs out by itself."""
        renewed_s = self._clock.monotonic_s()
        while not self.lost.is_set():
            await self._clock.sleep(min(LOOK_EVERY_S, self._lease_s / 3))
            asked_s = self._clock.monotonic_s()
            if asked_s - renewed_s < self._lease_s / 3:
                await self._look()
                continue
            renewed_s = asked_s
            await self._renew(asked_s)

    async def _renew(self, asked_s: float) -> None:
        try:
            found = await self._tasks.renew_lease(self.record, self._lease_s)
        except StoreError:
            if self._clock.monotonic_s() >= self._good_until_s:
                self.lost.set()
            return
        if found is None or asked_s >= self._good_until_s:
            self.lost.set()
            return
        self._good_until_s = asked_s + self._lease_s
        if found.cancel:
            self.cancel.set()

    async def _look(self) -> None:
        """Between two renewals: whether somebody wants it to stop; a store that is away is no answer."""
        with contextlib.suppress(StoreError):
            for one in await self._tasks.attempts(self.record.task_id):
                if one.number == self.record.number and one.cancel:
                    self.cancel.set()

    async def put(self, body: AttemptBody, *, ended: bool = False) -> None:
        """Writes the body under our fence. Raises LeaseLost, StoreUnavailable."""
        if self.lost.is_set():
            raise LeaseLost
        state = AttemptState.ENDED if ended else AttemptState.LEASED
        try:
            await self._tasks.put_attempt(replace(self.record, state=state, body=write_attempt(body)))
        except (Conflict, NotFound):
            self.lost.set()
            raise LeaseLost from None
        self.body = body
