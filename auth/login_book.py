"""Where are the logins kept, and who works on one now?

One sealed document per login, changed by compare-and-put alone: two who change the same login cannot both win. A claim
per login keeps two workers from asking the issuer about it at the same time; it is a courtesy to the issuer, and what
must happen once is held by the document.

Rules that hold:

* a login stays a day after its end, for those who look; of ended ones the newest 200 are kept;
* the claim's time is longer than everything that is done under it, so that another one takes over from the dead only.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final, Protocol

from auth.logins import KIND, LoginRecord, LoginUnknown, from_document, to_document
from auth.refresh import RefreshStore
from ops.clock import Clock
from store.base import DocumentStore
from store.errors import Conflict, NotFound, StoreError
from store.records import Claim

KEPT_S: Final = 86_400.0
KEPT_MOST: Final = 200
CLAIM_S: Final = 180.0
_PAGE: Final = 500


class OnboardingStore(RefreshStore, DocumentStore, Protocol):
    """What bringing an account in asks of a store."""


class LoginBook:
    """The logins of one gateway. ``worker`` names this process in claims."""

    def __init__(self, store: OnboardingStore, clock: Clock, worker: str) -> None:
        self._store = store
        self._clock = clock
        self._worker = worker

    async def all(self) -> list[LoginRecord]:
        """Newest first."""
        found: list[LoginRecord] = []
        last = ""
        while True:
            page = await self._store.documents(KIND, after_id=last, limit=_PAGE)
            found.extend(from_document(one) for one in page)
            if len(page) < _PAGE:
                return sorted(found, key=lambda one: (one.login.created_at_s, one.id), reverse=True)
            last = page[-1].id

    async def get(self, login_id: str) -> LoginRecord:
        """Raises LoginUnknown."""
        document = await self._store.document(KIND, login_id)
        if document is None:
            raise LoginUnknown
        return from_document(document)

    async def add(self, record: LoginRecord) -> LoginRecord:
        """Stores a new login, and lets go of the oldest ended ones beyond what is kept."""
        ended = [one for one in await self.all() if not one.pending]
        for old in ended[KEPT_MOST - 1 :]:
            await self._store.remove_document(KIND, old.id)
        return from_document(await self._store.add_document(to_document(record, self._forgotten_at_s(record))))

    async def put(self, record: LoginRecord) -> LoginRecord:
        """Compare-and-put. Raises Conflict when it was changed since it was read, or is gone."""
        document = to_document(record, self._forgotten_at_s(record))
        try:
            stored = await self._store.put_document(document, record.login.version)
        except NotFound as gone:
            raise Conflict(str(gone)) from None
        return replace(record, login=replace(record.login, version=stored.version))

    @contextlib.asynccontextmanager
    async def claimed(self, name: str, ttl_s: float = CLAIM_S) -> AsyncIterator[Claim | None]:
        """Holds ``login:<name>`` over the block; None when another one does. A claim that cannot be given back runs
        out by itself."""
        claim = await self._store.claim(f"login:{name}", self._worker, ttl_s)
        try:
            yield claim
        finally:
            if claim is not None:
                with contextlib.suppress(StoreError):
                    await self._store.release(claim)

    def _forgotten_at_s(self, record: LoginRecord) -> float:
        """A day after its end, or after the end it will have."""
        now_s = self._clock.now_s()
        return (max(now_s, record.login.expires_at_s) if record.pending else now_s) + KEPT_S
