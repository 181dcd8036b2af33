"""Another account's parts are taken out of a turn: nothing of them is left, and what stays still makes sense."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway import items as it

Items = list[dict[str, Any]]


def taken_out(items: Items, foreign: Collection[str]) -> tuple[Items, tuple[it.Sealed, ...]]:
    text = json.dumps(items).encode()
    sealed = it.sealed_of(Raw(text), bytes)
    content, still = it.without(text, sealed, {name.encode() for name in foreign})
    return json.loads(content), still


def reasoning(seal: str) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "done"}


def test_the_foreign_part_goes_and_calls_stay_with_their_outputs() -> None:
    content, still = taken_out([reasoning("a"), CALL, OUTPUT, reasoning("b")], {"a"})
    assert [one["type"] for one in content] == ["function_call", "function_call_output", "reasoning"]
    assert content[1] == OUTPUT
    assert "id" not in content[0], "an id may tie the call to the reasoning that is gone"
    assert still == ((2, b"b"),)


def test_a_call_that_is_sealed_itself_stays_as_a_plain_one() -> None:
    content, still = taken_out([{**CALL, "encrypted_content": "a"}, OUTPUT], {"a"})
    assert content == [{key: value for key, value in CALL.items() if key != "id"}, OUTPUT]
    assert still == ()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("done", "done"),
        ('he said "é"\n', 'he said "é"\n'),
        ({"a": 1}, '{"a": 1}'),
        (None, "null"),
        (7, "7"),
    ],
)
def test_an_output_whose_call_went_away_becomes_the_users_text(output: object, text: str) -> None:
    compaction = {"type": "compaction", "encrypted_content": "a"}
    content, _ = taken_out([compaction, {**OUTPUT, "output": output}], {"a"})
    (message,) = content
    assert (message["type"], message["role"]) == ("message", "user")
    assert message["content"][0]["text"].endswith(":\n" + text)


def test_parts_of_an_orphaned_output_are_kept_as_they_are() -> None:
    parts = [{"type": "input_image", "image_url": "data:x"}]
    content, _ = taken_out([{**OUTPUT, "output": parts}], {"a"})
    assert content[0]["content"] == parts


def test_an_orphaned_output_without_an_output_says_that_it_was_empty() -> None:
    content, _ = taken_out([{"type": "function_call_output", "call_id": "c1"}], ())
    assert content[0]["content"][0]["text"].endswith(":\n")


ITEM = st.one_of(
    st.builds(reasoning, st.sampled_from("abc")),
    st.builds(lambda seal: {"type": "compaction", "encrypted_content": seal}, st.sampled_from("abc")),
    st.builds(lambda n: {**CALL, "call_id": f"c{n}"}, st.integers(0, 2)),
    st.builds(lambda seal: {**CALL, "call_id": "c0", "encrypted_content": seal}, st.sampled_from("abc")),
    st.builds(lambda n, text: {**OUTPUT, "call_id": f"c{n}", "output": text}, st.integers(0, 2), st.text(max_size=4)),
    st.builds(lambda text: {"role": "user", "content": text}, st.text(max_size=4)),
    st.builds(lambda text: {"role": "assistant", "id": "msg_1", "content": text}, st.text(max_size=4)),
)  # fmt: skip


@given(st.lists(ITEM, max_size=8), st.sets(st.sampled_from("abc")))
def test_nothing_foreign_is_left_everything_else_stays_in_order_and_in_pairs(items: Items, foreign: set[str]) -> None:
    content, still = taken_out(items, foreign)
    text = json.dumps(content).encode()
    assert it.sealed_of(Raw(text), bytes) == still, "what is still sealed is where it is said to be"
    assert {digest.decode() for _, digest in still}.isdisjoint(foreign)
    assert [digest.decode() for _, digest in still] == [
        item["encrypted_content"] for item in items if item.get("encrypted_content", "a") not in foreign
        and "encrypted_content" in item
    ]  # fmt: skip
    assert all("id" not in item for item in content)
    calls = {item["call_id"] for item in content if item.get("type") == "function_call"}
    outputs = {item["call_id"] for item in content if item.get("type") == "function_call_output"}
    assert outputs <= calls
    assert [one["content"] for one in content if one.get("role") == "assistant"] == [
        one["content"] for one in items if one.get("role") == "assistant"
    ]


@given(st.lists(ITEM, max_size=8), st.sets(st.sampled_from("abc")))
def test_taking_out_twice_is_taking_out_once(items: Items, foreign: set[str]) -> None:
    once, _ = taken_out(items, foreign)
    assert taken_out(once, foreign)[0] == once
