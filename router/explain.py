"""Why does an account get no requests, on what evidence, and until when?

One pure function over stored records, so that a command in another process and the worker itself give the same
answer. What only a worker knows (strikes so far, streams in flight) is added by the pool.

It reports what is in force; rests that are over are left out. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from router.breaker import BreakerState
from router.feed import CLEARED
from router.health import BREAKER
from router.types import ACCOUNT_SCOPE, AccountState, Cause
from store.records import ROUTE, Account, AccountStatus, HealthRecord, WindowRecord


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that keeps requests away. ``scope`` is ``account``, ``model:<slug>`` or ``route`` (every account).

    ``kind`` is ``cooldown``, ``breaker`` or ``admin`` (disabled, needs a login). ``until_s`` None: until somebody
    acts. ``next_probe_s``: when it is looked at next. ``level``: how often it was prolonged.
    """

    kind: str
    scope: str
    cause: str
    evidence: str
    since_s: float | None
    until_s: float | None
    next_probe_s: float | None
    level: int
    state: str
    owner: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """How an account stands. ``usable``: some model could be served now. ``failures``: strikes in a row, None when
    read from the store; ``inflight``: likewise."""

    account_id: str
    label: str
    state: AccountState
    usable: bool
    blocks: tuple[Block, ...]
    breaker: str
    windows: tuple[WindowRecord, ...]
    failures: int | None = None
    inflight: int | None = None


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    account: Account
    state: AccountState
    inflight: int


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """For metrics and readiness. ``usable``: accounts that could take some request now, the route aside."""

    accounts: tuple[AccountSnapshot, ...]
    counts: dict[AccountState, int]
    inflight: int
    usable: int
    route: BreakerState


def explain_records(
    account: Account, health: Iterable[HealthRecord], windows: Iterable[WindowRecord], now_s: float
) -> Explanation:
    """The explanation from stored records; those of other accounts are passed over, those of the route are not."""
    records = [record for record in health if record.account_id in (account.id, ROUTE) and _in_force(record, now_s)]
    blocks = [*_acts(account), *(_block(record) for record in records)]
    breaker = next(
        (one.state for one in records if one.account_id == account.id and one.kind == BREAKER), BreakerState.CLOSED
    )
    state = _state(account, [record for record in records if record.account_id == account.id], breaker)
    stopped = any(record.scope == ACCOUNT_SCOPE and record.until_s > now_s for record in records)
    return Explanation(
        account_id=account.id,
        label=account.label,
        state=state,
        usable=not stopped and state not in (AccountState.DISABLED, AccountState.NEEDS_REAUTH),
        blocks=tuple(sorted(blocks, key=lambda block: (block.scope != ACCOUNT_SCOPE, block.scope, block.kind))),
        breaker=breaker,
        windows=tuple(sorted((one for one in windows if one.account_id == account.id), key=lambda window: window.name)),
    )


def _in_force(record: HealthRecord, now_s: float) -> bool:
    if record.kind == BREAKER:
        return record.state != BreakerState.CLOSED
    return record.state != CLEARED and record.until_s > now_s


def _state(account: Account, records: list[HealthRecord], breaker: str) -> AccountState:
    if not account.enabled:
        return AccountState.DISABLED
    if account.status is AccountStatus.NEEDS_REAUTH:
        return AccountState.NEEDS_REAUTH
    if any(record.kind != BREAKER and record.scope == ACCOUNT_SCOPE for record in records):
        return AccountState.COOLING
    if breaker != BreakerState.CLOSED:
        return AccountState.HALF_OPEN if breaker == BreakerState.HALF_OPEN else AccountState.OPEN
    return AccountState.OK


def _acts(account: Account) -> list[Block]:
    acts = []
    if not account.enabled:
        acts.append(_act("disabled", "switched off by an administrator"))
    if account.status is AccountStatus.NEEDS_REAUTH:
        acts.append(_act("needs_reauth", account.status_reason or "the issuer refused the refresh token"))
    return acts


def _act(state: str, evidence: str) -> Block:
    cause = Cause.AUTH.value if state == "needs_reauth" else state
    return Block("admin", ACCOUNT_SCOPE, cause, evidence, None, None, None, 0, state, "")


def _block(record: HealthRecord) -> Block:
    return Block(
        kind=record.kind,
        scope="route" if record.account_id == ROUTE else record.scope,
        cause=record.cause,
        evidence=record.evidence,
        since_s=record.since_s,
        until_s=record.until_s,
        next_probe_s=record.next_probe_s,
        level=record.level,
        state=record.state,
        owner=record.owner,
    )
