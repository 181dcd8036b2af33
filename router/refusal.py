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

from router.cooldown import Cooldown
from router.roster import Member
from router.types import ACCOUNT_SCOPE, Cause, NoAccount, NoAccountReason, RouteQuery, model_scope

BUSY_RETRY_S = 0.5
_LIMITS = frozenset({Cause.USAGE_LIMIT, Cause.RATE_LIMITED, Cause.RATE_LIMITED_BARE, Cause.RESERVE})
_FOR_A_PERSON = frozenset({Cause.AUTH, Cause.BLOCKED})


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
    resting = [member for member in able if returns_s(member, query.model, now_s) > now_s]
    if len(resting) < len(able):
        awake = [member for member in able if member not in resting and member.id not in query.excluded]
        if awake:
            return NoAccount(NoAccountReason.BUSY, retry_after_s=BUSY_RETRY_S)
        return NoAccount(NoAccountReason.EXCLUDED)
    return _all_rest(query.model, resting, now_s)


def refuse_owner(query: RouteQuery, owner: Member | None, now_s: float) -> NoAccount:
    """The owner cannot take the query, but another could: when would the owner be back?"""
    if owner is None or not owner.may_serve(query):
        return NoAccount(NoAccountReason.OWNER_OUT)
    rest_s = returns_s(owner, query.model, now_s) - now_s
    return NoAccount(NoAccountReason.OWNER_OUT, retry_after_s=rest_s if rest_s > 0 else BUSY_RETRY_S)


def returns_s(member: Member, model: str, now_s: float) -> float:
    """When the member's health lets something through again; now, when it does already."""
    return member.health.opens_s(model, now_s)


def _all_rest(model: str, resting: list[Member], now_s: float) -> NoAccount:
    lacking = [member for member in resting if _rest_cause(member, model, now_s) is Cause.MODEL]
    if len(lacking) == len(resting):
        return NoAccount(NoAccountReason.MODEL_UNAVAILABLE, retry_after_s=_first(lacking, model, now_s))
    able = [member for member in resting if member not in lacking]
    waiting = [member for member in able if _rest_cause(member, model, now_s) not in _FOR_A_PERSON] or able
    first = min(waiting, key=lambda member: returns_s(member, model, now_s))
    retry_after_s = _first(able, model, now_s)
    if _rest_cause(first, model, now_s) not in _LIMITS:
        return NoAccount(NoAccountReason.UNUSABLE, retry_after_s=retry_after_s)
    resets = [
        (cooldown.resets_at_s, cooldown.plan_type or member.account.plan)
        for member in waiting
        if (cooldown := _cooldown(member, model, now_s)) is not None and cooldown.resets_at_s is not None
    ]
    resets_at_s, plan = min(resets, key=lambda one: one[0]) if resets else (None, first.account.plan)
    return NoAccount(NoAccountReason.EXHAUSTED, retry_after_s=retry_after_s, resets_at_s=resets_at_s, plan_type=plan)


def _first(members: list[Member], model: str, now_s: float) -> float:
    return min(returns_s(member, model, now_s) for member in members) - now_s


def _rest_cause(member: Member, model: str, now_s: float) -> Cause:
    """What keeps it away longest."""
    cooldown = _cooldown(member, model, now_s)
    breaker = member.health.breaker
    if cooldown is None or (not breaker.closed and breaker.until_s > cooldown.until_s):
        return breaker.cause
    return cooldown.cause


def _cooldown(member: Member, model: str, now_s: float) -> Cooldown | None:
    """The rest that is over last, among those that hold for the model."""
    found = [
        cooldown
        for scope in (ACCOUNT_SCOPE, model_scope(model))
        if (cooldown := member.health.cooldowns.get(scope)) is not None and member.health.holds(cooldown, now_s)
    ]
    return max(found, key=lambda cooldown: cooldown.until_s) if found else None
