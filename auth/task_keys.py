"""With what key does one attempt of a task call the model, and how much may it use?

A client key like any other (a digest in the key store, the tenant's limits, models, an end), with the scope ``task``
that nobody can give by hand, and beside it a document of kind ``task_key`` under the key's id: the task, the attempt,
the budget in tokens, what is spent, and what running calls hold. Rules that hold:

* the document is there before the key is: a key without one opens nothing;
* ``end`` stops the key at once, twice over: the document refuses the next call in whichever process, and the revoked
  key ends the streams under it (gateway.revocation);
* the figures change by compare-and-put alone; ordinary keys never come here.

What a call reserves and how it is settled is decided in gateway.budget.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Protocol

import msgspec

from auth.keys import TASK_SCOPE, KeyRing
from ops.clock import Clock
from store.base import DocumentStore, KeyStore
from store.errors import Conflict
from store.records import Document, Secret

KIND: Final = "task_key"
KEPT_S: Final = 86_400.0
"""A document outlives its key by this long, so that ``spent`` can still be asked."""
TRIES: Final = 64


class TaskKeyStore(KeyStore, DocumentStore, Protocol):
    """What is needed of a store."""


class Hold(msgspec.Struct, frozen=True):
    """Tokens set aside for one running call. From ``expires_at_s`` (Unix) on they are free again: its process died."""

    tokens: int
    expires_at_s: float


class TaskAccount(msgspec.Struct, frozen=True):
    """The figures of one task key. ``held`` is by the call's id."""

    task_id: str
    attempt: int
    budget: int
    spent: int = 0
    held: dict[str, Hold] = msgspec.field(default_factory=dict)
    ended: bool = False

    def left(self, now_s: float) -> int:
        """What may still be set aside."""
        return self.budget - self.spent - sum(one.tokens for one in self.held.values() if one.expires_at_s > now_s)


def read_account(document: Document) -> TaskAccount:
    return msgspec.json.decode(document.body, type=TaskAccount)


def written(document: Document, account: TaskAccount) -> Document:
    """``document`` with these figures."""
    return replace(document, body=msgspec.json.encode(account))


class TaskKeys:
    """Makes and ends the keys of tasks. Used by workers; holds nothing itself."""

    def __init__(self, store: TaskKeyStore, ring: KeyRing, clock: Clock) -> None:
        self._store = store
        self._ring = ring
        self._clock = clock

    async def mint(
        self, task_id: str, attempt: int, tenant_id: str, models: tuple[str, ...], budget_tokens: int, ttl_s: float
    ) -> tuple[Secret, str]:
        """A new key and its id. Raises ValueError for a budget or life that is not above 0, NotFound without the
        tenant, StoreUnavailable; then no key opens anything."""
        if budget_tokens <= 0 or ttl_s <= 0:
            raise ValueError("a task's key needs a budget and a life above 0")
        now_s = self._clock.now_s()
        plain, key = self._ring.mint(
            tenant_id,
            now_s=now_s,
            name=f"task:{task_id}/{attempt}",
            scopes=frozenset({TASK_SCOPE}),
            models=models,
            expires_at_s=now_s + ttl_s,
        )
        account = TaskAccount(task_id, attempt, budget_tokens)
        await self._store.add_document(Document(KIND, key.id, msgspec.json.encode(account), now_s + ttl_s + KEPT_S))
        await self._store.add_key(key)
        return plain, key.id

    async def end(self, key_id: str) -> bool:
        """The key is gone, and what runs under it is ended; False when there was none. Raises StoreUnavailable."""
        await self._close(key_id)
        key = next((one for one in await self._store.keys() if one.id == key_id), None)
        return key is not None and TASK_SCOPE in key.scopes and await self._store.remove_key(key_id)

    async def end_task(self, task_id: str, attempt: int) -> int:
        """Ends every key of one attempt, also those that an earlier worker made; how many that were."""
        name = f"task:{task_id}/{attempt}"
        keys = [one for one in await self._store.keys() if one.name == name and TASK_SCOPE in one.scopes]
        return sum([await self.end(one.id) for one in keys])

    async def spent(self, key_id: str) -> int:
        """Tokens that its calls have used; 0 for a key that is not known (any more)."""
        document = await self._store.document(KIND, key_id)
        return 0 if document is None else read_account(document).spent

    async def _close(self, key_id: str) -> None:
        for _ in range(TRIES):
            document = await self._store.document(KIND, key_id)
            if document is None or (account := read_account(document)).ended:
                return
            try:
                await self._store.put_document(
                    written(document, msgspec.structs.replace(account, ended=True)), document.version
                )
            except Conflict:
                continue
            return
        raise Conflict(f"the budget of the key {key_id} changes all the time; try again")
