"""Items of input: faults are found where they are, and clean items keep their bytes."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from gateway import items as it
from gateway.errors import GatewayError


def identity(value: bytes) -> bytes:
    return value


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def test_clean_items_have_neither_faults_nor_seals() -> None:
    items = [{"role": "user", "content": "x"}, {"type": "function_call_output", "call_id": "c", "output": "{}"}]
    assert it.look_at(raw(items), identity) == ((), {})


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"role": "system", "content": "x"}, (it.SYSTEM,)),
        ({"type": "message", "role": "user", "id": "msg_1"}, ()),
        ({"type": "message", "role": "user", "id": "x1"}, (it.ID,)),
        ({"type": "function_call", "id": "fc_1", "call_id": "c"}, ()),
        ({"type": "function_call", "id": "call_1", "call_id": "c"}, (it.ID,)),
        ({"type": "custom_tool_call", "id": "anything", "call_id": "c"}, ()),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "a"}, ()),
        ({"type": "reasoning", "id": "x", "summary": [], "encrypted_content": "a"}, (it.ID,)),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, (it.SHELL,)),
        ({"role": "system", "id": "x", "function_call": {}}, (it.SYSTEM, it.ID, it.STRAY)),
        ({"role": "critic", "content": "x"}, ()),
    ],
)
def test_a_fault_has_its_words(item: dict[str, object], words: tuple[str, ...]) -> None:
    clean = {"role": "user", "content": "x"}
    found = it.look_at(raw([clean, item]), identity)[1]
    assert found == ({1: words} if words else {})


def test_a_clean_item_keeps_its_bytes_beside_a_mended_one() -> None:
    text = b'[ {"role" : "user", "content":"\\u00e9"},{"role":"system","content":[1 , 2]}]'
    _, found = it.look_at(Raw(text), identity)
    content, kept = it.mend(Raw(text), found)
    assert content == b'[{"role" : "user", "content":"\\u00e9"},{"role":"developer","content":[1 , 2]}]'
    assert kept == [0, 1]


def test_seals_are_found_among_odd_items_too() -> None:
    items = [
        {"role": "system"},
        {"type": "reasoning", "encrypted_content": "a"},
        {"type": "x", "encrypted_content": ""},
    ]
    assert it.look_at(raw(items), identity)[0] == ((1, b"a"),)
    assert it.sealed_of(raw(items), identity) == ((1, b"a"),)


def test_a_seal_keeps_its_place_when_an_item_before_it_is_dropped() -> None:
    items = [{"type": "reasoning", "id": "rs_1"}, {"type": "reasoning", "encrypted_content": "a"}]
    _, found = it.look_at(raw(items), identity)
    assert it.mend(raw(items), found) == (b'[{"type": "reasoning", "encrypted_content": "a"}]', [1])


def test_a_reference_to_something_stored_is_refused_by_its_index() -> None:
    with pytest.raises(GatewayError) as caught:
        it.look_at(raw([{"role": "user"}, {"type": "item_reference", "id": "msg_1"}]), identity)
    assert caught.value.param == "input[1]"


def test_a_text_becomes_one_user_message_with_the_same_text() -> None:
    message = json.loads(it.user_message(raw('he said "é"\n')))
    assert message[0]["content"] == [{"type": "input_text", "text": 'he said "é"\n'}]
