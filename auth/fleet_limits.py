"""May this caller send one more request now, if many processes on many hosts share its limits?

The same limits, names and refusals as auth.limits, counted in parts that this process has leased from the hot store
(store.redis_counters). ``prepare`` sees to it that the parts suffice, and waits for nobody when they do; ``admit``
decides at once.

Rules that hold:

* what is admitted by all processes together is never above a limit while the hot store answers;
* refused means nothing counted, in no scope;
* without the hot store each process admits what it holds and then its equal part (store.redis_counters): no request
  fails because of the store, only because of its limit;
* the headers tell what is left for the whole fleet; a part that another process holds and has not used counts as used.
"""

from __future__ import annotations

from collections.abc import Sequence

from auth.errors import LimitExceeded
from auth.limits import MINUTE_S, STREAM_RETRY_S, Admission, Plan, limit_headers, scope_of
from auth.types import Caller
from ops.clock import Clock
from store.redis_counters import Kind, LeasedCounts, Lot


class FleetLimits:
    """The limits of all callers, in one process of many."""

    def __init__(self, counts: LeasedCounts, clock: Clock) -> None:
        self._counts = counts
        self._clock = clock
        self._plans: dict[str, _Lots] = {}

    async def prepare(self, caller: Caller) -> None:
        """Asks the fleet, if this process does not hold what ``caller`` needs. Admit before the next await.

        Returns after at most the hot store's timeout and never raises for it.
        """
        await self._counts.gather(self._lots(caller).all)

    def admit(self, caller: Caller) -> Admission:
        """Counts the request in. Raises LimitExceeded, with nothing counted; release the admission when it is done."""
        lots = self._lots(caller)
        counts = self._counts
        for lot in lots.places:
            if not counts.has(lot):
                raise LimitExceeded("streams", scope_of(lot.name), lot.limit, STREAM_RETRY_S)
        for lot in lots.windows:
            if not counts.has(lot):
                wait_s = min(max(counts.stand(lot)[1] - self._clock.monotonic_s(), 0.0), float(MINUTE_S))
                raise LimitExceeded("requests", scope_of(lot.name), lot.limit, wait_s)
        counts.use(lots.all)
        if not lots.places:
            return Admission(None, ())
        return Admission(lambda _: self._give_back(lots.places), ())

    def headers(self, caller: Caller) -> tuple[tuple[bytes, bytes], ...]:
        """The tighter of the two request limits in OpenAI's response headers; empty without one."""
        stands = [(*self._counts.stand(lot), lot.limit) for lot in self._lots(caller).windows]
        if not stands:
            return ()
        left, ends_s, limit = min(stands, key=lambda stand: stand[0])
        return limit_headers(limit, left, ends_s - self._clock.monotonic_s())

    def _give_back(self, places: Sequence[Lot]) -> None:
        for lot in places:
            self._counts.give_back(lot)

    def _lots(self, caller: Caller) -> _Lots:
        """A caller is the same object until its key's record changes."""
        lots = self._plans.get(caller.key_id)
        if lots is None or lots.caller is not caller:
            lots = self._plans[caller.key_id] = _Lots(caller, self._counts)
        return lots


class _Lots:
    """What is counted for one caller: places and windows, the key's first."""

    __slots__ = ("all", "caller", "places", "windows")

    def __init__(self, caller: Caller, counts: LeasedCounts) -> None:
        plan = Plan(caller)
        self.caller = caller
        self.places = [counts.lot(Kind.STREAMS, name, limit) for name, limit in plan.places]
        self.windows = [counts.lot(Kind.WINDOW, window.name, window.amount) for window in plan.windows]
        self.all = (*self.places, *self.windows)
