"""Untrusted text on a terminal: everything is shown, nothing is obeyed."""

from __future__ import annotations

import json

import pytest

from ops.cli import inert

HOSTILE = (
    "\x1b[2J", "\x1b]8;;http://evil\x07click\x1b]8;;\x07", "\x9b31m", "\x00", "\r", "\x08", "\u202e", "\u2066",
    "\u2028", "\x7f", "\ud800", "\x1bP1$r\x1b\\",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_drives_a_terminal_is_shown_escaped(text: str) -> None:
    shown = inert.shown(f"before\t{text}after")
    assert shown.startswith("before\t")
    assert shown.endswith("after")
    assert shown.replace("\t", "").isprintable()
    for one in inert.event_lines({"kind": text, "data": {"text": f"a{text}b"}}, "12:00:00"):
        assert one.isprintable()


def test_what_is_harmless_stays_as_it_is() -> None:
    assert inert.shown("naïve 日本語 \t+ x") == "naïve 日本語 \t+ x"


def test_an_event_is_told_by_what_it_holds() -> None:
    def told(data: dict[str, object]) -> list[str]:
        return list(inert.event_lines({"attempt": 1, "source": "codex", "kind": "k", "data": data}, "12:00:00"))

    assert told({"item": {"command": "ls", "exit_code": 0, "aggregated_output": "a\nb\n"}}) == [
        "12:00:00 1 codex k $ ls -> 0",
        "    a",
        "    b",
    ]
    assert told({"n": 1}) == ['12:00:00 1 codex k {"n":1}']
    assert told({}) == ["12:00:00 1 codex k"]
    assert told({"text": "x\n" * 500})[-1] == "    ... 300 more lines"


def test_json_is_ascii_with_the_same_values(capsys: pytest.CaptureFixture[str]) -> None:
    inert.data({"a": "".join(HOSTILE)})
    inert.line(["\x9b"])
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    first, second = out.rstrip("\n").rsplit("\n", 1)
    assert json.loads(first) == {"a": "".join(HOSTILE)}
    assert json.loads(second) == ["\x9b"]
