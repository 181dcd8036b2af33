"""Acts of administrators, and their place in the audit log.

Rules that hold:

* an act does not begin when the store cannot take a durable write: 503 ``store_unavailable``, and nothing was done;
* it is recorded as ``ok`` or ``failed`` once it is over, before it is answered; an answer of 2xx has its record;
* the actor is the principal, by the name of the person or the id of the key; details are scalars, never content, never
  a secret, and nothing that somebody typed while nobody was signed in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.admin.types import Call
from ops.clock import Clock
from store.base import Store
from store.records import AuditRecord


class Acts:
    """Records what is done. ``enabled`` False: nothing is recorded, by the operator's own setting."""

    def __init__(self, store: Store, clock: Clock, *, enabled: bool) -> None:
        self._store = store
        self._clock = clock
        self._enabled = enabled

    @asynccontextmanager
    async def act(
        self, call: Call, action: str, target: str | None = None, *, tenant_id: str | None = None, **detail: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Records what the block does; it may add scalars to the mapping that it gets. Raises StoreError."""
        await self.check()
        outcome = "failed"
        try:
            yield detail
            outcome = "ok"
        finally:
            await self.record(call, call.principal.actor, action, outcome, target, tenant_id=tenant_id, **detail)

    async def check(self) -> None:
        """Raises StoreError when an act could not be recorded now."""
        if self._enabled:
            await self._store.check()

    async def record(
        self,
        call: Call,
        actor: str,
        action: str,
        outcome: str,
        target: str | None = None,
        *,
        tenant_id: str | None = None,
        **detail: Any,
    ) -> None:
        """One line. Raises StoreError when it could not be written."""
        if not self._enabled:
            return
        caller = call.acting.caller
        record = AuditRecord(
            at_s=self._clock.now_s(),
            actor=actor,
            action=action,
            outcome=outcome,
            tenant_id=tenant_id,
            key_id=caller.key_id if caller else None,
            request_id=call.request_id,
            target=target,
            detail=tuple(sorted(detail.items())),
        )
        await self._store.append_audit([record])
