"""How commands speak: tables for people, JSON for scripts, one line when something is wrong.

Everything that came from outside (labels, e-mail addresses, evidence) goes through redaction first, so that a text
cannot drive the terminal. What is printed for scripts keeps the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Never

import click
import msgspec

from ops import redact

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WIDEST: Final = 48


class Duration(click.ParamType):
    """``90d``, ``12h``, ``30m``, ``45s``, ``2w``: seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"([0-9]{1,6})([smhdw])", str(value).strip())
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is not a duration; write for example 90d, 12h or 30m", param, ctx)
        return float(int(found[1]) * _UNITS[found[2]])


class Names(click.ParamType):
    """``a,b,c`` as a tuple without blanks and doubles; the empty text is the empty tuple."""

    name = "a,b,..."

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))


def fail(message: str) -> Never:
    """Ends the command with exit code 1 and one line: the cause; the next step."""
    raise click.ClickException(redact.text(message))


def say(message: str) -> None:
    """A message for the person at the terminal, on standard error."""
    click.echo(message, err=True)


def data(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def line(value: object) -> None:
    """One JSON document on one line on standard output."""
    click.echo(msgspec.json.encode(value, enc_hook=str).decode())


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns on standard output; only the heading when there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[index]) for row in cells)]) for index, name in enumerate(columns)]
    for row in ([name.upper() for name in columns], *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def card(values: Mapping[str, object]) -> None:
    """One record, a field a line."""
    width = max(len(name) for name in values)
    for name, value in values.items():
        click.echo(f"{name.ljust(width)}  {_cell(value, widest=redact.FIELD_BYTES)}")


def moment(unix_s: float | None) -> str:
    """A Unix time as people read it, in UTC; ``-`` for none."""
    if unix_s is None:
        return "-"
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """``in 3 h``, ``5 min ago``: the larger unit alone."""
    size = abs(seconds)
    text = next(f"{int(size // unit)} {name}" for unit, name in _SPANS if size >= unit)
    return f"in {text}" if seconds >= 0 else f"{text} ago"


_SPANS: Final = ((172_800, "days"), (3600, "h"), (60, "min"), (0, "s"))


def _cell(value: object, widest: int = _WIDEST) -> str:
    if value is None or value in {"", ()}:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list | frozenset):
        return _cell(",".join(str(part) for part in value), widest)
    text = redact.text(str(value))
    return text if len(text) <= widest else text[: widest - 1] + "…"
