"""No account took the query: why, and when is it worth coming back?

Pure over the members. Rules that hold, in this order:

* nobody in these pools: NONE_CONFIGURED; nobody active: UNUSABLE; nobody with the model: MODEL_UNAVAILABLE;
* somebody well is only full (or its trial is out): BUSY; somebody well was tried already: EXCLUDED;
* all rest: by the one that is back first. Usage and rate limits are EXHAUSTED, with the earliest authoritative
  reset; faults of the account are UNUSABLE with a time. Rests that only a person ends soon (AUTH, BLOCKED) and
  models that are not in the plan do not speak for the others.

So an exhausted account never speaks while another is usable, and a client is told to come back no later than
something is back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from router.cooldown import Cooldown
from router.roster import Member
from router.types import ACCOUNT_SCOPE, Cause, NoAccount, NoAccountReason, RouteQuery, model_scope

BUSY_RETRY_S = 0.5
_LIMITS = frozenset({Cause.USAGE_LIMIT, Cause.RATE_LIMITED, Cause.RATE_LIMITED_BARE, Cause.RESERVE})
_FOR_A_PERSON = frozenset({Cause.AUTH, Cause.BLOCKED})


class _Rest(NamedTuple):
    """What keeps one member away from a model longest, and until when."""

    until_s: float
    cause: Cause
    cooldown: Cooldown | None
    plan: str | None


def refuse(query: RouteQuery, members: Iterable[Member], now_s: float) -> NoAccount:
    """The refusal for a query without regard to its owner; ``members`` are those of its pools."""
    present = list(members)
    if not present:
        return NoAccount(NoAccountReason.NONE_CONFIGURED)
    active = [member for member in present if member.active]
    if not active:
        return NoAccount(NoAccountReason.UNUSABLE)
    able = [member for member in active if member.has(query.model)]
    if not able:
        return NoAccount(NoAccountReason.MODEL_UNAVAILABLE)
    rests, someone_awake = [], False
    for member in able:
        until_s = member.health.opens_s(query.model, now_s)
        if until_s > now_s:
            rests.append(_rest(member, query.model, until_s, now_s))
        elif member.id not in query.excluded:
            return NoAccount(NoAccountReason.BUSY, retry_after_s=BUSY_RETRY_S)
        else:
            someone_awake = True
    return NoAccount(NoAccountReason.EXCLUDED) if someone_awake else _all_rest(rests, now_s)


def refuse_owner(query: RouteQuery, owner: Member | None, now_s: float) -> NoAccount:
    """The owner cannot take the query, but another could: when would the owner be back?"""
    if owner is None or not owner.may_serve(query):
        return NoAccount(NoAccountReason.OWNER_OUT)
    rest_s = owner.health.opens_s(query.model, now_s) - now_s
    return NoAccount(NoAccountReason.OWNER_OUT, retry_after_s=rest_s if rest_s > 0 else BUSY_RETRY_S)


def _all_rest(rests: list[_Rest], now_s: float) -> NoAccount:
    with_model = [rest for rest in rests if rest.cause is not Cause.MODEL]
    if not with_model:
        return NoAccount(NoAccountReason.MODEL_UNAVAILABLE, retry_after_s=_first(rests).until_s - now_s)
    speakers = [rest for rest in with_model if rest.cause not in _FOR_A_PERSON] or with_model
    first = _first(speakers)
    retry_after_s = first.until_s - now_s
    if first.cause not in _LIMITS:
        return NoAccount(NoAccountReason.UNUSABLE, retry_after_s=retry_after_s)
    resets = [
        (rest.cooldown.resets_at_s, rest.cooldown.plan_type or rest.plan)
        for rest in speakers
        if rest.cooldown is not None and rest.cooldown.resets_at_s is not None
    ]
    resets_at_s, plan = min(resets, key=lambda one: one[0]) if resets else (None, first.plan)
    return NoAccount(NoAccountReason.EXHAUSTED, retry_after_s=retry_after_s, resets_at_s=resets_at_s, plan_type=plan)


def _first(rests: list[_Rest]) -> _Rest:
    return min(rests, key=lambda rest: rest.until_s)


def _rest(member: Member, model: str, until_s: float, now_s: float) -> _Rest:
    health, plan = member.health, member.account.plan
    found: Cooldown | None = None
    for scope in (ACCOUNT_SCOPE, model_scope(model)):
        cooldown = health.cooldowns.get(scope)
        if cooldown is not None and health.holds(cooldown, now_s):
            found = cooldown if found is None or cooldown.until_s > found.until_s else found
    breaker = health.breaker
    if found is None or (not breaker.closed and breaker.until_s > found.until_s):
        return _Rest(until_s, breaker.cause, found, plan)
    return _Rest(until_s, found.cause, found, plan)
