"""Hot state on Redis: health, windows, placements, and the cursor over them, for any number of hosts.

Every write is one Lua script, so that of two words the later stamp wins whoever comes last, and every record that
changes takes the next number. A poll asks for what is above the number it knows; when nothing is, that is one short
answer. There is no subscription that could be cut without anybody noticing: the poll, five times a second, is the
notice.

Rules that hold:

* memory is bounded: at most ``RECORDS_MAX`` health and window records (those written longest ago go first) and
  ``PLACES_MAX`` placements (those that end first go first); a prefix that nobody uses any more vanishes by itself;
* all of it may be gone at any moment. The store carries a random generation: a poll that finds another one, a number
  below its own, or a line that was away in between, starts again from nothing and calls ``on_lost``, so that its
  process tells everything anew;
* one answer is bounded in size: long lists are read and written in pages;
* records that do not decode (of another release) are passed over.

Keys stand under ``{PREFIX}:hot:``; the braces keep them together on a cluster.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, TypeVar

import msgspec

from ops.clock import Clock
from store.base import HEALTHY_KEPT_S, Changes
from store.hot_line import HotLine
from store.records import HealthRecord, Placement, WindowRecord
from store.redis_link import Word, lua_script

T = TypeVar("T")
RECORDS_MAX: Final = 50_000
PLACES_MAX: Final = 200_000
LIFE_MS: Final = 8 * 86_400_000  # the longest rest is a week
PAGE: Final = 500

_PUBLISH: Final = lua_script("hot_publish")
_CHANGES: Final = lua_script("hot_changes")
_FORGET: Final = lua_script("hot_forget")
_PLACE: Final = lua_script("hot_place")
_PURGE: Final = lua_script("hot_purge")
_HEALTH: Final = b"h"
_WINDOW: Final = b"w"
_health_decoder: Final = msgspec.json.Decoder(HealthRecord)
_window_decoder: Final = msgspec.json.Decoder(WindowRecord)


class RedisHot:
    """Implements store.base.SharedState but for the directory revision, which is always 0 here."""

    def __init__(
        self,
        line: HotLine,
        prefix: str,
        clock: Clock,
        *,
        records_max: int = RECORDS_MAX,
        places_max: int = PLACES_MAX,
    ) -> None:
        """``clock`` judges what is over; the hosts of a fleet agree on the time as well as their clocks do."""
        self._line = line
        self._clock = clock
        self._records_max = records_max
        self._places_max = places_max
        self._records = [f"{{{prefix}}}:hot:{name}" for name in ("meta", "values", "order")]
        self._places = [f"{{{prefix}}}:hot:{name}" for name in ("places", "ends")]
        self._generation = ""
        self._breaks = line.breaks
        self.on_lost: Callable[[], None] | None = None
        """Called when what was stored may be gone; synchronous."""

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        words = [_health_words(one) for one in health] + [_window_words(one) for one in windows]
        for page in _pages(words):
            args: list[Word] = [secrets.token_hex(8), LIFE_MS, self._records_max]
            await self._line.run(_PUBLISH, self._records, args + [word for record in page for word in record])

    async def changes(self, cursor: int) -> Changes:
        health: list[HealthRecord] = []
        windows: list[WindowRecord] = []
        if self._breaks != self._line.breaks:
            cursor = 0
        while True:
            args: tuple[Word, ...] = (secrets.token_hex(8), LIFE_MS, self._generation, cursor, PAGE)
            generation, last, reached, *found = await self._line.run(_CHANGES, self._records, args, trial=True)
            if self._is_lost(generation.decode(), cursor > last) and cursor:
                health, windows, cursor = [], [], 0
                continue
            for field, value in zip(found[::2], found[1::2], strict=True):
                _take(field, value, health, windows)
            cursor = reached
            if reached == last:
                return Changes(0, tuple(health), tuple(windows), last)

    def _is_lost(self, generation: str, fell: bool) -> bool:
        """Whether what this process wrote may be gone since the last look; says so once."""
        known, self._generation = self._generation, generation
        lost = fell or known not in ("", generation) or self._breaks != self._line.breaks
        self._breaks = self._line.breaks
        if lost and self.on_lost is not None:
            self.on_lost()
        return lost

    async def place(self, placements: Sequence[Placement]) -> None:
        now_s = self._clock.now_s()
        for page in _pages(placements):
            longest_s = max(one.expires_at_s for one in page) - now_s
            args: list[Word] = [self._places_max, max(0, round(longest_s * 1000)) + 60_000]
            for one in page:
                args += (_place_field(one.kind, one.digest), repr(one.expires_at_s), one.account_id)
            await self._line.run(_PLACE, self._places, args)

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        if not digests:
            return {}
        fields = [_place_field(kind, digest) for digest in digests]
        values = await self._line.call("HMGET", self._places[0], *fields)
        found: dict[bytes, str] = {}
        for digest, value in zip(digests, values, strict=True):
            until, _, account_id = (value or b"").partition(b" ")
            if account_id and float(until) > self._clock.now_s():
                found[digest] = account_id.decode()
        return found

    async def purge(self) -> int:
        now_s = self._clock.now_s()
        gone = removed = int(await self._line.run(_PURGE, self._places, (repr(now_s), PAGE)))
        while removed == PAGE:
            removed = int(await self._line.run(_PURGE, self._places, (repr(now_s), PAGE)))
            gone += removed
        aged_s = now_s - HEALTHY_KEPT_S
        return gone + await self._forget(lambda one: one.until_s <= aged_s and one.updated_at_s <= aged_s)

    async def forget_account(self, account_id: str) -> None:
        """Removes what is known of an account that is gone. Raises StoreUnavailable."""
        await self._forget(lambda one: one.account_id == account_id, lambda one: one.account_id == account_id)

    async def _forget(
        self,
        over: Callable[[HealthRecord], bool],
        also: Callable[[WindowRecord], bool] = lambda _: False,
    ) -> int:
        """Removes the records for which ``over`` holds, unless somebody has written them meanwhile; how many."""
        changes = await self.changes_from_start()
        doomed = [_health_words(one) for one in changes.health if over(one)]
        doomed += [_window_words(one) for one in changes.windows if also(one)]
        gone = 0
        for page in _pages(doomed):
            pairs = [word for field, stamp, body in page for word in (field, stamp + b" " + body)]
            gone += int(await self._line.run(_FORGET, self._records[1:], pairs))
        return gone

    async def changes_from_start(self) -> Changes:
        """All that is stored, without a word on what was lost."""
        health: list[HealthRecord] = []
        windows: list[WindowRecord] = []
        cursor = 0
        while True:
            args: tuple[Word, ...] = (secrets.token_hex(8), LIFE_MS, "", cursor, PAGE)
            _, last, cursor, *found = await self._line.run(_CHANGES, self._records, args)
            for field, value in zip(found[::2], found[1::2], strict=True):
                _take(field, value, health, windows)
            if cursor == last:
                return Changes(0, tuple(health), tuple(windows), last)


def _health_words(record: HealthRecord) -> tuple[bytes, bytes, bytes]:
    """(field, stamp, body)"""
    field = b"\0".join((_HEALTH, record.account_id.encode(), record.scope.encode(), record.kind.encode()))
    return field, repr(record.updated_at_s).encode(), msgspec.json.encode(record)


def _window_words(record: WindowRecord) -> tuple[bytes, bytes, bytes]:
    field = b"\0".join((_WINDOW, record.account_id.encode(), record.name.encode()))
    return field, repr(record.seen_at_s).encode(), msgspec.json.encode(record)


def _take(field: bytes, value: bytes, health: list[HealthRecord], windows: list[WindowRecord]) -> None:
    body = value.partition(b" ")[2]
    try:
        if field.startswith(_HEALTH):
            health.append(_health_decoder.decode(body))
        else:
            windows.append(_window_decoder.decode(body))
    except msgspec.DecodeError:
        return


def _place_field(kind: str, digest: bytes) -> bytes:
    return kind.encode() + b":" + digest


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while page := list(islice(rest, PAGE)):
        yield page
