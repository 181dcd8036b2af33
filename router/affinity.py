"""To which account does a conversation belong?

Two kinds of memory with one shape (Placement): ``affinity`` is a wish, because the prompt cache is warm there;
``owner`` is a constraint, because encrypted reasoning opens there only. Rules that hold:

* keys are tenant-salted digests made elsewhere; no content and no client's identifier is seen here;
* a new affinity key is placed by the fair rotation of the worker that sees it first, and told to the others; a wish
  whose account is not well moves with the conversation, for the cache is then warm elsewhere;
* bounded: the least recently used goes first; each entry lives its time from the last use, told to the others
  again when half of it is gone;
* a placement from outside never overrides one that was told later (it ends later).

It does not check that an account is well. Times inside are monotonic; placements carry Unix seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from router.types import Moment
from store.records import Placement

AFFINITY = "affinity"
OWNER = "owner"


class _Memory:
    """One bounded map digest -> (account, expires_s, told_s), least recently used first."""

    __slots__ = ("_changed", "_entries", "_kind", "_most", "_ttl_s")

    def __init__(self, kind: str, ttl_s: float, most: int) -> None:
        self._kind = kind
        self._ttl_s = ttl_s
        self._most = most
        self._entries: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._changed: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now_s: float) -> str | None:
        found = self._entries.get(digest)
        if found is None:
            return None
        account_id, expires_s = found
        if now_s >= expires_s:
            self._forget(digest)
            return None
        if expires_s - now_s < self._ttl_s / 2:
            self.put(digest, account_id, now_s)
        else:
            self._entries.move_to_end(digest)
        return account_id

    def put(self, digest: bytes, account_id: str, now_s: float) -> None:
        self.adopt(digest, account_id, now_s)
        self._changed.add(digest)

    def adopt(self, digest: bytes, account_id: str, now_s: float) -> None:
        self._store(digest, account_id, now_s + self._ttl_s)

    def learn(self, digest: bytes, account_id: str, expires_s: float, now_s: float) -> None:
        expires_s = min(expires_s, now_s + self._ttl_s)
        known = self._entries.get(digest)
        if expires_s <= now_s or (known is not None and known[1] >= expires_s):
            return
        self._changed.discard(digest)
        self._store(digest, account_id, expires_s)

    def take_changes(self, now: Moment) -> list[Placement]:
        changed, self._changed = self._changed, set()
        placements = []
        for digest in changed:
            account_id, expires_s = self._entries[digest]
            if expires_s > now.mono_s:
                placements.append(Placement(self._kind, digest, account_id, now.to_wall(expires_s)))
        return placements

    def retell(self) -> None:
        """Everything is new to the others once more."""
        self._changed.update(self._entries)

    def _store(self, digest: bytes, account_id: str, expires_s: float) -> None:
        self._entries[digest] = (account_id, expires_s)
        self._entries.move_to_end(digest)
        while len(self._entries) > self._most:
            oldest, _ = self._entries.popitem(last=False)
            self._changed.discard(oldest)

    def _forget(self, digest: bytes) -> None:
        del self._entries[digest]
        self._changed.discard(digest)


class Placements:
    """Wishes and owners of one worker."""

    def __init__(self, *, affinity_ttl_s: float, owner_ttl_s: float, most: int) -> None:
        self.on_news: Callable[[], None] | None = None
        """Called when there is something that other workers may need soon; None: nobody else is there."""
        self._wishes = _Memory(AFFINITY, affinity_ttl_s, most)
        self._owners = _Memory(OWNER, owner_ttl_s, most)

    def wish(self, digest: bytes, now_s: float) -> str | None:
        """The account of an affinity key; None when unknown or expired. Prolongs it."""
        return self._wishes.get(digest, now_s)

    def place(self, digest: bytes, account_id: str, now_s: float) -> None:
        """The conversation is at this account now."""
        self._wishes.put(digest, account_id, now_s)
        if self.on_news is not None:
            self.on_news()

    def owner(self, digests: Sequence[bytes], now_s: float) -> str | None:
        """The owner of the first digest that is known (newest first); None when none is."""
        for digest in digests:
            if (account_id := self._owners.get(digest, now_s)) is not None:
                return account_id
        return None

    def own(self, digests: Iterable[bytes], account_id: str, now_s: float) -> None:
        """These encrypted parts were made by this account."""
        for digest in digests:
            self._owners.put(digest, account_id, now_s)
        if self.on_news is not None:
            self.on_news()

    def adopt_owner(self, digest: bytes, account_id: str, now_s: float) -> None:
        """As another worker has told; not told again."""
        self._owners.adopt(digest, account_id, now_s)

    def adopt_wish(self, digest: bytes, account_id: str, now_s: float) -> None:
        """As another worker has told; not told again."""
        self._wishes.adopt(digest, account_id, now_s)

    def take_changes(self, now: Moment) -> list[Placement]:
        """What is new since the last call, for the other workers."""
        return self._wishes.take_changes(now) + self._owners.take_changes(now)

    def retell(self) -> None:
        """What others were told may be lost: the next ``take_changes`` gives everything."""
        self._wishes.retell()
        self._owners.retell()

    def apply(self, placements: Iterable[Placement], now: Moment) -> None:
        """Learns what others placed; unknown kinds (of a newer version) are passed over."""
        memories = {AFFINITY: self._wishes, OWNER: self._owners}
        for placement in placements:
            if (memory := memories.get(placement.kind)) is not None:
                memory.learn(placement.digest, placement.account_id, now.to_mono(placement.expires_at_s), now.mono_s)

    def sizes(self) -> tuple[int, int]:
        """(wishes, owners) in memory."""
        return len(self._wishes), len(self._owners)
