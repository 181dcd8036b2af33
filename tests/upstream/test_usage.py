"""Token counts and rate-limit windows: read where they are true, taken as not said where they cannot be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstream.types import RateLimitWindow, Usage
from upstream.usage import account_usage, usage_of, windows_from_event, windows_from_headers

NOW = 1_795_000_000.0


def completed(usage: object) -> bytes:
    return json.dumps({"type": "response.completed", "response": {"id": "r", "output": [1], "usage": usage}}).encode()


def test_the_counts_of_a_completed_response() -> None:
    """All five, with the details."""
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 105,
    }
    assert usage_of(completed(usage)) == Usage(100, 10, 5, 2, 105)


def test_missing_details_count_as_nothing_and_the_total_is_summed() -> None:
    """A backend that says less is still accounted for."""
    assert usage_of(completed({"input_tokens": 7, "output_tokens": 3, "input_tokens_details": None})) == Usage(
        7, 0, 3, 0, 10
    )


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 99_999, completed(None), completed([1])])
def test_no_usage_is_none(data: bytes) -> None:
    """Absent, null, of another kind, or no JSON at all."""
    assert usage_of(data) is None


@pytest.mark.parametrize("count", [-1, 10**30, "5", True, 1.5, None])
def test_a_count_that_cannot_be_true_is_not_taken(count: object) -> None:
    """One broken field does not spoil the others."""
    usage = usage_of(completed({"input_tokens": count, "output_tokens": 3}))
    assert usage == Usage(0, 0, 3, 0, 3)


def test_both_windows_of_the_headers() -> None:
    """Percent, length and the moment of the reset, which may be told relative."""
    headers = [
        (b"content-type", b"text/event-stream"),
        (b"x-codex-primary-used-percent", b"42.5"),
        (b"x-codex-primary-window-minutes", b"300"),
        (b"x-codex-primary-reset-at", b"1795001000"),
        (b"x-codex-secondary-used-percent", b"7"),
        (b"x-codex-secondary-window-minutes", b"10080"),
        (b"x-codex-secondary-reset-after-seconds", b"60"),
        (b"x-codex-bengalfox-primary-used-percent", b"100"),
    ]
    assert windows_from_headers(headers, NOW) == [
        RateLimitWindow("primary", 42.5, 300, 1_795_001_000.0),
        RateLimitWindow("secondary", 7.0, 10_080, NOW + 60),
    ]


@pytest.mark.parametrize("percent", [b"nan", b"inf", b"-1", b"1001", b"", b"x", b"9" * 500])
def test_an_implausible_percent_is_no_window(percent: bytes) -> None:
    """Nothing is cooled down or shown on such evidence."""
    assert windows_from_headers([(b"x-codex-primary-used-percent", percent)], NOW) == []


@pytest.mark.parametrize("at", [b"1", b"-5", b"99999999999999", b"nan", b"soon"])
def test_an_implausible_reset_is_not_said(at: bytes) -> None:
    """The window stays, without a time."""
    headers = [(b"x-codex-primary-used-percent", b"100"), (b"x-codex-primary-reset-at", at)]
    assert windows_from_headers(headers, NOW) == [RateLimitWindow("primary", 100.0, None, None)]


def test_the_windows_of_an_event() -> None:
    """codex.rate_limits of the plan; that of another family is not the account's."""
    event = {
        "type": "codex.rate_limits",
        "metered_limit_name": None,
        "rate_limits": {
            "primary": {"used_percent": 42, "window_minutes": 300, "reset_at": NOW + 5},
            "secondary": None,
        },
    }
    assert windows_from_event(json.dumps(event).encode(), NOW) == [RateLimitWindow("primary", 42.0, 300, NOW + 5)]
    event["metered_limit_name"] = "codex_bengalfox"
    assert windows_from_event(json.dumps(event).encode(), NOW) == []


def test_the_usage_report() -> None:
    """/wham/usage names its fields differently."""
    body = {
        "plan_type": "pro",
        "rate_limit": {
            "allowed": True,
            "limit_reached": False,
            "primary_window": {"used_percent": 42, "limit_window_seconds": 18000, "reset_after_seconds": 100},
            "secondary_window": {"used_percent": 1, "limit_window_seconds": 604800, "reset_at": NOW + 9},
        },
    }
    report = account_usage(json.dumps(body).encode(), NOW)
    assert report is not None
    assert (report.plan, report.allowed, report.limit_reached) == ("pro", True, False)
    assert report.windows == (
        RateLimitWindow("primary", 42.0, 300, NOW + 100),
        RateLimitWindow("secondary", 1.0, 10_080, NOW + 9),
    )
    body["rate_limit"] = {"allowed": True, "limit_reached": True}
    refused = account_usage(json.dumps(body).encode(), NOW)
    assert refused is not None
    assert not refused.allowed
    assert account_usage(b"<html>", NOW) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda x: st.lists(x, max_size=2)
)


@given(st.dictionaries(st.sampled_from(["used_percent", "window_minutes", "reset_at", "reset_after_seconds"]), values))
def test_no_window_ever_breaks_the_reader(told: dict[str, object]) -> None:
    """Whatever stands in the fields, what comes out is within bounds."""
    event = {"rate_limits": {"primary": told, "secondary": told}}
    for window in windows_from_event(json.dumps(event).encode(), NOW):
        assert 0 <= window.used_percent <= 1000
        assert window.resets_at_s is None or NOW <= window.resets_at_s <= NOW + 401 * 86_400
