"""What does a pool do because it is one of many?

It starts its rotation somewhere else than the others, so that the first account is not everybody's first choice: each
pool is fair for itself, so all of them together are, from the first request on. And it tells everything anew when what
it had told may be lost: its last word on every account, every window as last seen, every placement.

It judges nothing; the pool hands in its parts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from router.affinity import Placements
from router.feed import Feed
from router.policy import Seat, take_turn
from router.roster import Roster
from store.records import WindowRecord

TURNS_MAX: Final = 1000


class FleetSide:
    """``windows`` is where the pool keeps the windows that it is yet to tell."""

    def __init__(
        self, roster: Roster, feed: Feed, placements: Placements, windows: dict[tuple[str, str], WindowRecord]
    ) -> None:
        self._roster = roster
        self._feed = feed
        self._placements = placements
        self._windows = windows

    def begin_elsewhere(self, name: str) -> None:
        """Starts the rotation at a place that ``name`` decides. Call it once, when the accounts are known."""
        skip_turns([member for member in self._roster.members.values() if member.active], name)

    def retell(self) -> None:
        """What others know of this pool may be lost: all of it is to be told once more, with the stamps it had."""
        self._feed.retell()
        self._placements.retell()
        for member in self._roster.members.values():
            self._windows.update({(member.id, one.name): one for one in member.windows.values()})


def skip_turns(seats: Sequence[Seat], name: str) -> None:
    """Moves the rotation on by a number of turns that ``name`` decides, less than one whole round."""
    if not seats:
        return
    whole = sum(seat.weight for seat in seats) or len(seats)
    drawn = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    for _ in range(drawn % min(whole, TURNS_MAX)):
        take_turn(seats)
