"""When has an account failed too often, and how does it come back?

pybreaker's state machine (closed, open, half-open), fed after the fact: a stream cannot run inside ``call``, so each
outcome goes in as the call of a function that returns or raises. Rules that hold:

* ``failures`` strikes in a row open it; one success in closed state forgets the strikes;
* it rests min(open_s * 2^level, open_max_s), give or take 20 %; a failed probe re-opens it one level higher;
* half-open counts verdicts of probes only, and closes after ``successes`` of them; level 0 again;
* an outcome that comes in while it is open (of a lease from before) says nothing;
* times are monotonic seconds handed in. pybreaker would compare datetime.now with ``opened_at``: the storage here
  shows it none, so that only our clock decides.

It does not decide what counts as a strike (health does), nor who may hold the probe.
Source: pybreaker 1.4, CircuitBreaker and its three state classes; Envoy outlier detection for the doubling rest.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import pybreaker

from router.types import Cause

JITTER = 0.2
LEVEL_MAX = 32  # 2^32 rests are beyond any maximum; keeps the power small


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_STATES = {
    pybreaker.STATE_CLOSED: BreakerState.CLOSED,
    pybreaker.STATE_OPEN: BreakerState.OPEN,
    pybreaker.STATE_HALF_OPEN: BreakerState.HALF_OPEN,
}


@dataclass(frozen=True, slots=True)
class BreakerRules:
    failures: int
    successes: int
    open_s: float
    open_max_s: float


class _Fault(Exception):
    """What the fed function raises."""


class _Storage(pybreaker.CircuitMemoryStorage):
    """Memory whose ``opened_at`` is never shown: the time to stay open is judged by Breaker, on our clock."""

    def __init__(self) -> None:
        super().__init__(pybreaker.STATE_CLOSED)

    @property
    def opened_at(self) -> datetime | None:
        return None

    @opened_at.setter
    def opened_at(self, _: datetime) -> None:
        return


def _succeed() -> None:
    return


def _fail() -> None:
    raise _Fault


class Breaker:
    """One circuit. ``since_s``, ``until_s``, ``cause`` and ``evidence`` tell of the last opening."""

    __slots__ = (
        "_circuit",
        "_rng",
        "_rules",
        "_storage",
        "_strikes",
        "cause",
        "evidence",
        "level",
        "since_s",
        "until_s",
    )

    def __init__(self, rules: BreakerRules, rng: random.Random) -> None:
        self._rules = rules
        self._rng = rng
        self._storage = _Storage()
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=rules.failures,
            reset_timeout=0,
            success_threshold=rules.successes,
            state_storage=self._storage,
            throw_new_error_on_trip=False,
        )
        self._strikes: deque[float] = deque(maxlen=rules.failures)
        self.level = 0
        self.since_s = 0.0
        self.until_s = 0.0
        self.cause = Cause.BROKEN
        self.evidence = ""

    @property
    def state(self) -> BreakerState:
        return _STATES[self._storage.state]

    @property
    def closed(self) -> bool:
        return self._storage.state == pybreaker.STATE_CLOSED

    @property
    def failures(self) -> int:
        """Strikes in a row."""
        return self._storage.counter

    @property
    def quiet(self) -> bool:
        """Closed, and no strike is remembered."""
        return self._storage.state == pybreaker.STATE_CLOSED and not self._storage.counter

    def strike(self, now_s: float, cause: Cause, evidence: str, *, probe: bool = False, at_once: bool = False) -> bool:
        """One fault; True when this opened (or re-opened) the circuit. ``at_once`` does not wait for the count."""
        state = self.state
        if state is BreakerState.OPEN or (state is BreakerState.HALF_OPEN and not probe):
            return False
        self._strikes.append(now_s)
        try:
            self._circuit.call(_fail)
        except _Fault:
            pass
        if self.closed and not at_once:
            return False
        self.level = min(self.level + 1, LEVEL_MAX) if state is BreakerState.HALF_OPEN else 0
        self._open(now_s, cause, f"{self.failures} in a row, last: {evidence}" if self.failures > 1 else evidence)
        self.until_s = now_s + self._rest_s()
        return True

    def success(self, *, probe: bool = False) -> bool:
        """One success; True when this closed the circuit."""
        state = self.state
        if state is BreakerState.CLOSED:
            if self._storage.counter:
                self._circuit.call(_succeed)
                self._strikes.clear()
            return False
        if not probe:
            return False
        if state is BreakerState.OPEN:  # another worker's record re-opened it while our probe was out
            self._circuit.half_open()
        self._circuit.call(_succeed)
        if self.state is not BreakerState.CLOSED:
            return False
        self.reset()
        return True

    def begin_probe(self, now_s: float) -> None:
        """A probe is on its way: an open circuit becomes half-open. The caller has judged that it is due.

        ``until_s`` becomes now: from here other workers count the time that they wait for the verdict.
        """
        if self.state is BreakerState.OPEN:
            self._circuit.half_open()
        self.until_s = now_s

    def forgive(self, since_s: float, now_s: float) -> bool:
        """Takes back the strikes since ``since_s``: they were not this one's fault. True when the state changed.

        A circuit that those strikes opened closes; one that was open before and only rests longer because of them
        may be probed at once.
        """
        kept = [at_s for at_s in self._strikes if at_s < since_s]
        if not self.closed:
            if self.since_s < since_s:
                return False
            if self.level:
                self.level -= 1
                self.until_s = now_s
                return True
        if self.closed and len(kept) == len(self._strikes):
            return False
        was_closed = self.closed
        self.reset()
        self._strikes.extend(kept)
        for _ in kept:
            self._storage.increment_counter()
        return not was_closed

    def reset(self) -> None:
        """Closed, level 0, nothing remembered."""
        self._circuit.close()
        self._storage.reset_counter()
        self._strikes.clear()
        self.level = 0

    def adopt_open(self, since_s: float, until_s: float, level: int, cause: Cause, evidence: str) -> None:
        """Opens as another worker says."""
        self.level = max(0, min(level, LEVEL_MAX))
        self._open(since_s, cause, evidence)
        self.until_s = until_s

    def trip(self, now_s: float, until_s: float, cause: Cause, evidence: str) -> None:
        """Opens now, until a given time."""
        self.level = 0
        self._open(now_s, cause, evidence)
        self.until_s = until_s

    def _open(self, now_s: float, cause: Cause, evidence: str) -> None:
        self._circuit.open()
        self.since_s = now_s
        self.cause = cause
        self.evidence = evidence

    def _rest_s(self) -> float:
        rest_s = min(self._rules.open_s * 2.0**self.level, self._rules.open_max_s)
        return rest_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
