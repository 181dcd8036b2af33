"""The language of directives: what is read, and that a typo is never a normal answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator.script import (
    Fail,
    Plan,
    Refresh,
    ToolCall,
    UnknownDirective,
    apply_script_line,
    apply_text,
    item_from_json,
    refresh_from_json,
    without_directives,
)


def test_numbers_words_and_switches_are_read_from_free_text() -> None:
    plan = apply_text(Plan(), "Hello, sim:events=50,delay_ms=2.5 please. sim:reasoning sim:fail=server_error,at=3")
    assert (plan.events, plan.delay_ms, plan.reasoning, plan.fail, plan.at) == (50, 2.5, True, "server_error", 3)


def test_a_quoted_value_keeps_blanks_commas_and_escapes() -> None:
    assert apply_text(Plan(), r'sim:text="Hello, \"you\" there",events=2').text == 'Hello, "you" there'


def test_tool_arguments_follow_as_words_and_several_tools_are_several_turns() -> None:
    plan = apply_text(Plan(), 'sim:tool=exec_command cmd="echo hi" then sim:custom=apply_patch input="*** Begin"')
    assert plan.tools == (
        ToolCall("exec_command", json.dumps({"cmd": "echo hi"})),
        ToolCall("apply_patch", "*** Begin", custom=True),
    )


def test_tool_arguments_can_be_given_whole() -> None:
    (call,) = apply_text(Plan(), r'sim:tool=add json="{\"a\":1}"').tools
    assert json.loads(call.arguments) == {"a": 1}


@pytest.mark.parametrize("line", ["sim:edit-file NAME.txt", "sim:edit-file=NAME.txt"])
def test_edit_file_writes_and_reads_with_exec_command(line: str) -> None:
    plan = apply_text(Plan(), line)
    commands = [json.loads(call.arguments)["cmd"] for call in plan.tools]
    assert [call.name for call in plan.tools] == ["exec_command"] * 2
    assert commands[0].endswith("> NAME.txt")
    assert commands[1] == "cat NAME.txt"
    assert plan.reasoning


def test_a_later_layer_wins_and_leaves_the_rest() -> None:
    plan = apply_script_line(apply_script_line(Plan(), "events=2,noise"), "events=3")
    assert (plan.events, plan.noise) == (3, True)


@pytest.mark.parametrize("text", ["sim:evnets=3", "sim:fail", "sim:events=many", "sim:tools=x", "sim:,"])
def test_what_is_not_in_the_language_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"sim|directive|invalid literal"):
        apply_text(Plan(), text)


def test_words_that_merely_contain_the_mark_are_left_alone() -> None:
    assert apply_text(Plan(), "maxsim:events=3 and sim without colon") == Plan()


def test_directives_can_be_taken_out_of_a_prompt() -> None:
    assert without_directives('say sim:text="a b" this') == "say  this"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No prompt makes the reader fail in another way than ValueError."""
    for candidate in (text, f"sim:{text}", f'sim:text="{text}'):
        try:
            apply_text(Plan(), candidate)
        except ValueError:
            continue


def test_items_of_the_control_api() -> None:
    assert item_from_json("events=1") == "events=1"
    assert item_from_json({"status": 418, "body": {"a": 1}}) == Fail(418, {"a": 1})
    assert refresh_from_json("lost") == Refresh("lost")
    assert refresh_from_json({"gate": "g", "delay_s": 1}) == Refresh("ok", 1.0, "g")
    assert refresh_from_json({"status": 500}) == Fail(500)
    for item in (3, {"body": "x"}, "evnets=1"):
        with pytest.raises(UnknownDirective):
            item_from_json(item)
    for answer in ("explode", {"kind": "lost", "when": 1}, 3):
        with pytest.raises(UnknownDirective):
            refresh_from_json(answer)
