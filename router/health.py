"""How is one account, and what may be asked of it now?

Joins the account's breaker and its rests (of the account, of single models), and holds the probe slots. Rules that
hold:

* strikes: BROKEN, OVERLOADED, BLOCKED, AUTH. Two BLOCKED in a row, or an AUTH after a refresh, open the breaker at
  once; parallel AUTH of one stale token are one strike. Nothing else strikes; CLIENT_ERROR, CANCELLED, ROUTE and
  FOREIGN change nothing but give back a probe slot;
* an open breaker or a rest that is over lets one lease through at a time: first only for the worker that owns it;
  the others wait ``takeover_s`` for its verdict. Then a breaker may be probed by them too, and a rest is simply over;
* a lease holds every slot that it needed; a slot given back without a verdict is free for the next.

It does not know of other accounts, nor of the route. Times are monotonic.
"""

from __future__ import annotations

import random
from dataclasses import replace
from enum import IntEnum
from typing import NamedTuple

from router.breaker import Breaker, BreakerRules
from router.cooldown import Cooldown, CooldownRules, after_success, cool, opens_s, probe_later
from router.types import ACCOUNT_SCOPE, Cause, Moment, Outcome, OutcomeKind, PoolRules, model_scope

BREAKER = "breaker"
COOLDOWN = "cooldown"
BLOCKED_IN_A_ROW = 2
SCOPES_MAX = 64
FOREVER_S = float("inf")

_STRIKES = {
    OutcomeKind.BROKEN: Cause.BROKEN,
    OutcomeKind.OVERLOADED: Cause.OVERLOADED,
    OutcomeKind.BLOCKED: Cause.BLOCKED,
    OutcomeKind.AUTH: Cause.AUTH,
}
_COOLS = frozenset({OutcomeKind.RATE_LIMITED, OutcomeKind.OVERLOADED, OutcomeKind.MODEL})

Key = tuple[str, str]
"""(kind, scope) of a part of an account's health: ("breaker", "account"), ("cooldown", "model:...")."""


class Standing(IntEnum):
    CLEAR = 0
    TRIAL = 1  # one lease at a time
    RESTS = 2


class Gate(NamedTuple):
    """What an account lets through for one model: ``slots`` a trial lease holds, and when the answer may change."""

    standing: Standing
    slots: tuple[str, ...]
    changes_s: float


CLEAR = Gate(Standing.CLEAR, (), FOREVER_S)


class AccountHealth:
    """The changing part of one account, in one worker's eyes."""

    def __init__(self, rules: PoolRules, rng: random.Random, worker_id: str) -> None:
        self._rng = rng
        self._worker_id = worker_id
        self._takeover_s = rules.takeover_s
        self._cooldown_rules = CooldownRules(rules.cooldown_base_s, rules.cooldown_max_s, rules.probe_interval_s)
        self.breaker = Breaker(
            BreakerRules(
                rules.breaker_failures, rules.breaker_successes, rules.breaker_open_s, rules.breaker_open_max_s
            ),
            rng,
        )
        self.breaker_owner = worker_id
        self.cooldowns: dict[str, Cooldown] = {}
        self.probing: set[str] = set()
        self._last_auth_s = float("-inf")
        self._blocked_in_a_row = 0

    @property
    def quiet(self) -> bool:
        """A success would change nothing."""
        return not self.cooldowns and self.breaker.quiet and not self._blocked_in_a_row

    def gate(self, model: str, now_s: float) -> Gate:
        """What may be asked for ``model`` now, slots that are taken not counted."""
        if not self.cooldowns and self.breaker.closed:
            return CLEAR
        standing, changes_s = Standing.CLEAR, FOREVER_S
        slots: list[str] = []
        if not self.breaker.closed:
            standing, opens = self._breaker_gate(now_s)
            if standing is Standing.RESTS:
                changes_s = opens
            slots.append(BREAKER)
        for scope in (ACCOUNT_SCOPE, model_scope(model)):
            cooldown = self.cooldowns.get(scope)
            if cooldown is None:
                continue
            one, change = self._cooldown_gate(cooldown, now_s)
            if one is not Standing.CLEAR:
                standing, changes_s = max(standing, one), min(changes_s, change)
                slots.append(scope)
        return Gate(standing, tuple(slots) if standing is Standing.TRIAL else (), changes_s)

    def opens_s(self, model: str, now_s: float) -> float:
        """When all that makes it rest for ``model`` is over, as far as is known now."""
        opens = now_s
        if not self.breaker.closed:
            opens = max(opens, self._breaker_gate(now_s)[1])
        for scope in (ACCOUNT_SCOPE, model_scope(model)):
            cooldown = self.cooldowns.get(scope)
            if cooldown is not None and self._cooldown_gate(cooldown, now_s)[0] is Standing.RESTS:
                opens = max(opens, self._cooldown_gate(cooldown, now_s)[1])
        return opens

    def holds(self, cooldown: Cooldown, now_s: float) -> bool:
        """The rest still keeps something back."""
        return self._cooldown_gate(cooldown, now_s)[0] is not Standing.CLEAR

    def begin_probe(self, slots: tuple[str, ...], now_s: float) -> bool:
        """A trial lease goes out; True when the breaker is on trial, which the other workers should know."""
        self.probing.update(slots)
        if BREAKER not in slots:
            return False
        self.breaker.begin_probe(now_s)
        self.breaker_owner = self._worker_id
        return True

    def settle(
        self, outcome: Outcome, model: str, started_s: float, slots: tuple[str, ...], now: Moment, *, blame: bool = True
    ) -> list[Key]:
        """The verdict on a lease; the parts that changed. ``blame`` False: a strike is not this account's."""
        self.probing.difference_update(slots)
        kind = outcome.kind
        if kind is OutcomeKind.OK:
            return self._succeeded(model, started_s, slots, now)
        changed: list[Key] = []
        if kind in _COOLS and blame:
            changed += self._cooled(outcome, model, started_s, now)
        if kind in _STRIKES and blame and self._struck(outcome, started_s, probe=BREAKER in slots, now_s=now.mono_s):
            self.breaker_owner = self._worker_id
            changed.append((BREAKER, ACCOUNT_SCOPE))
        return changed

    def take_due_probe(self, now: Moment) -> bool:
        """The account's far rest is due for a look, ours or left lying by its owner; the next is an interval away."""
        cooldown = self.cooldowns.get(ACCOUNT_SCOPE)
        if cooldown is None or cooldown.next_probe_s is None or not cooldown.in_force(now.mono_s):
            return False
        patience_s = 0.0 if cooldown.owner == self._worker_id else self._takeover_s
        if now.mono_s < cooldown.next_probe_s + patience_s:
            return False
        later = probe_later(cooldown, now, self._cooldown_rules, self._rng)
        self.cooldowns[ACCOUNT_SCOPE] = replace(later, owner=self._worker_id)
        return True

    def probed(self, outcome: Outcome, now: Moment) -> list[Key]:
        """The answer of a background probe of the account's rest."""
        cooldown = self.cooldowns.get(ACCOUNT_SCOPE)
        if cooldown is None:
            return []
        if outcome.kind is OutcomeKind.OK:
            return self._ended(cooldown, now.mono_s)
        if outcome.kind is OutcomeKind.RATE_LIMITED:
            return self._cooled(outcome, "", now.mono_s, now)
        self.cooldowns[ACCOUNT_SCOPE] = probe_later(cooldown, now, self._cooldown_rules, self._rng)
        return [(COOLDOWN, ACCOUNT_SCOPE)]

    def keep_back(self, wanted: Outcome | None, now: Moment) -> list[Key]:
        """The account's reserve as its windows ask for it now: begins, moves or ends the rest that stands for it."""
        cooldown = self.cooldowns.get(ACCOUNT_SCOPE)
        if wanted is not None:
            if cooldown is not None and cooldown.in_force(now.mono_s) and cooldown.cause is not Cause.RESERVE:
                return []  # the upstream's own word
            return self._cooled(wanted, "", now.mono_s, now)
        if cooldown is None or cooldown.cause is not Cause.RESERVE:
            return []
        return self._ended(cooldown, now.mono_s)

    def forgive(self, since_s: float, now_s: float) -> list[Key]:
        """Takes back the strikes since then."""
        if self.breaker.cause in (Cause.AUTH, Cause.BLOCKED) and not self.breaker.closed:
            return []
        if not self.breaker.forgive(since_s, now_s):
            return []
        self.breaker_owner = self._worker_id
        return [(BREAKER, ACCOUNT_SCOPE)]

    def clear(self) -> list[Key]:
        """As good as new."""
        changed: list[Key] = [(COOLDOWN, scope) for scope in self.cooldowns]
        if not self.breaker.closed:
            changed.append((BREAKER, ACCOUNT_SCOPE))
        self.cooldowns.clear()
        self.breaker.reset()
        self.breaker_owner = self._worker_id
        self._blocked_in_a_row = 0
        return changed

    def _breaker_gate(self, now_s: float) -> tuple[Standing, float]:
        patience_s = 0.0 if self.breaker_owner == self._worker_id else self._takeover_s
        opens = self.breaker.until_s + patience_s
        return (Standing.TRIAL if now_s >= opens else Standing.RESTS), opens

    def _cooldown_gate(self, cooldown: Cooldown, now_s: float) -> tuple[Standing, float]:
        over_s = cooldown.until_s + self._takeover_s
        if cooldown.ended_s is not None or now_s >= over_s:
            return Standing.CLEAR, FOREVER_S
        if cooldown.owner != self._worker_id:
            return Standing.RESTS, over_s
        opens = opens_s(cooldown)
        return (Standing.TRIAL, over_s) if now_s >= opens else (Standing.RESTS, opens)

    def _succeeded(self, model: str, started_s: float, slots: tuple[str, ...], now: Moment) -> list[Key]:
        self._blocked_in_a_row = 0
        changed: list[Key] = []
        if self.breaker.success(probe=BREAKER in slots):
            self.breaker_owner = self._worker_id
            changed.append((BREAKER, ACCOUNT_SCOPE))
        if self.cooldowns:
            for scope in (ACCOUNT_SCOPE, model_scope(model)):
                cooldown = self.cooldowns.get(scope)
                if cooldown is None or started_s <= cooldown.since_s:
                    continue
                if scope in slots or not cooldown.in_force(now.mono_s):
                    changed += self._ended(cooldown, now.mono_s)
        return changed

    def _ended(self, cooldown: Cooldown, now_s: float) -> list[Key]:
        rest = after_success(cooldown, now_s)
        if rest is None:
            del self.cooldowns[cooldown.scope]
        else:
            self.cooldowns[cooldown.scope] = rest
        return [(COOLDOWN, cooldown.scope)] if cooldown.ended_s is None else []

    def _cooled(self, outcome: Outcome, model: str, started_s: float, now: Moment) -> list[Key]:
        scope = outcome.scope
        if outcome.kind is OutcomeKind.MODEL and scope == ACCOUNT_SCOPE:
            scope = model_scope(model)
        rest = cool(
            outcome,
            scope,
            self.cooldowns.get(scope),
            started_s=started_s,
            now=now,
            rules=self._cooldown_rules,
            rng=self._rng,
            owner=self._worker_id,
        )
        if rest is None:
            return []
        self.put_cooldown(rest, now.mono_s)
        return [(COOLDOWN, scope)]

    def put_cooldown(self, cooldown: Cooldown, now_s: float) -> None:
        """Keeps it; the number of models remembered is bounded, those that are over go first."""
        self.cooldowns[cooldown.scope] = cooldown
        if len(self.cooldowns) > SCOPES_MAX:
            over = min(self.cooldowns.values(), key=lambda one: (one.in_force(now_s), one.until_s))
            del self.cooldowns[over.scope]

    def _struck(self, outcome: Outcome, started_s: float, *, probe: bool, now_s: float) -> bool:
        kind = outcome.kind
        at_once = False
        if kind is OutcomeKind.AUTH:
            if not outcome.after_refresh and started_s <= self._last_auth_s:
                return False  # the same stale token, found by a parallel lease
            self._last_auth_s = now_s
            at_once = outcome.after_refresh
        if kind is OutcomeKind.BLOCKED:
            self._blocked_in_a_row += 1
            at_once = self._blocked_in_a_row >= BLOCKED_IN_A_ROW
        else:
            self._blocked_in_a_row = 0
        cause = outcome.cause or _STRIKES[kind]
        return self.breaker.strike(now_s, cause, outcome.evidence, probe=probe, at_once=at_once)
