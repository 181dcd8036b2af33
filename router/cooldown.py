"""What does a refusal say about when to come back, and how much is that worth?

From evidence (an Outcome) to a Cooldown: cause, scope, until when, next probe, level. Rules that hold:

* strength: the reset of a plan's window (authoritative) > a time to come back > none (bare: base * 2^level);
* a bare refusal escalates at most once per rest: an outcome of a lease that started before the current rest began
  belongs to the same burst and changes nothing;
* a rest in force gives way to stronger evidence, or to evidence that reaches further; an authoritative deadline is
  shortened only by the upstream's own answer to a question asked after it began;
* a reset that lies in the past or absurdly far is not believed; one beyond the cap is cut to the cap;
* a rest that ends far off gets probe times, so that an early reset is noticed;
* a success ends it and takes one level off; each further success takes off one more.

``*_s`` is monotonic except ``resets_at_s`` (Unix, as the upstream said it). It does not decide who may probe. Pure.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from router.types import ACCOUNT_SCOPE, Cause, Moment, Outcome, OutcomeKind

BARE_MAX_S = 300.0
"""Longest rest without a word from the upstream: a burst of throttling must not look like an empty plan."""
OVERLOAD_MAX_S = 30.0
"""Longest rest that an overloaded upstream can ask of one account: longer ones feed the overload of the others."""
LEAST_S = 0.1
MODEL_MAX_S = 6 * 3600.0
ABSURD_S = 60 * 86_400.0
FORGET_S = 600.0
LEVEL_MAX = 20
JITTER = 0.2


@dataclass(frozen=True, slots=True)
class CooldownRules:
    base_s: float
    max_s: float
    probe_interval_s: float


@dataclass(frozen=True, slots=True)
class Cooldown:
    """One rest of an account or of one model of it. ``ended_s``: a success ended it, and only the level remains.

    ``authoritative``: ``until_s`` is the plan's own reset and may be shown to a client as ``resets_at_s``.
    ``owner`` is the worker that may probe first.
    """

    scope: str
    cause: Cause
    evidence: str
    since_s: float
    until_s: float
    next_probe_s: float | None
    level: int
    authoritative: bool
    owner: str
    resets_at_s: float | None = None
    plan_type: str | None = None
    ended_s: float | None = None

    def in_force(self, now_s: float) -> bool:
        return self.ended_s is None and now_s < self.until_s


def cool(
    outcome: Outcome,
    scope: str,
    current: Cooldown | None,
    *,
    started_s: float,
    now: Moment,
    rules: CooldownRules,
    rng: random.Random,
    owner: str,
) -> Cooldown | None:
    """The rest that follows from ``outcome``, or None when what is known already stands.

    Args: ``started_s`` is when the refused lease began; ``current`` what is known of this scope, in force or not.
    """
    found = _deadline(outcome, now, rules)
    if found is None:
        if outcome.kind is OutcomeKind.OVERLOADED:
            return None  # a strike is all that it is worth
        return _bare(outcome, scope, current, started_s=started_s, now=now, rules=rules, rng=rng, owner=owner)
    until_s, resets_at_s = found
    authoritative = outcome.authoritative
    if current is not None and current.in_force(now.mono_s):
        newer = started_s > current.since_s
        if current.authoritative and not authoritative and until_s <= current.until_s:
            return probe_later(current, now, rules, rng) if newer else None
        stronger = authoritative and (newer or not current.authoritative)
        if not stronger and until_s <= current.until_s:
            return None
    return Cooldown(
        scope=scope,
        cause=_cause(outcome, authoritative),
        evidence=outcome.evidence,
        since_s=now.mono_s,
        until_s=until_s,
        next_probe_s=_next_probe(until_s, now, rules, rng),
        level=max(0, current.level) if current is not None else 0,
        authoritative=authoritative,
        owner=owner,
        resets_at_s=resets_at_s if authoritative else None,
        plan_type=outcome.plan_type,
    )


def after_success(cooldown: Cooldown, now_s: float) -> Cooldown | None:
    """The rest is over; None when nothing of it is worth remembering."""
    level = cooldown.level - 1
    return replace(cooldown, level=level, ended_s=now_s, next_probe_s=None) if level >= 0 else None


def probe_later(current: Cooldown, now: Moment, rules: CooldownRules, rng: random.Random) -> Cooldown:
    """The rest stands as it is; the next look comes an interval later."""
    return replace(current, next_probe_s=_next_probe(current.until_s, now, rules, rng))


def _deadline(outcome: Outcome, now: Moment, rules: CooldownRules) -> tuple[float, float] | None:
    """(monotonic until, the reset in Unix seconds), or None when the outcome gives no believable time."""
    absolute_s = None if outcome.resets_at_s is None else outcome.resets_at_s - now.wall_s
    for rest_s in (absolute_s, outcome.retry_after_s):
        if rest_s is None or not math.isfinite(rest_s) or rest_s <= 0 or rest_s > ABSURD_S:
            continue
        cap_s = OVERLOAD_MAX_S if outcome.kind is OutcomeKind.OVERLOADED else rules.max_s
        return now.mono_s + min(max(rest_s, LEAST_S), cap_s), now.wall_s + rest_s
    return None


def _bare(
    outcome: Outcome,
    scope: str,
    current: Cooldown | None,
    *,
    started_s: float,
    now: Moment,
    rules: CooldownRules,
    rng: random.Random,
    owner: str,
) -> Cooldown | None:
    if current is not None and current.in_force(now.mono_s):
        if started_s <= current.since_s:
            return None
        if current.authoritative:
            return probe_later(current, now, rules, rng)
    level = _next_level(current, started_s, now.mono_s)
    if outcome.kind is OutcomeKind.MODEL:
        rest_s = min(rules.probe_interval_s * 2.0**level, MODEL_MAX_S, rules.max_s)
    else:
        rest_s = min(rules.base_s * 2.0**level, max(BARE_MAX_S, rules.base_s), rules.max_s)
    until_s = now.mono_s + rest_s * rng.uniform(1, 1 + JITTER)
    if current is not None and current.in_force(now.mono_s):
        until_s = max(until_s, current.until_s)
    return Cooldown(
        scope=scope,
        cause=_bare_cause(outcome),
        evidence=outcome.evidence,
        since_s=now.mono_s,
        until_s=until_s,
        next_probe_s=None,
        level=level,
        authoritative=False,
        owner=owner,
        plan_type=outcome.plan_type,
    )


def _next_level(current: Cooldown | None, started_s: float, now_s: float) -> int:
    if current is None:
        return 0
    over_s = current.until_s if current.ended_s is None else current.ended_s
    if now_s - over_s > FORGET_S:
        return 0
    if started_s <= current.since_s:
        return max(0, current.level)
    if current.cause not in (Cause.RATE_LIMITED_BARE, Cause.MODEL) and current.level <= 0:
        return 0
    return min(max(0, current.level + 1), LEVEL_MAX)


def _cause(outcome: Outcome, authoritative: bool) -> Cause:
    if outcome.cause is not None:
        return outcome.cause
    if outcome.kind is OutcomeKind.OVERLOADED:
        return Cause.OVERLOADED
    if outcome.kind is OutcomeKind.MODEL:
        return Cause.MODEL
    return Cause.USAGE_LIMIT if authoritative else Cause.RATE_LIMITED


def _bare_cause(outcome: Outcome) -> Cause:
    """A bare refusal keeps its own word even when it was about the plan: without a time it is only an estimate."""
    return Cause.MODEL if outcome.kind is OutcomeKind.MODEL else Cause.RATE_LIMITED_BARE


def _next_probe(until_s: float, now: Moment, rules: CooldownRules, rng: random.Random) -> float | None:
    at_s = now.mono_s + rules.probe_interval_s * rng.uniform(1 - JITTER, 1 + JITTER)
    return at_s if at_s < until_s else None


def opens_s(cooldown: Cooldown) -> float:
    """From when one lease may try. A model's far reset is tried by a request for it, for nothing else can tell."""
    if cooldown.scope != ACCOUNT_SCOPE and cooldown.next_probe_s is not None:
        return min(cooldown.next_probe_s, cooldown.until_s)
    return cooldown.until_s
