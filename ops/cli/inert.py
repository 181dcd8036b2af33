"""What a container or a model said, on a terminal: shown, never obeyed.

Titles, messages, names of files, logs and diffs are untrusted. Control characters, escape sequences and bidirectional
marks are shown escaped, a line at a time; line ends and tabs are what they are. JSON for scripts is pure ASCII with the
same values. A diff that goes into a file or a pipe is the exact bytes: it is applied, not looked at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from ops import redact

_LINES: Final = 200
_TOLD: Final = ("text", "message", "line", "output", "aggregated_output", "delta", "reason", "host")


def data(value: object) -> None:
    """One JSON document on standard output, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def line(value: object) -> None:
    """One JSON document on one line on standard output, in ASCII."""
    click.echo(json.dumps(value, separators=(",", ":")))


def shown(text: str) -> str:
    """One line of untrusted text as it may be printed; tabs stay."""
    return "\t".join(part if part.isprintable() else _escaped(part) for part in text.split("\t"))


def _escaped(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def patch(body: bytes) -> None:
    """A diff on standard output: exact for a pipe, inert for a terminal."""
    if sys.stdout.isatty():
        for one in body.decode("utf-8", "backslashreplace").split("\n"):
            click.echo(shown(one))
    else:
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()


def event_lines(item: Mapping[str, Any], clock: str) -> Iterator[str]:
    """A line of a task's log for people; ``clock`` is its time of day. Long texts are cut."""
    head = f"{clock} {item.get('attempt', 0)} {item.get('source', '?')} {item.get('kind', '?')}"
    texts = list(_texts(item.get("data") or {}))
    yield redact.text(f"{head} {texts[0] if texts else ''}".rstrip())
    for one in texts[1:_LINES]:
        yield f"    {redact.text(one)}"
    if len(texts) > _LINES:
        yield f"    ... {len(texts) - _LINES} more lines"


def _texts(data: Mapping[str, Any]) -> Iterator[str]:
    item = data.get("item")
    inner = item if isinstance(item, dict) else data
    command, code = inner.get("command"), inner.get("exit_code")
    if command is not None:
        yield f"$ {command}" + ("" if code is None else f" -> {code}")
    told = [inner[name] for name in _TOLD if isinstance(inner.get(name), str) and inner[name]]
    for text in told:
        yield from text.rstrip("\n").split("\n")
    if command is None and not told and data:
        yield json.dumps(data, separators=(",", ":"))
