"""Times as people read them."""

from __future__ import annotations

import pytest

from gateway.admin.moments import moment, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "in 0 s"), (0.4, "in 0 s"), (59.0, "in 59 s"), (-1.0, "1 s ago"), (60.0, "in 1 min"),
        (-3599.0, "59 min ago"), (3600.0, "in 1 h"), (172_799.0, "in 47 h"), (172_800.0, "in 2 days"),
    ],
)  # fmt: skip
def test_a_span_is_told_in_its_larger_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_moment_is_told_in_utc() -> None:
    assert moment(0.0) == "1970-01-01 00:00:00 UTC"
    assert moment(None) == "-"
