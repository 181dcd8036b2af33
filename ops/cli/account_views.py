"""The table of accounts as the command line prints it; what is shown and why stands in gateway.admin.views."""

from __future__ import annotations

from typing import Any, Final

from gateway.admin.views import reasons, state, view
from ops.cli.output import span

__all__ = ["columns", "reasons", "row", "state", "view"]

_COLUMNS: Final = ("id", "label", "email", "plan", "pool", "weight", "state", "until", "token")


def row(shown: dict[str, Any], now_s: float) -> list[object]:
    """The cells of one line of the list, in the order of :func:`columns`."""
    until = "-" if shown["until_s"] is None else span(shown["until_s"] - now_s)
    expires = shown["access_token_expires_at_s"]
    token = "none" if expires is None else f"expires {span(expires - now_s)}"
    values = {**shown, "until": until, "token": token}
    return [values[column] for column in _COLUMNS]


def columns() -> tuple[str, ...]:
    return _COLUMNS
