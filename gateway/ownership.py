"""Who made the encrypted parts of a turn: a constraint on routing, kept as tenant-salted digests.

Reasoning and compaction items are sealed by the account that made them and open nowhere else; a turn-state is bound
to it too. Digests of what passes down are remembered here, in this process at once and for the other processes
through the shared state; what comes up again is looked up. Content itself is never kept. A digest that nobody
knows constrains nothing: should the backend then refuse it, the relay drops it and says so.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.journey import TURN_STATE
from gateway.parse import owner_digest
from gateway.types import RelayRequest
from ops.clock import Clock
from router.affinity import AFFINITY, OWNER, Placements
from store.base import SharedState
from store.errors import StoreUnavailable
from upstream.sse import split_events
from upstream.types import RawHeaders

SECOND_LOOK_S: Final = 0.03


class _Item(msgspec.Struct):
    encrypted_content: str | None = None


class _ItemEvent(msgspec.Struct):
    item: _Item | None = None


_ITEM_EVENT = msgspec.json.Decoder(_ItemEvent)


class Ownership:
    """Looks owners up and learns them. ``shared`` is asked only for digests that this process has not seen.

    With ``others``, workers beside this one, it asks for the wish of a conversation too, and again after
    ``SECOND_LOOK_S`` for parts that nobody knows yet: the next turn may be here before the word of the last one.
    """

    def __init__(self, placements: Placements, shared: SharedState, clock: Clock, *, others: bool = False) -> None:
        self._placements = placements
        self._shared = shared
        self._clock = clock
        self._others = others

    async def owners_of(self, request: RelayRequest) -> dict[bytes, str]:
        """The known owners of the request's encrypted parts, by digest. The wish is known to the pool afterwards.

        Unknown is safe: the backend itself refuses what is foreign. Nothing is raised when the store is away.
        """
        known: dict[bytes, str] = {}
        now_s = self._clock.monotonic_s()
        missing = []
        for digest in request.owners:
            owner = self._placements.owner((digest,), now_s)
            if owner is None:
                missing.append(digest)
            else:
                known[digest] = owner
        try:
            if missing:
                known |= await self._ask_owners(missing, now_s)
            if self._others and request.affinity is not None and not known:
                await self._ask_wish(request.affinity, now_s)
        except StoreUnavailable:
            return known
        return known

    async def _ask_owners(self, missing: list[bytes], now_s: float) -> dict[bytes, str]:
        found = await self._shared.placements(OWNER, missing)
        if self._others and len(found) < len(missing):
            await self._clock.sleep(SECOND_LOOK_S)
            found = await self._shared.placements(OWNER, missing)
        for digest, account_id in found.items():
            self._placements.adopt_owner(digest, account_id, now_s)
        return found

    async def _ask_wish(self, digest: bytes, now_s: float) -> None:
        if self._placements.wish(digest, now_s) is None:
            found = await self._shared.placements(AFFINITY, (digest,))
            for wish in found.values():
                self._placements.adopt_wish(digest, wish, now_s)

    def learn(self, request: RelayRequest, account_id: str, block: bytes) -> None:
        """Remembers the encrypted parts of the items in ``block`` as ``account_id``'s."""
        for event in split_events(block):
            if event.type != "response.output_item.done" or b'"encrypted_content"' not in event.data:
                continue
            try:
                item = _ITEM_EVENT.decode(event.data).item
            except msgspec.DecodeError:
                continue
            if item is not None and item.encrypted_content:
                self._own(request, account_id, item.encrypted_content.encode())

    def learn_turn_state(self, request: RelayRequest, account_id: str, headers: RawHeaders) -> None:
        """Remembers the turn-state that an answer carries as ``account_id``'s."""
        for name, value in headers:
            if name == TURN_STATE:
                self._own(request, account_id, value)

    def _own(self, request: RelayRequest, account_id: str, value: bytes) -> None:
        digest = owner_digest(request.caller.tenant_id, value)
        self._placements.own((digest,), account_id, self._clock.monotonic_s())
