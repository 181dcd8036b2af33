"""When does a pool run dry, if it goes on as it has?

Each window of each account has burnt so many percent since it began, which is a rate; the pool's rate is their sum.
From now on the pool burns at that rate, whoever has room takes the work, and a window that resets is empty again. The
pool is dry when nobody has room. The windows of one name (5 h, weekly) are one such race; the earliest end counts.

Rules that hold: an account that is out for another reason brings neither room nor demand; nothing beyond two weeks is
foretold; with less than ten minutes of a window gone, or a report older than an hour, the answer is of low confidence.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from store.records import WindowRecord

HORIZON_S = 14 * 86_400.0
LEAST_SEEN_S = 600.0
OLD_S = 3600.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """``dry_at_s`` is Unix; None: not within two weeks. ``sure``: the windows were seen long and lately enough."""

    dry_at_s: float | None
    sure: bool


@dataclass(slots=True)
class _Tank:
    """One window: ``room`` percent left now, filled up at ``resets_at_s`` and every ``period_s`` after it."""

    room: float
    resets_at_s: float
    period_s: float
    rate: float


def forecast(windows: Iterable[WindowRecord], now_s: float) -> Forecast:
    """For the windows of all accounts of a pool that are in service."""
    by_name: dict[str, list[WindowRecord]] = {}
    for window in windows:
        if window.window_minutes and window.resets_at_s is not None:
            by_name.setdefault(window.name, []).append(window)
    ends: list[float] = []
    sure = bool(by_name)
    for group in by_name.values():
        tanks = [tank for window in group if (tank := _tank(window, now_s)) is not None]
        sure &= all(_well_seen(window, now_s) for window in group)
        end_s = _dry(tanks, now_s)
        if end_s is not None:
            ends.append(end_s)
    return Forecast(min(ends) if ends else None, sure)


def _tank(window: WindowRecord, now_s: float) -> _Tank | None:
    assert window.window_minutes is not None
    assert window.resets_at_s is not None
    period_s = window.window_minutes * 60.0
    if window.resets_at_s <= now_s:  # it has begun anew since it was seen, and nobody knows what was burnt
        return _Tank(100.0, now_s + period_s, period_s, 0.0)
    gone_s = max(window.seen_at_s - (window.resets_at_s - period_s), 1.0)
    return _Tank(max(0.0, 100.0 - window.used_percent), window.resets_at_s, period_s, window.used_percent / gone_s)


def _well_seen(window: WindowRecord, now_s: float) -> bool:
    assert window.window_minutes is not None
    assert window.resets_at_s is not None
    began_s = window.resets_at_s - window.window_minutes * 60.0
    return window.seen_at_s - began_s >= LEAST_SEEN_S and now_s - window.seen_at_s <= OLD_S


def _dry(tanks: Sequence[_Tank], now_s: float) -> float | None:
    """Walks from reset to reset; between two the room only falls, and nobody's room is lost while others have some."""
    rate = sum(tank.rate for tank in tanks)
    if rate <= 0:
        return None
    at_s, end_s = now_s, now_s + HORIZON_S
    while at_s < end_s:
        next_s = min([end_s, *(tank.resets_at_s for tank in tanks)])
        room = sum(tank.room for tank in tanks)
        if room <= rate * (next_s - at_s):
            return at_s + room / rate
        _burn(tanks, rate * (next_s - at_s), room)
        at_s = next_s
        for tank in tanks:
            if tank.resets_at_s <= at_s:
                tank.room = 100.0
                tank.resets_at_s += tank.period_s
    return None


def _burn(tanks: Sequence[_Tank], amount: float, room: float) -> None:
    """Everybody gives in proportion to what he has."""
    left = 1.0 - amount / room
    for tank in tanks:
        tank.room *= left
