"""What is kept back of a plan, and when it is given free."""

from __future__ import annotations

from router.reserve import reserved, room_percent
from router.types import Cause
from store.records import WindowRecord

NOW_S = 1_000_000.0


def window(used: float, name: str = "primary", resets_in_s: float | None = 600.0) -> WindowRecord:
    return WindowRecord("a", name, used, 300, None if resets_in_s is None else NOW_S + resets_in_s, NOW_S)


def test_the_fullest_window_says_how_much_room_there_is() -> None:
    assert room_percent([window(30), window(80, "secondary")], NOW_S) == 20
    assert room_percent([window(100, resets_in_s=-1), window(10, "secondary")], NOW_S) == 90
    assert room_percent([window(130)], NOW_S) == 0
    assert room_percent([], NOW_S) == 100


def test_beyond_the_threshold_it_rests_until_the_later_reset() -> None:
    found = reserved([window(96), window(97, "secondary", 9000.0)], 5, NOW_S)
    assert found is not None
    assert (found.cause, found.resets_at_s, found.authoritative) == (Cause.RESERVE, NOW_S + 9000, True)
    assert "secondary is 97 %" in found.evidence


def test_at_the_threshold_or_without_a_reserve_or_a_reset_it_does_not() -> None:
    assert reserved([window(95)], 5, NOW_S) is None
    assert reserved([window(100)], 0, NOW_S) is None
    assert reserved([window(100, resets_in_s=None)], 5, NOW_S) is None
    assert reserved([window(100, resets_in_s=-1)], 5, NOW_S) is None
