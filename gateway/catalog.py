"""Which models there are: discovered from the accounts, cached, never an error because one account is ill.

Each account is asked on its own; what it last said stays its answer while it cannot be asked. The list is the union
over all accounts. The router learns which account has which model; an account that never answered is assumed to
have them all. One discovery runs at a time per process.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from auth.errors import CredentialError
from auth.tokens import TokenSource
from gateway.models import ModelTable
from ops.clock import Clock
from router.pool import AccountPool
from store.records import Account, AccountStatus
from upstream.client import CodexClient
from upstream.errors import UpstreamError

FALLBACK_CREATED_S = 1_700_000_000


class ModelCatalog:
    """The discovered models. ``entries`` are the backend's own objects, by slug, in the backend's order."""

    def __init__(
        self,
        codex: CodexClient,
        tokens: TokenSource,
        pool: AccountPool,
        table: ModelTable,
        cache_s: float,
        clock: Clock,
    ) -> None:
        self._codex = codex
        self._tokens = tokens
        self._pool = pool
        self.table = table
        self._cache_s = cache_s
        self._clock = clock
        self._by_account: dict[str, dict[str, dict[str, Any]]] = {}
        self._etags: dict[str, str] = {}
        self._accounts: tuple[Account, ...] = ()
        self._fresh_until_s = 0.0
        self._lock = asyncio.Lock()
        self.entries: dict[str, dict[str, Any]] = {}
        self.stale = True

    def set_accounts(self, accounts: Iterable[Account]) -> None:
        """The accounts as the store has them now; new ones are asked at the next look."""
        now = tuple(a for a in accounts if a.enabled and a.status is AccountStatus.ACTIVE)
        if {a.id for a in now} != {a.id for a in self._accounts}:
            self._fresh_until_s = 0.0
        self._accounts = now

    @property
    def known(self) -> frozenset[str]:
        return frozenset(self.entries)

    async def refresh(self) -> None:
        """Asks every account unless the list is fresh; returns when the list is as good as it gets now."""
        if self._clock.monotonic_s() < self._fresh_until_s:
            return
        async with self._lock:
            if self._clock.monotonic_s() < self._fresh_until_s:
                return
            asked = self._accounts
            answers = await asyncio.gather(*(self._ask(account) for account in asked))
            self.stale = not all(answers)
            # an incomplete list is looked at again soon, but never on every request
            fresh_s = min(self._cache_s, 15.0) if self.stale else self._cache_s
            if {account.id for account in asked} == {account.id for account in self._accounts}:
                self._fresh_until_s = self._clock.monotonic_s() + fresh_s
            self._unite()

    async def _ask(self, account: Account) -> bool:
        try:
            credential = await self._tokens.get(account)
            # without its list in hand an account is asked for all of it, whatever it has said before
            etag = self._etags.get(account.id) if account.id in self._by_account else None
            answer = await self._codex.models(account, credential, etag)
        except (UpstreamError, CredentialError):
            return False
        if answer is None:
            return True
        models, etag = answer
        named = {m["slug"]: m for m in models if isinstance(m.get("slug"), str)}
        if not named:
            return False  # no account is without models: what it said before stands
        self._by_account[account.id] = named
        if etag is not None:
            self._etags[account.id] = etag
        return True

    def _unite(self) -> None:
        current = {account.id for account in self._accounts}
        self._by_account = {k: v for k, v in self._by_account.items() if k in current}
        self.entries = {}
        for account_id, models in self._by_account.items():
            for slug, entry in models.items():
                self.entries.setdefault(slug, entry)
            self._pool.set_models(account_id, frozenset(models))

    def listing(self) -> tuple[bytes, bytes]:
        """(body, etag) of ``GET /v1/models`` in OpenAI's shape."""
        return _with_etag(self.table.listing(list(self.entries.values())))

    def native(self) -> tuple[bytes, bytes]:
        """(body, etag) in the shape that the Codex CLI reads: the backend's own objects."""
        return _with_etag({"models": [e for e in self.entries.values() if not self.table.hidden(e["slug"])]})


def _with_etag(value: object) -> tuple[bytes, bytes]:
    body = msgspec.json.encode(value)
    return body, b'"' + hashlib.sha256(body).hexdigest()[:32].encode() + b'"'


def find(models: Sequence[dict[str, Any]], model_id: str) -> dict[str, Any] | None:
    """The entry of ``model_id`` in an OpenAI-shaped list."""
    return next((m for m in models if m["id"] == model_id), None)
