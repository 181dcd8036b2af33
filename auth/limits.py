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

Whether a limit applies, and which, is decided in auth.keys; where counters rest, in store.counters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from auth.errors import LimitExceeded
from auth.types import Caller
from ops.clock import Clock
from store.counters import LocalCounters, LocalStreams
from store.errors import StoreUnavailable

STREAM_RETRY_S: Final = 1.0
"""When to come back after too many requests at once: any of them may end at any moment."""

NAME_LIMIT: Final = b"x-ratelimit-limit-requests"
NAME_REMAINING: Final = b"x-ratelimit-remaining-requests"
NAME_RESET: Final = b"x-ratelimit-reset-requests"


class StreamCounter(Protocol):
    """Counts what runs now; store.counters has one for a process and one for all workers."""

    def acquire(self, limits: Sequence[tuple[str, int]]) -> str | None:
        """Takes one of each name or none; the name that is full, or None when all were taken."""

    def release(self, names: Sequence[str]) -> None: ...


class Window(RateLimitItemPerMinute):
    """A limit per minute of one named counter, which puts its storage key together once and not for every request."""

    __slots__ = ("_key",)

    def __init__(self, amount: int, name: str) -> None:
        super().__init__(amount)
        self._key = super().key_for(name)

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return self._key


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


class CallerLimits:
    """The limits of all callers. One per process; ``storage`` and ``streams`` may be shared between processes."""

    def __init__(self, storage: Storage, streams: StreamCounter, clock: Clock) -> None:
        self._clock = clock
        self._streams = streams
        self._windows = FixedWindowRateLimiter(storage)
        self._own_streams = LocalStreams("fallback")
        self._own_windows = FixedWindowRateLimiter(LocalCounters(clock))
        self._items: dict[tuple[int, str], Window] = {}
        self._owed: list[str] = []

    def admit(self, caller: Caller) -> Admission:
        """Counts the request in. Raises LimitExceeded, with nothing counted; release the admission when it is done."""
        key, tenant = caller.key_limits, caller.tenant_limits
        if key.concurrent_streams is None and tenant.concurrent_streams is None:
            admission = Admission(None, ())
        else:
            admission = self._take_places(caller)
        if key.requests_per_minute is None and tenant.requests_per_minute is None:
            return admission
        try:
            self._count_request(caller)
        except LimitExceeded:
            admission.release()
            raise
        return admission

    def headers(self, caller: Caller) -> tuple[tuple[bytes, bytes], ...]:
        """The tighter of the two request limits in OpenAI's response headers; empty without one."""
        found: tuple[int, int, float] | None = None
        for name, limit in _per_minute(caller):
            item = self._item(limit, name)
            try:
                reset_s, remaining = self._windows.get_window_stats(item, name)
            except StoreUnavailable:
                reset_s, remaining = self._own_windows.get_window_stats(item, name)
            if found is None or remaining < found[1]:
                found = (limit, remaining, max(0.0, reset_s - self._clock.now_s()))
        if found is None:
            return ()
        limit, remaining, wait_s = found
        return (
            (NAME_LIMIT, b"%d" % limit),
            (NAME_REMAINING, b"%d" % remaining),
            (NAME_RESET, _duration(wait_s).encode()),
        )

    def _take_places(self, caller: Caller) -> Admission:
        pairs = tuple(
            (name, limit)
            for name, limit in (
                (_key_name(caller), caller.key_limits.concurrent_streams),
                (_tenant_name(caller), caller.tenant_limits.concurrent_streams),
            )
            if limit is not None
        )
        give_back = self._give_back
        try:
            if self._owed:
                self._give_back(())
            full = self._streams.acquire(pairs)
        except StoreUnavailable:
            give_back = self._own_streams.release
            full = self._own_streams.acquire(pairs)
        if full is not None:
            raise LimitExceeded("streams", _scope(full), dict(pairs)[full], STREAM_RETRY_S)
        return Admission(give_back, tuple(name for name, _ in pairs))

    def _give_back(self, names: Sequence[str]) -> None:
        """Releases places, and those that an earlier call could not release; what fails now is owed."""
        self._owed.extend(names)
        try:
            self._streams.release(tuple(self._owed))
        except StoreUnavailable:
            return
        self._owed.clear()

    def _count_request(self, caller: Caller) -> None:
        try:
            self._count_in(self._windows, caller)
        except StoreUnavailable:
            self._count_in(self._own_windows, caller)

    def _count_in(self, windows: FixedWindowRateLimiter, caller: Caller) -> None:
        pairs = _per_minute(caller)
        for name, limit in pairs[1:]:  # look at the tenant before the key is charged
            if not windows.test(self._item(limit, name), name):
                raise self._exceeded(windows, name, limit)
        for name, limit in pairs:
            if not windows.hit(self._item(limit, name), name):
                raise self._exceeded(windows, name, limit)

    def _exceeded(self, windows: FixedWindowRateLimiter, name: str, limit: int) -> LimitExceeded:
        reset_s = windows.get_window_stats(self._item(limit, name), name).reset_time
        wait_s = min(max(reset_s - self._clock.now_s(), 0.0), 60.0)
        return LimitExceeded("requests", _scope(name), limit, wait_s)

    def _item(self, limit: int, name: str) -> Window:
        item = self._items.get((limit, name))
        if item is None:
            item = self._items[limit, name] = Window(limit, name)
        return item


def _per_minute(caller: Caller) -> tuple[tuple[str, int], ...]:
    """(counter, limit) of the key, then of the tenant; those without a limit are left out."""
    key, tenant = caller.key_limits.requests_per_minute, caller.tenant_limits.requests_per_minute
    pairs = ((_key_name(caller), key), (_tenant_name(caller), tenant))
    return tuple((name, limit) for name, limit in pairs if limit is not None)


def _key_name(caller: Caller) -> str:
    return f"key:{caller.key_id}"


def _tenant_name(caller: Caller) -> str:
    return f"tenant:{caller.tenant_id}"


def _scope(name: str) -> str:
    return name.partition(":")[0]


def _duration(seconds: float) -> str:
    """As OpenAI writes it: ``45s``, ``1m0s``."""
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
