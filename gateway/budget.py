"""How does a task stay within its tokens, however many calls it makes at once and through however many workers?

Before a call is relayed tokens are set aside for it (a fixed reserve, and what its input is likely to come to, or all
that is left); after it, in every case, the reserve is replaced by what the upstream counted. Rules that hold:

* nothing left means 429 ``budget_exhausted``, and the upstream has seen nothing;
* figures change by compare-and-put on the key's document: exact over all workers; a call is settled once, because its
  hold can be taken out once;
* a call that began and whose count never came (the client or the key went away) has used all that was set aside: to
  hang up early makes nothing cheaper. One that the upstream refused has used nothing;
* the last call may use more than was left; nothing comes after it;
* a hold whose process died is free again after ``hold_s``; a settlement that the store did not take is made up with the
  key's next call in this process.

Keys of people never come here.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from auth.task_keys import KIND, TRIES, Hold, TaskAccount, read_account, written
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.types import RelayRequest
from ops.clock import Clock
from store.base import DocumentStore
from store.errors import Conflict, NotFound, StoreError

BYTES_PER_TOKEN: Final = 4
STALE_HOLDS: Final = 32
RETRY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class BudgetRules:
    """``call_tokens`` are set aside per call beside its input; ``hold_s`` is longer than any call lasts."""

    call_tokens: int = 65_536
    hold_s: float = 7200.0


class TaskBudgets:
    """The budgets of all task keys, for one process."""

    def __init__(self, documents: DocumentStore, clock: Clock, rules: BudgetRules | None = None) -> None:
        self._documents = documents
        self._clock = clock
        self._rules = rules or BudgetRules()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._owed: dict[str, dict[str, int]] = {}

    @contextlib.asynccontextmanager
    async def held(self, key_id: str, request: RelayRequest, exchange: Exchange) -> AsyncIterator[None]:
        """Tokens are set aside while the block runs, and settled when it ends, however it does.

        Raises GatewayError ``budget_exhausted``, ``invalid_api_key`` (the task has ended) or ``store_unavailable``
        before the block begins. Cancel: as the end of the block.
        """
        size_bytes = len(request.adapted.head) + len(request.adapted.input)
        tokens = await self._reserve(key_id, exchange.id, self._rules.call_tokens + size_bytes // BYTES_PER_TOKEN)
        refused = False
        try:
            yield
        except GatewayError:
            refused = True
            raise
        finally:
            self._owed.setdefault(key_id, {})[exchange.id] = used(exchange, tokens, refused=refused)
            with contextlib.suppress(StoreError, GatewayError):  # it stays owed
                await self._change(key_id, lambda account: account)

    async def _reserve(self, key_id: str, call_id: str, wanted: int) -> int:
        def reserve(account: TaskAccount) -> TaskAccount:
            now_s = self._clock.now_s()
            if account.ended:
                raise GatewayError.key_revoked()
            left = account.left(now_s)
            if left <= 0:
                raise GatewayError.budget_exhausted(RETRY_S if account.spent < account.budget else None)
            stale = [name for name, hold in account.held.items() if hold.expires_at_s <= now_s]
            held = {name: hold for name, hold in account.held.items() if name not in stale[:-STALE_HOLDS]}
            held[call_id] = Hold(min(left, wanted), now_s + self._rules.hold_s)
            return msgspec.structs.replace(account, held=held)

        try:
            account = await self._change(key_id, reserve)
        except StoreError as error:
            raise GatewayError.store_unavailable() from error
        if account is None:
            raise GatewayError.key_revoked()
        return account.held[call_id].tokens

    async def _change(self, key_id: str, change: Callable[[TaskAccount], TaskAccount]) -> TaskAccount | None:
        """Applies what is owed and then ``change``; None when the key has no document (any more)."""
        lock = self._locks.get(key_id)
        if lock is None:
            lock = self._locks[key_id] = asyncio.Lock()
        async with lock:
            for _ in range(TRIES):
                document = await self._documents.document(KIND, key_id)
                if document is None:
                    self._owed.pop(key_id, None)
                    return None
                owed = dict(self._owed.get(key_id, ()))
                account = change(settled(read_account(document), owed))
                try:
                    await self._documents.put_document(written(document, account), document.version)
                except (Conflict, NotFound):
                    await self._clock.sleep(0)
                    continue
                self._paid(key_id, owed)
                return account
        raise GatewayError.overloaded()

    def _paid(self, key_id: str, owed: dict[str, int]) -> None:
        left = self._owed.get(key_id, {})
        for call_id in owed:
            left.pop(call_id, None)
        if not left:
            self._owed.pop(key_id, None)


def settled(account: TaskAccount, owed: dict[str, int]) -> TaskAccount:
    """``account`` after these calls have ended, as id -> tokens; one whose hold is gone was settled before. Pure."""
    ended = {call_id: tokens for call_id, tokens in owed.items() if call_id in account.held}
    if not ended:
        return account
    held = {call_id: hold for call_id, hold in account.held.items() if call_id not in ended}
    return msgspec.structs.replace(account, held=held, spent=account.spent + sum(ended.values()))


def used(exchange: Exchange, reserved: int, *, refused: bool) -> int:
    """What a call has used that had ``reserved`` tokens: the upstream's count, or what the module says. Pure."""
    if exchange.usage is not None:
        counted = exchange.usage.input_tokens + exchange.usage.output_tokens
        return max(counted, exchange.usage.total_tokens, 0)
    if exchange.attempts == 0 or (refused and exchange.account_id is None):
        return 0
    return reserved
