"""How do the processes of a fleet keep one limit between them without asking Redis for every request?

Each process leases a part of what a limit leaves (requests of the running minute, streams at once) and takes from
that; a script on the server (lua/hot_lease.lua) sees to it that the parts never sum up to more than the limit.

Rules that hold:

* what is left decides how much one lease gives: at most ``left / (2 * processes)`` more than is needed now, down to
  one by one near the limit. As less is left, unused parts are given back; at once when somebody goes without;
* every message says how the sender stands (used, kept) and never "one more": one that is lost, or arrives after the
  server has lost everything, does no harm. A process that was silent for ``OWNER_LIFE_S`` holds no streams any more;
  what it used of a minute counts until the minute is over;
* one message at a time per process. Who waits for it waits at most the line's timeout, all in all;
* when the server is away, a process goes on with what it holds, and a part of what it last knew to be left:
  ``left / (2 * processes)`` for the running minute; for minutes that begin alone, and for streams, its equal part of
  the limit. These parts sum up to the limit. What was used alone is counted when the server is back.

What a limit is, and whom it belongs to, is auth's matter.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Final

from ops.clock import Clock
from store.errors import StoreUnavailable
from store.hot_line import RETRY_S, HotLine
from store.redis_link import Word, lua_script

WINDOW_S: Final = 60.0
BEAT_S: Final = 1.0
OWNER_LIFE_S: Final = 10.0
IDLE_S: Final = 5.0
FULL_S: Final = 0.02
PAGE: Final = 200
_LEASE: Final = lua_script("hot_lease")


class Kind(StrEnum):
    WINDOW = "w"  # requests in a window
    STREAMS = "s"  # what runs at once


class Lot:
    """One limit in this process's eyes: what it holds of it, and what of that is used. Changed by LeasedCounts only."""

    __slots__ = (
        "alone", "asked", "ends_ms", "ends_s", "full_until_s", "held", "hungry", "kind", "limit", "name", "others",
        "touched_s", "used", "waiting",
    )  # fmt: skip

    def __init__(self, kind: Kind, name: str, limit: int) -> None:
        self.kind = kind
        self.name = name
        self.limit = limit
        self.held = 0
        self.used = 0
        self.others = 0  # held by the other processes when the server last said so
        self.ends_ms = 0  # the window's end by the server's clock, which names the window
        self.ends_s = 0.0  # the same, monotonic
        self.alone = False  # this window began without the server
        self.hungry = False  # another process goes without
        self.full_until_s = 0.0
        self.waiting = 0  # requests that wait for an answer
        self.asked = 0  # how often the server was asked
        self.touched_s = 0.0

    @property
    def spare(self) -> int:
        return max(0, self.held - self.used)

    @property
    def left(self) -> int:
        """What nobody holds, as far as is known."""
        return max(0, self.limit - self.others - max(self.held, self.used))


class LeasedCounts:
    """All limits of one process. ``owner`` is a name that no other process ever has."""

    def __init__(self, line: HotLine, prefix: str, owner: str, clock: Clock, *, rank: int = 0, count: int = 1) -> None:
        """``rank`` of ``count``: this process among those that it knows of before the server has named them all."""
        self._line = line
        self._clock = clock
        self._owner = owner
        self._members_key = f"{{{prefix}}}:fleet"
        self._prefix = f"{{{prefix}}}:lease"
        self._lots: dict[tuple[Kind, str], Lot] = {}
        self._due: dict[Lot, None] = {}
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self.rank = rank
        self.count = count
        self.members: tuple[str, ...] = ()
        """The processes that live, as the server last said; ``rank`` and ``count`` follow it."""

    def lot(self, kind: Kind, name: str, limit: int) -> Lot:
        """The one of this name; its limit is ``limit`` from now on."""
        lot = self._lots.get((kind, name))
        if lot is None:
            lot = self._lots[kind, name] = Lot(kind, name, limit)
        lot.limit = limit
        return lot

    # -- taking and giving back: synchronous ------------------------------------------------------------------------

    def ready(self, lot: Lot) -> bool:
        """Whether :meth:`take` may be asked now; False: ``gather`` first."""
        now_s = self._clock.monotonic_s()
        if self._line.away is not None or lot.full_until_s > now_s:
            return True
        return not self._over(lot, now_s) and lot.held - lot.used > lot.waiting

    def has(self, lot: Lot) -> bool:
        """Whether one could be taken now."""
        now_s = self._clock.monotonic_s()
        if self._over(lot, now_s):
            if self._line.away is None:
                return False
            lot.alone, lot.used, lot.held, lot.others, lot.ends_s = True, 0, 0, 0, now_s + WINDOW_S
        return lot.used < (lot.held if self._line.away is None else self._allowed_alone(lot))

    def take(self, lot: Lot) -> bool:
        """Takes one; False, with nothing taken, when there is none."""
        if not self.has(lot):
            return False
        self.use((lot,))
        return True

    def use(self, lots: Iterable[Lot]) -> None:
        """Takes one of each; :meth:`has` has just said of all of them that it is there."""
        now_s = self._clock.monotonic_s()
        for lot in lots:
            lot.used += 1
            lot.touched_s = now_s

    def give_back(self, lot: Lot) -> None:
        """A stream has ended, or a request was not made after all."""
        lot.used = max(0, lot.used - 1)
        if lot.kind is not Kind.STREAMS or self._line.away is not None:
            return
        if lot.spare > (0 if lot.hungry else self._reserve(lot)):
            self._due[lot] = None
            self._wake.set()

    def stand(self, lot: Lot) -> tuple[int, float]:
        """(left for the next requests, monotonic end of the window). What others hold and do not use counts as used."""
        if self._line.away is None:
            return max(0, lot.limit - lot.others - lot.used), lot.ends_s
        return max(0, self._allowed_alone(lot) - lot.used), lot.ends_s

    def share(self, total: int) -> int:
        """This process's equal part of ``total``; the parts of all processes that live sum up to it."""
        return total // self.count + (self.rank < total % self.count)

    def _over(self, lot: Lot, now_s: float) -> bool:
        return lot.kind is Kind.WINDOW and now_s >= lot.ends_s

    def _allowed_alone(self, lot: Lot) -> int:
        if lot.kind is Kind.STREAMS:
            return max(lot.held, self.share(lot.limit))
        return self.share(lot.limit) if lot.alone else lot.held + lot.left // (2 * self.count)

    def _reserve(self, lot: Lot) -> int:
        """How much this process may keep unused."""
        return (lot.left + lot.spare) // (2 * self.count)

    # -- asking the server ------------------------------------------------------------------------------------------

    async def gather(self, lots: Sequence[Lot]) -> None:
        """Sees to it that one of each may be taken at once, if the fleet has it. Take before the next await.

        Returns after at most the line's patience with this request, whatever happens; never raises for the server.
        """
        lots = [lot for lot in lots if not self.ready(lot)]
        if not lots:
            return
        for lot in lots:
            lot.waiting += 1
        asked = [lot.asked for lot in lots]
        try:
            async with asyncio.timeout(self._line.patience_s), self._turn:
                if any(
                    lot.asked == before for lot, before in zip(lots, asked, strict=True)
                ):  # else somebody has, for us
                    await self._fly([lot for lot in self._lots.values() if lot.waiting])
        except TimeoutError:
            self._line.trip(f"the hot store did not answer within {self._line.timeout_s:g} s")
        except StoreUnavailable:
            pass
        finally:
            for lot in lots:
                lot.waiting -= 1

    def restate(self) -> None:
        """The server may have forgotten: tell it everything again, now."""
        self._due |= dict.fromkeys(self._lots.values())
        self._wake.set()

    async def tend(self) -> None:
        """One round beside the requests: waits until something is to be told, or for the next sign of life; tells it.

        Raises StoreUnavailable.
        """
        wait_s = BEAT_S if self._line.away is None else RETRY_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), wait_s)
        self._wake.clear()
        await self.beat(self._due if self._due and self._line.away is None else None)

    async def beat(self, only: Iterable[Lot] | None = None) -> None:
        """Tells how this process stands, with all of its limits or ``only`` some. Raises StoreUnavailable."""
        async with self._turn:
            lots = [lot for lot in (self._lots.values() if only is None else only) if self._in_play(lot)]
            self._due.clear()
            await self._fly(lots, trial=True)

    async def farewell(self) -> None:
        """The end of the process: its places are free at once, its unused parts are the others'."""
        for lot in self._lots.values():
            lot.hungry = True
        with contextlib.suppress(StoreUnavailable):
            await self.beat()
            await self._line.call("ZREM", self._members_key, self._owner)

    def _in_play(self, lot: Lot) -> bool:
        """Whether the server should know of it. Only a request begins a window."""
        if lot.kind is Kind.STREAMS:
            return lot.waiting + lot.used + lot.held > 0
        return lot.waiting > 0 or not self._over(lot, self._clock.monotonic_s())

    async def _fly(self, lots: Sequence[Lot], *, trial: bool = False) -> None:
        """Asks for ``lots``, in one message unless they are very many. The turn is ours."""
        for start in range(0, max(1, len(lots)), PAGE):
            sent_s = self._clock.monotonic_s()
            sent = [(lot, self._ask(lot, sent_s)) for lot in lots[start : start + PAGE]]
            keys: list[Word] = [self._members_key]
            words: list[Word] = [self._owner, round(OWNER_LIFE_S * 1000), round(WINDOW_S * 1000)]
            for lot, asked in sent:
                lot.asked += 1
                lot.held = min(lot.held, asked[1])  # what is given back is gone, whether the answer comes or not
                keys.append(f"{self._prefix}:{lot.kind}:{lot.name}")
                words += (lot.kind, lot.limit, *asked)
            members, *answers = await self._line.run(_LEASE, keys, words, trial=trial)
            self._know(members)
            for (lot, (used, _, need, _, _)), answer in zip(sent, answers, strict=True):
                _learn(lot, answer, used, need, sent_s)

    def _ask(self, lot: Lot, now_s: float) -> tuple[int, int, int, int, int]:
        """(used, kept, need, wish, window)"""
        if lot.alone and self._over(lot, now_s):
            lot.alone, lot.used, lot.held, lot.ends_ms = False, 0, 0, 0
        idle = now_s - lot.touched_s > IDLE_S and not lot.waiting
        reserve = 0 if lot.hungry or idle else self._reserve(lot)
        kept = lot.used + min(lot.spare, max(reserve, lot.waiting))
        need = max(0, lot.waiting - (kept - lot.used))
        wish = lot.limit if need else max(0, reserve - (kept - lot.used))
        if lot.alone:  # nobody has given us anything of this window
            return lot.used, lot.used, lot.waiting, wish, -1
        return lot.used, kept, need, wish, lot.ends_ms

    def _know(self, members: Sequence[bytes]) -> None:
        self.members = tuple(member.decode() for member in members)
        if self._owner in self.members:
            self.rank, self.count = self.members.index(self._owner), len(self.members)


def _learn(lot: Lot, answer: Sequence[Any], used: int, need: int, sent_s: float) -> None:
    held, others, ends_ms, left_ms, hungry, counted = answer
    lot.used += counted - used
    lot.held, lot.others, lot.hungry, lot.alone = held, others, bool(hungry), False
    if lot.kind is Kind.WINDOW:
        lot.ends_ms, lot.ends_s = ends_ms, sent_s + left_ms / 1000  # early rather than late
    if held - counted < need:
        lot.full_until_s = sent_s + (FULL_S if lot.kind is Kind.WINDOW else 0.0)
