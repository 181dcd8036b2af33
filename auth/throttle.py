"""May somebody try to sign in now, or has too much failed lately?

Failures are counted in documents, by compare-and-put, so that all workers and replicas count together; an attempt
is counted before its password is looked at, so that a hundred attempts at once are no more than one after another.

Rules that hold:

* from ``failures`` failed attempts in a row on, each has to wait: ``wait_s`` after the first such, twice as long after
  each next one, an hour at most. After an hour of peace the count is forgotten;
* a stranger's attempt is counted for the name and for his address (an IPv6 network of 64 bits counts as one);
* an address from which this name has signed in before (in the last 30 days) is no stranger: the two together have a
  count of their own and obey no other. Whoever hammers on a name from elsewhere does not lock its owner out;
* sessions that are open, and one-time links, are not throttled at all.

Names and addresses are stored as digests.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Final

from auth.errors import LoginThrottled
from auth.shelf import Shelf
from ops.clock import Clock
from store.base import DocumentStore
from store.errors import Conflict

WAIT_KIND: Final = "login_wait"
KNOWN_KIND: Final = "login_known"
MAX_WAIT_S: Final = 3600.0
FORGET_S: Final = 3600.0
KNOWN_S: Final = 30 * 86_400.0
_MOST_DOUBLINGS: Final = 16


@dataclass(frozen=True, slots=True)
class _Count:
    """As stored: attempts that failed or have not ended, and until when the next has to wait."""

    failures: int = 0
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Known:
    since_s: float


@dataclass(frozen=True, slots=True)
class Ticket:
    """An attempt that was let through and is counted as failed until it is said otherwise."""

    keys: tuple[str, ...]
    pair: str | None
    known: bool


class LoginThrottle:
    """The counts of failed attempts. Every method may raise StoreError."""

    def __init__(self, documents: DocumentStore, clock: Clock, *, failures: int, wait_s: float) -> None:
        self._counts = Shelf(documents, WAIT_KIND, _Count)
        self._known = Shelf(documents, KNOWN_KIND, _Known)
        self._clock = clock
        self._failures = failures
        self._wait_s = min(wait_s, MAX_WAIT_S)

    async def admit(self, name: str, address: str) -> Ticket:
        """Counts an attempt to sign in. Raises LoginThrottled, and counts nothing then."""
        pair = _key("pair", f"{name}\n{_network(address)}")
        if await self._known.get(pair) is not None:
            return await self._take((pair,), pair, known=True)
        return await self._take((_key("address", _network(address)), _key("name", name)), pair, known=False)

    async def admit_own(self, admin_id: str) -> Ticket:
        """Counts an attempt of somebody who is signed in to show his password or a code once more."""
        return await self._take((_key("own", admin_id),), None, known=True)

    async def undo(self, ticket: Ticket) -> None:
        """The attempt neither failed nor succeeded: it does not count."""
        for key in ticket.keys:
            await self._lower(key)

    async def succeeded(self, ticket: Ticket) -> None:
        """The attempt was right. What failed for this name is forgotten; for the address, only this attempt is, or
        one good name would pay for guesses at others."""
        if ticket.known:
            for key in ticket.keys:
                await self._counts.remove(key)
            if ticket.pair is None:
                return
        else:
            address_key, name_key = ticket.keys
            await self._counts.remove(name_key)
            await self._lower(address_key)
        if ticket.pair is not None:
            now_s = self._clock.now_s()
            await self._known.change(ticket.pair, lambda _: (_Known(now_s), now_s + KNOWN_S))

    async def _take(self, keys: tuple[str, ...], pair: str | None, *, known: bool) -> Ticket:
        now_s = self._clock.now_s()
        for key in keys:  # whoever has to wait anyway writes nothing
            count = await self._counts.get(key)
            if count is not None and now_s < count.until_s:
                raise LoginThrottled(count.until_s - now_s)
        taken: list[str] = []
        try:
            for key in keys:
                await self._raise(key)
                taken.append(key)
        except LoginThrottled:
            for key in taken:
                await self._lower(key)
            raise
        return Ticket(keys, pair, known)

    async def _raise(self, key: str) -> None:
        now_s = self._clock.now_s()

        def step(old: _Count | None) -> tuple[_Count, float]:
            count = old or _Count()
            if now_s < count.until_s:
                raise LoginThrottled(count.until_s - now_s)
            failures = count.failures + 1
            wait_s = self._wait_after_s(failures)
            return _Count(failures, now_s + wait_s), now_s + wait_s + FORGET_S

        try:
            await self._counts.change(key, step)
        except Conflict:  # so many at once that it does not come to a count: none of them is let through
            raise LoginThrottled(1.0) from None

    async def _lower(self, key: str) -> None:
        def step(old: _Count | None) -> tuple[_Count, float]:
            failures = max(0, (old or _Count()).failures - 1)
            return _Count(failures, 0.0), self._clock.now_s() + FORGET_S

        await self._counts.change(key, step)

    def _wait_after_s(self, failures: int) -> float:
        over = failures - self._failures
        return min(self._wait_s * 2 ** min(over, _MOST_DOUBLINGS), MAX_WAIT_S) if over >= 0 else 0.0


def _key(what: str, text: str) -> str:
    return f"{what}.{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()}"


def _network(address: str) -> str:
    """What counts as one address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
