"""How does an account stand, by the upstream's own word, and what of our records does that end?

The windows that the upstream reports go on record; a rest for reasons that pass by themselves ends when the upstream
allows the account again. All workers hear of both through the store. Nothing is sent on the account's behalf but the
question itself, which costs no quota.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.admin.types import Backend, Tokens
from ops.clock import Clock
from store.base import SharedState
from store.records import Account, HealthRecord, WindowRecord
from upstream.types import AccountUsage

_PASSING: Final = frozenset({"usage_limit", "rate_limited", "rate_limited_bare"})


@dataclass(frozen=True, slots=True)
class Probe:
    """What was reported, and the rests that it ended."""

    report: AccountUsage
    ended: tuple[HealthRecord, ...]


async def probe(store: SharedState, tokens: Tokens, backend: Backend, account: Account, clock: Clock) -> Probe:
    """Asks about the account and notes what comes of it.

    Raises CredentialError, UpstreamError, StoreError; nothing is noted then.
    """
    report = await backend.usage(account, await tokens.get(account))
    known = await store.changes(0)
    ended = contradicted(account, report, known.health, clock.now_s())
    await store.publish(ended, windows_of(account, report, clock.now_s()))
    return Probe(report, tuple(ended))


def windows_of(account: Account, report: AccountUsage, now_s: float) -> list[WindowRecord]:
    return [
        WindowRecord(account.id, one.name, one.used_percent, one.window_minutes, one.resets_at_s, now_s)
        for one in report.windows
    ]


def contradicted(
    account: Account, report: AccountUsage, health: Sequence[HealthRecord], now_s: float
) -> list[HealthRecord]:
    """The account's rests that the report ends, as they are to be published."""
    if not report.allowed or report.limit_reached:
        return []
    return [
        replace(one, until_s=now_s, next_probe_s=None, updated_at_s=now_s, evidence="the upstream allows it again")
        for one in health
        if one.account_id == account.id
        and one.scope == "account"
        and one.kind == "cooldown"
        and one.cause in _PASSING
        and one.until_s > now_s
    ]
