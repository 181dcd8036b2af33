"""The CLI's command line, and what is made of its lines when they are hostile."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from sandbox.codex import line_of
from sandbox.runner.events import Events, Masks
from sandbox.runner.order import Places, Refused, Spec
from sandbox.runner.turn import LINE_READ_MAX_BYTES, Tail, Turn, arguments

HOSTILE: tuple[bytes, ...] = (
    b"", b"\n\n\n", b"null", b"[]", b'"x"', b"{", b"{}", b'{"type":1}', b'{"type":null}', b'{"type":"a b\x1b[2J"}',
    b"\x00\x01\x02", b"\xff\xfe\xfd", b'{"type":"error"}', b'{"type":"turn.failed","error":[]}',
    b'{"type":"turn.failed","error":{"message":7}}', b'{"type":"thread.started","thread_id":{}}',
    b'{"type":"turn.completed","usage":[1]}', b'{"type":"turn.completed","usage":{"input_tokens":"x"}}',
    b'{"type":"item.completed","item":7}', b'{"type":"item.completed","item":{"aggregated_output":[]}}',
    b'{"type":"x","a":NaN,"b":Infinity,"c":1e999}', b'{"type":"x","n":' + b"9" * 5000 + b"}",
    b"[" * 100_000, b'{"a":' * 100_000, b'{"type":"x","t":"' + b"y" * (3 << 20) + b'"}',
    b'{"type":"x","t":"\\ud800\\u0000\\u001b]8;;evil\\u0007"}', "\u202egnp.exe\u2066".encode(), b"\x1b]52;c;AAAA\x07",
    b"x" * (LINE_READ_MAX_BYTES + 5),
)  # fmt: skip


def played(data: bytes, piece_bytes: int) -> tuple[Turn, list[dict[str, Any]], bytes]:
    out = io.BytesIO()
    turn = Turn(Events(Masks(()), 40 << 20, out=out))
    for at in range(0, len(data), piece_bytes):
        turn(data[at : at + piece_bytes])
    turn.close()
    return turn, [json.loads(line) for line in out.getvalue().splitlines()], out.getvalue()


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_is_at_most_one_harmless_event_and_the_next_one_is_read(line: bytes) -> None:
    good = b'{"type":"turn.completed","usage":{"input_tokens":3}}'
    turn, said, raw = played(line + b"\n" + good + b"\n", 65536)
    assert turn.completed
    assert turn.usage == {"input_tokens": 3}
    assert said[-1]["kind"] == "codex.turn.completed"
    assert len(said) <= 2
    assert not any(byte < 32 or byte > 126 for byte in raw.replace(b"\n", b""))
    for one in raw.splitlines()[-1:]:
        assert line_of(one) is not None


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_lines_are_put_together_from_any_pieces(piece_bytes: int) -> None:
    lines = [
        {"type": "thread.started", "thread_id": "t-1"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "h\u00e9llo"}},
        {"type": "error", "message": "Reconnecting... 1/5"},
        {"type": "turn.failed", "error": {"message": "no more"}},
    ]
    data = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()
    turn, said, _ = played(data, piece_bytes)
    assert (turn.thread_id, turn.fault, turn.completed) == ("t-1", "no more", False)
    assert said[1]["data"]["item"]["text"] == "h\u00e9llo"
    assert [one["kind"] for one in said] == [
        "codex.thread.started", "codex.item.completed", "codex.error", "codex.turn.failed",
    ]  # fmt: skip


def test_long_command_output_keeps_its_beginning_and_end() -> None:
    item = {"type": "command_execution", "aggregated_output": "A" + "x" * 200_000 + "Z"}
    _, said, _ = played(json.dumps({"type": "item.completed", "item": item}).encode() + b"\n", 65536)
    output = said[0]["data"]["item"]["aggregated_output"]
    assert output[0] + output[-1] == "AZ"
    assert len(output) < 33_000


def test_the_prompt_and_the_key_are_no_arguments(places: Places) -> None:
    words = arguments(places, Spec("agent", prompt="the prompt", model="gpt-5.5", effort="high"), 4321)
    assert words[-1] == "-"
    assert 'model="gpt-5.5"' in words
    assert 'model_reasoning_effort="high"' in words
    assert 'shell_environment_policy.exclude=["GW_*"]' in words
    assert "http://127.0.0.1:4321/v1" in " ".join(words)
    assert "the prompt" not in " ".join(words)
    resumed = arguments(places, Spec("agent", model="m", thread_id="019a-bcde-f012"), 1)
    assert resumed[-3:] == ["resume", "019a-bcde-f012", "-"]


@pytest.mark.parametrize("model", ["", "-c", 'm"', "m\n", "m x", "m" * 101])
def test_a_model_that_is_no_word_is_refused(places: Places, model: str) -> None:
    with pytest.raises(Refused):
        arguments(places, Spec("agent", model=model), 1)


def test_the_end_of_standard_error_is_kept() -> None:
    said: list[str] = []
    tail = Tail(said.append)
    tail(b"x" * 10_000)
    tail(b"\xffend")
    assert tail.text.endswith("\ufffdend")
    assert len(tail.text) == 4000
    assert len(said) == 2
