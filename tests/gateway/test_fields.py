"""The tables of top-level members agree with each other."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from gateway import fields as f
from gateway.errors import GatewayError


def test_no_member_is_in_two_tables() -> None:
    assert not f.PASSED & f.DROPPED
    assert not f.OWN & (f.PASSED | f.DROPPED)
    assert set(f.HARMLESS) <= f.DROPPED


def test_every_member_that_is_echoed_is_known() -> None:
    assert set(f.ECHOED) <= f.PASSED | f.DROPPED | {"reasoning"}


@pytest.mark.parametrize("name", ["tools", "reasoning", 'a"b', "é\n", ""])
def test_a_key_is_json_whatever_its_name(name: str) -> None:
    text = b'{"first":1' + f.key(name) + b"2}"
    assert json.loads(text)[name] == 2


def test_a_value_of_the_wrong_type_names_its_field_and_shows_no_value() -> None:
    with pytest.raises(GatewayError) as caught:
        f.check("temperature", Raw(b'"secret"'))
    assert caught.value.param == "temperature"
    assert "secret" not in caught.value.message


def test_the_echo_owns_its_bytes() -> None:
    echo = f.echo_of({"tools": Raw(b'[{"type":"function"}]'), "user": Raw(b'"u"'), "input": Raw(b"[]")})
    assert echo == {"tools": [{"type": Raw(b'"function"')}], "user": "u"}


def test_nulls_are_the_same_as_nothing() -> None:
    fields = {"a": Raw(b"null"), "b": Raw(b'"null"'), "c": Raw(b"0")}
    f.drop_nulls(fields)
    assert set(fields) == {"b", "c"}


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "prompt"])
def test_what_would_need_stored_state_is_refused_by_name(name: str) -> None:
    with pytest.raises(GatewayError) as caught:
        f.refuse_stored_state({name: Raw(b'"x"')})
    assert (caught.value.status, caught.value.param) == (400, name)


def test_the_background_is_refused_when_it_is_wanted_only() -> None:
    f.refuse_stored_state({"background": Raw(b"false")})
    for value in (b"true", b'"yes"'):
        with pytest.raises(GatewayError) as caught:
            f.refuse_stored_state({"background": Raw(value)})
        assert caught.value.param == "background"


def test_an_absent_flag_is_false_and_null_is_absent() -> None:
    assert not f.flag(None, "x")
    assert f.flag(Raw(b"true"), "x")
    assert f.absent(None)
    assert f.absent(Raw(b"null"))
    assert not f.absent(Raw(b'"null"'))


def test_tools_with_the_backends_names_are_left_alone() -> None:
    assert f.backend_tools(Raw(b'[{"type":"function","name":"f"},{"type":"web_search"}]')) is None
    assert f.backend_tools(Raw(b"[]")) is None


def test_a_preview_name_becomes_the_backends_and_its_neighbours_stay() -> None:
    given = Raw(b'[{"type":"web_search_preview_2025_03_11","x":1},{"type":"function","name":"f"}]')
    changed = f.backend_tools(given)
    assert changed is not None
    assert json.loads(changed) == [{"type": "web_search", "x": 1}, {"type": "function", "name": "f"}]


@pytest.mark.parametrize("kind", sorted(f.REFUSED_TOOLS))
def test_a_tool_that_the_backend_does_not_offer_is_refused_by_its_place(kind: str) -> None:
    with pytest.raises(GatewayError) as caught:
        f.backend_tools(Raw(json.dumps([{"type": "function"}, {"type": kind}]).encode()))
    assert caught.value.param == "tools[1].type"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b'"auto"', None),
        (b'{"type":"function","name":"f"}', None),
        (b'{"type":"web_search_preview"}', {"type": "web_search"}),
    ],
)
def test_a_chosen_tool_gets_the_backends_name(given: bytes, wanted: object) -> None:
    changed = f.backend_tool_choice(Raw(given))
    assert (None if changed is None else json.loads(changed)) == wanted


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", b"1", b'"hot"'),
        ("max_output_tokens", b"9007199254740992", b"-1"),
        ("top_logprobs", b"0", b"1.5"),
        ("truncation", b'"auto"', b'"sometimes"'),
        ("metadata", b'{"a":"b"}', b'{"a":1}'),
        ("tools", b"[{}]", b"{}"),
        ("store", b"false", b"0"),
    ],
)
def test_types_are_checked_and_the_field_is_named(name: str, good: bytes, bad: bytes) -> None:
    f.check(name, Raw(good))
    with pytest.raises(GatewayError) as caught:
        f.check(name, Raw(bad))
    assert caught.value.param == name
    f.check("unknown_member", Raw(bad))
