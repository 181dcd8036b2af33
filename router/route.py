"""Is it the account that fails, or everybody's way to the upstream?

One circuit for the route, so that a fault that all share never benches the accounts. Rules that hold:

* route faults (DNS, refused, TLS, Cloudflare) in a row open it;
* a storm opens it too: BROKEN or OVERLOADED from at least half of the serving accounts (two or more) within 10 s
  with no answer in between that proves the way is good; so does the last serving account's own breaker opening;
* while it is not closed, such faults are charged to the route only, and the strikes of the storm are taken back;
* after a storm one request may try at once, after route faults when the rest is over; rests are 1 s to 3.5 s give or
  take 20 %, and one good answer closes it: all accounts are usable again within 5 s;
* anything that the upstream itself answers (a 429, a 401, a 400) proves the way as well as a success does.

It knows accounts by id only and cools none. Source: Envoy's panic threshold and maximum ejection percentage.
"""

from __future__ import annotations

import random
from enum import Enum

from router.breaker import Breaker, BreakerRules, BreakerState
from router.types import Cause, Outcome, OutcomeKind

WINDOW_S = 10.0
FAILURES = 5
OPEN_S = 1.0
OPEN_MAX_S = 3.5
STALE_S = 5.0

_STORMY = frozenset({OutcomeKind.BROKEN, OutcomeKind.OVERLOADED})


class Blame(Enum):
    """To whom an outcome is charged."""

    ACCOUNT = "account"  # as the outcome says
    ROUTE = "route"  # not the account's, whatever it says
    STORM = "storm"  # the same, and the strikes of the last WINDOW_S are to be taken back


class RouteBreaker:
    """The circuit of the way to the upstream; one lease at a time is its probe."""

    __slots__ = ("_breaker", "_changed", "_probing", "_recovered_s", "_struck")

    def __init__(self, rng: random.Random) -> None:
        self._breaker = Breaker(BreakerRules(FAILURES, 1, OPEN_S, OPEN_MAX_S), rng)
        self._probing = False
        self._struck: dict[str, float] = {}
        self._recovered_s = float("-inf")
        self._changed = False

    @property
    def quiet(self) -> bool:
        """Closed and without a strike: a success tells it nothing."""
        return self._breaker.quiet and not self._struck

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    @property
    def closed(self) -> bool:
        return self._breaker.closed

    @property
    def breaker(self) -> Breaker:
        """For reports; nobody else feeds it."""
        return self._breaker

    def admits(self, now_s: float) -> bool:
        """A lease may go out now; when not closed, as the only probe."""
        if self._breaker.closed:
            return True
        return not self._probing and now_s >= self._breaker.until_s

    def retry_after_s(self, now_s: float) -> float:
        """When it is worth coming back."""
        rest_s = self._breaker.until_s - now_s
        return rest_s if rest_s > 0 else OPEN_S

    def begin_probe(self, now_s: float) -> bool:
        """True when the lease that goes out is the probe."""
        if self._breaker.closed:
            return False
        self._breaker.begin_probe(now_s)
        self._probing = True
        return True

    def settle(
        self, outcome: Outcome, account_id: str, *, started_s: float, probe: bool, now_s: float, serving: int
    ) -> Blame:
        """One outcome; ``serving`` is how many accounts could be leased but for their breakers."""
        if probe:
            self._probing = False
        kind = outcome.kind
        if kind is OutcomeKind.CANCELLED or not (outcome.sent or kind is OutcomeKind.ROUTE or kind in _STORMY):
            return Blame.ACCOUNT
        if kind is OutcomeKind.ROUTE:
            opened = self._breaker.strike(now_s, Cause.ROUTE, outcome.evidence, probe=probe)
            self._changed |= opened
            return Blame.STORM if opened else Blame.ROUTE
        if kind in _STORMY:
            if self._breaker.closed and started_s < self._recovered_s:
                return Blame.ROUTE  # a late victim of a storm that is over
            return self._stormy(outcome, account_id, now_s, probe=probe, serving=serving)
        self._proved(started_s, now_s, probe=probe)
        return Blame.ACCOUNT

    def storm(self, now_s: float, evidence: str) -> None:
        """Every serving account is out by faults of its kind: that is the route's. One request may try at once."""
        self._struck.clear()
        if self._breaker.closed:
            self._breaker.trip(now_s, now_s, Cause.ROUTE, evidence)
            self._changed = True

    def adopt(self, *, is_open: bool, since_s: float, until_s: float, level: int, evidence: str, now_s: float) -> None:
        """What another worker found, unless it is stale. It shortens nothing that this worker found itself, and a
        wrong clock elsewhere keeps nobody out for longer than our own rest would."""
        if not is_open:
            if not self._breaker.closed:
                self._recovered_s = now_s
                self.reset()
        elif self._breaker.closed and until_s + STALE_S > now_s:
            until_s = min(until_s, now_s + OPEN_MAX_S)
            self._breaker.adopt_open(since_s, until_s, level, Cause.ROUTE, evidence)

    def reset(self) -> None:
        self._breaker.reset()
        self._struck.clear()
        self._changed = True

    def take_changed(self) -> bool:
        changed, self._changed = self._changed, False
        return changed

    def _stormy(self, outcome: Outcome, account_id: str, now_s: float, *, probe: bool, serving: int) -> Blame:
        if not self._breaker.closed:
            self._changed |= self._breaker.strike(now_s, Cause.ROUTE, outcome.evidence, probe=probe)
            return Blame.ROUTE
        self._struck[account_id] = now_s
        recent = {one: at_s for one, at_s in self._struck.items() if now_s - at_s <= WINDOW_S}
        self._struck = recent
        if len(recent) < max(2, (serving + 1) // 2):
            return Blame.ACCOUNT
        self.storm(now_s, f"{len(recent)} of {serving} accounts failed within {WINDOW_S:.0f} s: {outcome.evidence}")
        return Blame.STORM

    def _proved(self, started_s: float, now_s: float, *, probe: bool) -> None:
        """The upstream itself has answered a lease that began at ``started_s``."""
        if self._struck:
            self._struck = {one: at_s for one, at_s in self._struck.items() if at_s > started_s}
        if self._breaker.success(probe=probe):
            self._recovered_s = now_s
            self._changed = True
