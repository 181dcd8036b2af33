"""The body as one account must carry it: its installation id, and nothing that another account sealed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.adapt import turn_metadata, with_installation, without_foreign_reasoning
from tests.gateway.test_adapt import CODEX, ITEMS, RIGHT, run, upstream


def test_an_sdk_client_gets_the_accounts_installation_id() -> None:
    assert upstream(run(RIGHT), "iid")["client_metadata"] == {"x-codex-installation-id": "iid"}


def test_the_installation_id_inside_the_turn_metadata_is_the_accounts_too() -> None:
    turn = json.dumps({"installation_id": "mine", "turn_id": "t", "workspaces": {"/é": {}}})
    body = CODEX | {"client_metadata": {"x-codex-installation-id": "mine", "x-codex-turn-metadata": turn}}
    sent = upstream(run(body, codex=True), "ours", codex=True)["client_metadata"]
    assert sent["x-codex-installation-id"] == "ours"
    assert json.loads(sent["x-codex-turn-metadata"]) == json.loads(turn) | {"installation_id": "ours"}


def test_a_codex_client_without_an_installation_id_is_given_none() -> None:
    body = {name: value for name, value in CODEX.items() if name != "client_metadata"}
    assert upstream(run(body, codex=True), "ours", codex=True) == body


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"not json installation_id", b'{"installation_id"', b'{"a":1}'])
def test_turn_metadata_that_is_none_stays_as_it_is(value: bytes) -> None:
    assert turn_metadata(value, "ours") == value


def test_the_input_of_a_large_body_is_not_copied_per_account() -> None:
    adapted = run(RIGHT | {"input": [{"role": "user", "content": "x" * 100_000}]})
    one, two = with_installation(adapted, "a", False), with_installation(adapted, "b", False)
    assert one[1] is two[1] is adapted.input


PAIRS = [
    ("function_call", "function_call_output"),
    ("custom_tool_call", "custom_tool_call_output"),
    ("local_shell_call", "local_shell_call_output"),
    ("shell_call", "shell_call_output"),
    ("tool_search_call", "tool_search_output"),
]


def sealed_turn(call: str, output: str) -> list[dict[str, Any]]:
    return [
        *ITEMS,
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "aaaa1"},
        {"type": call, "id": "fc_1", "call_id": "c1", "name": "f"},
        {"type": output, "call_id": "c1", "output": "done"},
        {"type": "reasoning", "summary": [], "encrypted_content": "bbbb2"},
        {"type": "message", "role": "assistant", "content": []},
    ]


@pytest.mark.parametrize(("call", "output"), PAIRS)
def test_foreign_reasoning_goes_and_calls_stay_with_their_outputs(call: str, output: str) -> None:
    adapted = run(RIGHT | {"input": sealed_turn(call, output)}, codex=True)
    assert adapted.sealed == ((1, b"aaaa"), (4, b"bbbb"))
    bare = without_foreign_reasoning(adapted, {b"aaaa", b"bbbb"})
    assert json.loads(bare.input) == [
        *ITEMS,
        {"type": call, "call_id": "c1", "name": "f"},
        {"type": output, "call_id": "c1", "output": "done"},
        {"type": "message", "role": "assistant", "content": []},
    ]
    assert bare.sealed == ()
    assert not bare.has_encrypted


def test_only_the_foreign_parts_go_and_the_rest_is_still_known() -> None:
    adapted = run(RIGHT | {"input": sealed_turn("function_call", "function_call_output")}, codex=True)
    half = without_foreign_reasoning(adapted, {b"aaaa"})
    assert half.sealed == ((3, b"bbbb"),)
    assert json.loads(half.input)[3]["encrypted_content"] == "bbbb2"
    assert without_foreign_reasoning(adapted, {b"zzzz"}) is adapted
    assert without_foreign_reasoning(half, {b"bbbb"}).sealed == ()


@pytest.mark.parametrize(
    ("output", "content"),
    [
        ("42", [{"type": "input_text", "text": "Output of an earlier tool call:\n42"}]),
        ([{"type": "input_text", "text": "42"}], [{"type": "input_text", "text": "42"}]),
        ({"a": 1}, [{"type": "input_text", "text": 'Output of an earlier tool call:\n{"a": 1}'}]),
    ],
)
def test_an_output_whose_call_went_with_a_compaction_becomes_user_text(output: object, content: object) -> None:
    items = [
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "aaaa1"},
        {"type": "function_call_output", "call_id": "c0", "output": output},
        *ITEMS,
    ]
    bare = without_foreign_reasoning(run(RIGHT | {"input": items}, codex=True), {b"aaaa"})
    assert json.loads(bare.input) == [{"type": "message", "role": "user", "content": content}, *ITEMS]


def test_a_call_that_is_sealed_itself_loses_the_seal_and_stays() -> None:
    items = [
        {"type": "agent_call", "call_id": "c", "encrypted_content": "aaaa"},
        {"type": "agent_call_output", "call_id": "c", "output": "x"},
    ]
    bare = without_foreign_reasoning(run(RIGHT | {"input": items}, codex=True), {b"aaaa"})
    assert json.loads(bare.input) == [{"type": "agent_call", "call_id": "c"}, items[1]]
