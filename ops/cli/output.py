"""How commands speak: tables for people, JSON for scripts, one line when something is wrong.

Everything that came from outside (labels, e-mail addresses, evidence) goes through redaction first, so that a text
cannot drive the terminal. What is printed for scripts keeps the same values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Never

import click
import msgspec

from auth.keys import parse_duration_s
from gateway.admin.moments import moment, span
from ops import redact

__all__ = ["Duration", "Names", "card", "data", "fail", "line", "moment", "say", "span", "table"]

_WIDEST: Final = 48


class Duration(click.ParamType[float]):
    """``90d``, ``12h``, ``30m``, ``45s``, ``2w``: seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return parse_duration_s(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)


class Names(click.ParamType[tuple[str, ...]]):
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


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, widest: int = _WIDEST) -> None:
    """Aligned columns on standard output; only the heading when there are no rows."""
    cells = [[_cell(value, widest) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[index]) for row in cells)]) for index, name in enumerate(columns)]
    for row in ([name.upper() for name in columns], *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def card(values: Mapping[str, object]) -> None:
    """One record, a field a line."""
    width = max(len(name) for name in values)
    for name, value in values.items():
        click.echo(f"{name.ljust(width)}  {_cell(value, redact.FIELD_BYTES)}")


def _cell(value: object, widest: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list | frozenset):
        value = ",".join(str(part) for part in value)
    if value is None or value == "":
        return "-"
    text = redact.text(str(value))
    return text if len(text) <= widest else text[: widest - 1] + "…"
