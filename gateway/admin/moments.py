"""Times as people read them: a moment in UTC, and how far away it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_SPANS: Final = ((172_800, 86_400, "days"), (3600, 3600, "h"), (60, 60, "min"), (0, 1, "s"))
"""From how many seconds on, in which unit, and its name."""


def moment(unix_s: float | None) -> str:
    """A Unix time as people read it, in UTC; ``-`` for none."""
    if unix_s is None:
        return "-"
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """``in 3 h``, ``5 min ago``: the larger unit alone."""
    size = abs(seconds)
    text = next(f"{int(size // unit)} {name}" for least, unit, name in _SPANS if size >= least)
    return f"in {text}" if seconds >= 0 else f"{text} ago"
