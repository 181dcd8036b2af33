"""How much of an account's plan is not ours to spend?

With a reserve of so many percent, an account whose window has less than that left rests until the window's reset, as
if the upstream had refused: ``why`` says so, other workers hear of it, and the answer to a client that finds all
accounts in their reserve is the same as for full windows. A later report with more room ends the rest at once.

Pure over the windows as last seen. A reserve of 0 keeps nothing back: then a percentage blocks nothing by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.types import Cause, Outcome, OutcomeKind
from store.records import WindowRecord


def room_percent(windows: Iterable[WindowRecord], wall_s: float) -> float:
    """What is left in the fullest window, 0 to 100; a window whose reset has passed counts as empty."""
    room = 100.0
    for window in windows:
        if window.resets_at_s is None or window.resets_at_s > wall_s:
            room = min(room, 100.0 - window.used_percent)
    return max(0.0, room)


def reserved(windows: Iterable[WindowRecord], reserve_percent: float, wall_s: float) -> Outcome | None:
    """The rest that the reserve asks for; None when there is room, or nobody knows when there will be."""
    if not reserve_percent:
        return None
    short = [
        (window.resets_at_s, window)
        for window in windows
        if window.resets_at_s is not None
        and window.resets_at_s > wall_s
        and window.used_percent > 100.0 - reserve_percent
    ]
    if not short:
        return None
    resets_at_s, window = max(short, key=lambda one: one[0])
    return Outcome(
        OutcomeKind.RATE_LIMITED,
        cause=Cause.RESERVE,
        evidence=f"window {window.name} is {window.used_percent:.0f} % used, {reserve_percent:g} % are kept in reserve",
        resets_at_s=resets_at_s,
        authoritative=True,
    )
