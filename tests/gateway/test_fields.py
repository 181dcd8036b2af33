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
