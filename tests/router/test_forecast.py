"""When a pool runs dry: by arithmetic that can be checked by hand, and by properties that must hold for any pool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.forecast import HORIZON_S, forecast
from store.records import WindowRecord

NOW_S = 1_000_000.0
HOUR_S = 3600.0


def window(used: float, gone_s: float, account: str = "a", minutes: int = 300, seen_ago_s: float = 0) -> WindowRecord:
    resets_at_s = NOW_S - seen_ago_s - gone_s + minutes * 60
    return WindowRecord(account, f"w{minutes}", used, minutes, resets_at_s, NOW_S - seen_ago_s)


def test_one_account_that_burns_half_in_an_hour_is_dry_in_another() -> None:
    found = forecast([window(50, HOUR_S)], NOW_S)
    assert found.dry_at_s == pytest.approx(NOW_S + HOUR_S)
    assert found.sure


def test_one_that_will_be_reset_before_is_never_dry() -> None:
    assert forecast([window(50, 4 * HOUR_S)], NOW_S).dry_at_s is None


def test_others_take_over_the_work_of_a_full_one() -> None:
    pool = [window(100, HOUR_S), window(0, HOUR_S, "b"), window(0, HOUR_S, "c")]
    assert forecast(pool, NOW_S).dry_at_s == pytest.approx(NOW_S + 2 * HOUR_S)


def test_the_earliest_of_the_two_races_counts() -> None:
    pool = [window(10, HOUR_S), window(95, 3 * 24 * HOUR_S, minutes=7 * 24 * 60)]
    dry_at_s = forecast(pool, NOW_S).dry_at_s
    assert dry_at_s is not None
    assert dry_at_s == pytest.approx(NOW_S + 3 * 24 * HOUR_S / 95 * 5)


def test_little_or_old_knowledge_is_not_sure() -> None:
    assert not forecast([window(5, 60)], NOW_S).sure
    assert not forecast([window(50, HOUR_S, seen_ago_s=2 * HOUR_S)], NOW_S).sure
    assert forecast([], NOW_S) == forecast([WindowRecord("a", "w", 50, None, None, NOW_S)], NOW_S)


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(1, 5 * HOUR_S - 1), st.sampled_from(["a", "b", "c"])),
        min_size=1,
        max_size=8,
    )
)
def test_it_lies_in_the_future_within_the_horizon_and_more_accounts_never_make_it_earlier(
    given: list[tuple[float, float, str]],
) -> None:
    pool = [window(used, gone_s, account) for used, gone_s, account in given]
    dry_at_s = forecast(pool, NOW_S).dry_at_s
    if dry_at_s is not None:
        assert NOW_S <= dry_at_s <= NOW_S + HORIZON_S
    idle = window(0, HOUR_S, "idle")
    more = forecast([*pool, idle], NOW_S).dry_at_s
    assert more is None or (dry_at_s is not None and more >= dry_at_s - 1e-3)
