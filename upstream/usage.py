"""What was used, and how much is left: token counts and rate-limit windows, from every place that tells them.

Rules that hold: a value that cannot be true (negative, not finite, absurdly large) is taken as not said; a broken
field never costs more than itself; nothing here raises.

Windows come from ``x-codex-*`` headers, from ``codex.rate_limits`` events and from ``/wham/usage``, each with its own
names. Families of limits other than the plan's own (``x-codex-<name>-primary-...``) belong to single models and are
not read here. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from upstream.types import AccountUsage, RateLimitWindow, RawHeaders, Usage

_MAX_TOKENS: Final = 10**10
_MAX_PERCENT: Final = 1000.0
_MAX_WINDOW_MINUTES: Final = 366 * 24 * 60
_MAX_AHEAD_S: Final = 400 * 86_400.0
_NAMES: Final = ("primary", "secondary")
WINDOW_LEAD: Final = b"x-codex-"


class _UsageOfResponse(msgspec.Struct):
    usage: Any = None


class _WithUsage(msgspec.Struct):
    response: _UsageOfResponse | None = None


_WITH_USAGE: Final = msgspec.json.Decoder(_WithUsage)


def usage_of(data: bytes) -> Usage | None:
    """Token counts of a terminal event's JSON; None when it carries none. Reads past the output, keeps none of it."""
    try:
        response = _WITH_USAGE.decode(data).response
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usage = response.usage if response is not None else None
    if not isinstance(usage, dict):
        return None
    counts = (
        usage.get("input_tokens"),
        _inside(usage, "input_tokens_details", "cached_tokens"),
        usage.get("output_tokens"),
        _inside(usage, "output_tokens_details", "reasoning_tokens"),
        usage.get("total_tokens"),
    )
    spent, cached, made, reasoned, total = [
        count if type(count) is int and 0 <= count <= _MAX_TOKENS else 0 for count in counts
    ]
    return Usage(spent, cached, made, reasoned, total or spent + made)


def windows_from_headers(headers: RawHeaders, now_s: float) -> list[RateLimitWindow]:
    """The plan's windows as ``x-codex-primary-*`` and ``x-codex-secondary-*`` headers tell them."""
    told = {name[len(WINDOW_LEAD) :]: value for name, value in headers if name.startswith(WINDOW_LEAD)}
    windows = []
    for name in _NAMES if told else ():
        lead = name.encode() + b"-"
        windows += _window(
            name,
            told.get(lead + b"used-percent"),
            told.get(lead + b"window-minutes"),
            told.get(lead + b"reset-at"),
            told.get(lead + b"reset-after-seconds"),
            now_s,
        )
    return windows


def windows_from_event(data: bytes, now_s: float) -> list[RateLimitWindow]:
    """The windows of a ``codex.rate_limits`` event; empty for one that speaks of another family of limits."""
    event = decode_object(data)
    family = event.get("metered_limit_name") or event.get("limit_name")
    limits = event.get("rate_limits")
    if not isinstance(limits, dict) or family not in (None, "codex"):
        return []
    windows = []
    for name in _NAMES:
        told = limits.get(name)
        if isinstance(told, dict):
            windows += _window(
                name,
                told.get("used_percent"),
                told.get("window_minutes"),
                told.get("reset_at"),
                told.get("reset_after_seconds"),
                now_s,
            )
    return windows


def account_usage(body: bytes, now_s: float) -> AccountUsage | None:
    """What ``/wham/usage`` says; None when the body is not of that kind."""
    answer = decode_object(body)
    limit = answer.get("rate_limit")
    if not isinstance(limit, dict):
        return None
    windows = []
    for name in _NAMES:
        told = limit.get(f"{name}_window")
        if isinstance(told, dict):
            seconds = number(told.get("limit_window_seconds"))
            windows += _window(
                name,
                told.get("used_percent"),
                None if seconds is None else seconds / 60,
                told.get("reset_at"),
                told.get("reset_after_seconds"),
                now_s,
            )
    plan = answer.get("plan_type")
    reached = bool(limit.get("limit_reached"))
    return AccountUsage(
        plan=plan if isinstance(plan, str) else None,
        windows=tuple(windows),
        allowed=limit.get("allowed") is not False and not reached,
        limit_reached=reached,
    )


def _window(
    name: str, used: object, minutes: object, reset_at: object, reset_after: object, now_s: float
) -> list[RateLimitWindow]:
    percent = number(used)
    if percent is None or not 0 <= percent <= _MAX_PERCENT:
        return []
    length = number(minutes)
    if length is not None and not 1 <= length <= _MAX_WINDOW_MINUTES:
        length = None
    after = number(reset_after)
    resets_at_s = plausible_reset(number(reset_at), now_s)
    if resets_at_s is None and after is not None:
        resets_at_s = plausible_reset(now_s + after, now_s)
    return [RateLimitWindow(name, percent, None if length is None else int(length), resets_at_s)]


def plausible_reset(at_s: float | None, now_s: float) -> float | None:
    """``at_s`` if it is a moment between now and 400 days ahead, else None."""
    return at_s if at_s is not None and now_s <= at_s <= now_s + _MAX_AHEAD_S else None


def number(value: object) -> float | None:
    """A finite number from JSON or from a header's text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | bytes):
        return None
    if isinstance(value, str | bytes) and len(value) > 40:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def decode_object(data: bytes) -> dict[str, Any]:
    """A JSON object; {} for anything else."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _inside(usage: Mapping[str, Any], outer: str, inner: str) -> object:
    details = usage.get(outer)
    return details.get(inner) if isinstance(details, dict) else None
