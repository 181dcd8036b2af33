"""May this caller send one more request now?

Requests per minute (fixed windows of the library ``limits``) and requests in work at once, each per key and per
tenant. Counters are named by tenant and key id alone, so no spelling of a path, model or header gets a fresh one.

Rules that hold:

* a caller without limits costs four comparisons;
* refused means nothing counted: no slot is held, and the request does not eat into the minute of the scope that would
  have admitted it (two workers that race for a tenant's last request may each count one for their key);
* a place that could not be given back because the counters did not answer is given back with the next one;
* when the shared counters do not answer, this process counts for itself until they do: limits get looser by the
  number of workers, and no request fails because of a counter.

Whether a limit applies, and which, is decided in auth.keys; where counters rest, in store.counters; limits that many
hosts share are in auth.fleet_limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from limits import RateLimitItemPerMinute
from limits.storage import Storage

from auth.errors import LimitExceeded
from auth.types import Caller
from ops.clock import Clock
from store.counters import LocalCounters, LocalStreams, SharedCounters
from store.errors import StoreUnavailable

STREAM_RETRY_S: Final = 1.0
"""When to come back after too many requests at once: any of them may end at any moment."""

MINUTE_S: Final = 60

NAME_LIMIT: Final = b"x-ratelimit-limit-requests"
NAME_REMAINING: Final = b"x-ratelimit-remaining-requests"
NAME_RESET: Final = b"x-ratelimit-reset-requests"


class StreamCounter(Protocol):
    """Counts what runs now; store.counters has one for a process and one for all workers."""

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        """Takes one of each name or none; the name that is full, or None when all were taken."""

    def release(self, names: Sequence[str]) -> None: ...


Counters = LocalCounters | SharedCounters


class Window(RateLimitItemPerMinute):
    """A limit per minute of one named counter; its storage key is put together once and not for every request."""

    __slots__ = ("key", "name")

    def __init__(self, amount: int, name: str) -> None:
        super().__init__(amount)
        self.name = name
        self.key = self.key_for(name)


class Admission:
    """One admitted request. ``release`` gives its places back; more than once does nothing."""

    __slots__ = ("_give_back", "_names")

    def __init__(self, give_back: Callable[[Sequence[str]], None] | None, names: tuple[str, ...]) -> None:
        self._give_back = give_back
        self._names = names

    def release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._names)


class Plan:
    """What is to be counted for one caller, worked out once: places (name, limit) and windows, the key's first."""

    __slots__ = ("caller", "names", "places", "windows")

    def __init__(self, caller: Caller) -> None:
        key, tenant = caller.key_limits, caller.tenant_limits
        both = ((_key_name(caller), key), (_tenant_name(caller), tenant))
        self.caller = caller
        self.places = tuple((name, one.concurrent_streams) for name, one in both if one.concurrent_streams is not None)
        self.names = tuple(name for name, _ in self.places)
        self.windows = tuple(
            Window(one.requests_per_minute, name) for name, one in both if one.requests_per_minute is not None
        )


class CallerLimits:
    """The limits of all callers. One per process; ``storage`` and ``streams`` may be shared between processes."""

    def __init__(self, storage: Counters, streams: StreamCounter, clock: Clock) -> None:
        self._clock = clock
        self._streams = streams
        self._storage = storage
        self._own_streams = LocalStreams("fallback")
        self._own_storage = LocalCounters(clock)
        self._plans: dict[str, Plan] = {}
        self._owed: list[str] = []

    def admit(self, caller: Caller) -> Admission:
        """Counts the request in. Raises LimitExceeded, with nothing counted; release the admission when it is done."""
        plan = self._plan(caller)
        admission = self._take_places(plan) if plan.places else Admission(None, ())
        if not plan.windows:
            return admission
        try:
            self._count_request(plan)
        except LimitExceeded:
            admission.release()
            raise
        return admission

    def headers(self, caller: Caller) -> tuple[tuple[bytes, bytes], ...]:
        """The tighter of the two request limits in OpenAI's response headers; empty without one."""
        found: tuple[int, int, float] | None = None
        for window in self._plan(caller).windows:
            try:
                left, ends_at_s = _stand(self._storage, window)
            except StoreUnavailable:
                left, ends_at_s = _stand(self._own_storage, window)
            if found is None or left < found[1]:
                found = (window.amount, left, ends_at_s)
        if found is None:
            return ()
        limit, left, ends_at_s = found
        return limit_headers(limit, left, ends_at_s - self._clock.now_s())

    def _plan(self, caller: Caller) -> Plan:
        """A caller is the same object until its key's record changes."""
        plan = self._plans.get(caller.key_id)
        if plan is None or plan.caller is not caller:
            plan = self._plans[caller.key_id] = Plan(caller)
        return plan

    def _take_places(self, plan: Plan) -> Admission:
        give_back = self._give_back
        try:
            if self._owed:
                self._give_back(())
            full = self._streams.acquire(plan.places)
        except StoreUnavailable:
            give_back = self._own_streams.release
            full = self._own_streams.acquire(plan.places)
        if full is not None:
            raise LimitExceeded("streams", scope_of(full), dict(plan.places)[full], STREAM_RETRY_S)
        return Admission(give_back, plan.names)

    def _give_back(self, names: Sequence[str]) -> None:
        """Releases places, and those that an earlier call could not release; what fails now is owed."""
        self._owed.extend(names)
        try:
            self._streams.release(tuple(self._owed))
        except StoreUnavailable:
            return
        self._owed.clear()

    def _count_request(self, plan: Plan) -> None:
        try:
            self._count_in(self._storage, plan)
        except StoreUnavailable:
            self._count_in(self._own_storage, plan)

    def _count_in(self, storage: Storage, plan: Plan) -> None:
        """The fixed-window strategy of the library, for several windows that stand or fall together."""
        windows = plan.windows
        for window in windows[1:]:  # look at the tenant before the key is charged
            if storage.get(window.key) >= window.amount:
                raise self._exceeded(storage, window)
        for window in windows:
            if storage.incr(window.key, MINUTE_S) > window.amount:
                raise self._exceeded(storage, window)

    def _exceeded(self, storage: Storage, window: Window) -> LimitExceeded:
        wait_s = min(max(storage.get_expiry(window.key) - self._clock.now_s(), 0.0), float(MINUTE_S))
        return LimitExceeded("requests", scope_of(window.name), window.amount, wait_s)


def limit_headers(limit: int, left: int, resets_in_s: float) -> tuple[tuple[bytes, bytes], ...]:
    """How a caller stands with its limit per minute, in OpenAI's response headers."""
    return (
        (NAME_LIMIT, b"%d" % limit),
        (NAME_REMAINING, b"%d" % left),
        (NAME_RESET, _duration(max(0.0, resets_in_s)).encode()),
    )


def _stand(storage: Counters, window: Window) -> tuple[int, float]:
    """(requests left, Unix end) of the window now."""
    hits, ends_at_s = storage.stand(window.key)
    return max(0, window.amount - hits), ends_at_s


def _key_name(caller: Caller) -> str:
    return f"key:{caller.key_id}"


def _tenant_name(caller: Caller) -> str:
    return f"tenant:{caller.tenant_id}"


def scope_of(name: str) -> str:
    """``key`` or ``tenant``: whose counter this is."""
    return name.partition(":")[0]


def _duration(seconds: float) -> str:
    """As OpenAI writes it: ``45s``, ``1m0s``."""
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
