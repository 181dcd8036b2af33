"""How full is an account that no answer has told of for a while?

Answers carry the windows of the account that gave them. An idle account tells nothing, and a policy that goes by room,
a reserve or a forecast would go by old news: so it is asked, one account a round, by one worker of the whole fleet.
A question that fails is put off for an interval and says nothing about the account's health.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from auth.errors import CredentialError
from auth.tokens import TokenSource
from ops.clock import Clock
from router.pool import AccountPool
from router.types import AccountState
from store.base import CredentialStore
from store.records import Account
from upstream.client import CodexClient
from upstream.errors import UpstreamError

CLAIM_S: Final = 20.0
_IDLE: Final = frozenset({AccountState.OK, AccountState.COOLING, AccountState.HALF_OPEN})


@dataclass(slots=True)
class WindowPoll:
    """Asks for windows that were not seen for ``every_s``. ``step`` is one round. Raises StoreError."""

    pool: AccountPool
    codex: CodexClient
    tokens: TokenSource
    store: CredentialStore
    clock: Clock
    worker: str
    every_s: float
    _asked_s: dict[str, float] = field(default_factory=dict)

    async def step(self) -> None:
        account = self._due()
        if account is None:
            return
        self._asked_s[account.id] = self.clock.monotonic_s()
        claim = await self.store.claim(f"usage:{account.id}", self.worker, CLAIM_S)
        if claim is None:
            return
        try:
            report = await self.codex.usage(account, await self.tokens.get(account))
            self.pool.note_windows(account.id, report.windows)
        except (UpstreamError, CredentialError):
            pass
        finally:
            await self.store.release(claim)

    def _due(self) -> Account | None:
        """The account whose windows were seen longest ago, if that is too long."""
        now_s, mono_s = self.clock.now_s(), self.clock.monotonic_s()
        oldest: tuple[float, Account] | None = None
        for account in self.pool.accounts():
            asked_s = self._asked_s.get(account.id)
            found = self.pool.explain(account.id)
            if found is None or found.state not in _IDLE or (asked_s is not None and mono_s - asked_s < self.every_s):
                continue
            seen_s = max((window.seen_at_s for window in found.windows), default=0.0)
            if now_s - seen_s >= self.every_s and (oldest is None or seen_s < oldest[0]):
                oldest = (seen_s, account)
        return None if oldest is None else oldest[1]
