"""Lines: numbered, bounded, masked, inert, and cut off once."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.codex import line_of
from sandbox.runner.events import LINE_MAX_BYTES, Events, Masks


class Broken(io.BytesIO):
    def write(self, data: Any) -> int:
        raise BrokenPipeError


def said(out: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_log_is_cut_once_and_the_end_of_the_turn_is_still_said() -> None:
    out = io.BytesIO()
    events = Events(Masks(()), 2000, out=out, now=lambda: 5.0)
    for _ in range(100):
        events.say("codex", "codex.text", {"text": "x" * 100})
    events.say("codex", "codex.turn.completed", {"usage": {"input_tokens": 1}})
    events.say("runner", "runner.ended", {})
    kinds = [one["kind"] for one in said(out)]
    assert kinds.count("runner.truncated") == 1
    assert kinds[-3:] == ["runner.truncated", "codex.turn.completed", "runner.ended"]
    assert len(out.getvalue()) < 2700
    assert [one["seq"] for one in said(out)] == list(range(1, len(kinds) + 1))


DEEP: dict[str, Any] = {}
for _ in range(500):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    "data",
    [
        {"text": "x" * (8 << 20)},
        {"many": ["\0" * 60_000] * 50},
        {"k" * (2 << 20): 1},
        {"wide": {str(number): "y" * 1000 for number in range(20_000)}},
        {"text": "\x1b]0;owned\x07\x1b[2J\u202e\x9b\r\n"},
        {"text": "\ud800"},
        DEEP,
    ],
)
def test_whatever_is_said_is_one_bounded_line_that_obeys_nothing(data: dict[str, Any]) -> None:
    out = io.BytesIO()
    Events(Masks(()), 40 << 20, out=out).say("codex", "codex.text", data)
    line = out.getvalue()
    assert len(line) <= LINE_MAX_BYTES
    assert line.count(b"\n") == 1
    assert not any(byte < 32 or byte > 126 for byte in line[:-1])
    assert line_of(line) is not None


def test_secrets_are_masked_in_every_text_also_line_by_line() -> None:
    out = io.BytesIO()
    Events(Masks(["first-line\nsecond-line", "abc"]), 9999, out=out).say(
        "setup", "setup.output", {"text": "a second-line b", "more": ["first-line", {"first-line": "abc"}]}
    )
    assert said(out)[0]["data"] == {"text": "a *** b", "more": ["***", {"***": "abc"}]}


def test_a_reader_that_has_gone_and_a_folder_that_is_not_there_do_not_stop_the_run(tmp_path: Path) -> None:
    events = Events(Masks(()), 9999, tmp_path / "none" / "events.jsonl", out=Broken())
    events.say("runner", "runner.started", {})
    events.close()
