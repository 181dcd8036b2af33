"""The gate takes one JSON object by the letter, and nothing else, in bounded time."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.jsongate import parse_object

DEEP = 100_000

REFUSED: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "array": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "truncated": b'{"a":',
    "truncated_string": b'{"a":"x',
    "trailing": b"{} {}",
    "trailing_nul": b"{}\x00",
    "trailing_comma": b'{"a":1,}',
    "deep_array": b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep_open": b'{"a":' + b"[" * DEEP,
    "deep_object": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "nan": b'{"a":NaN}',
    "nested_nan": b'{"a":[{"b":NaN}]}',
    "infinity": b'{"a":Infinity}',
    "minus_infinity": b'{"a":[-Infinity]}',
    "lone_high_surrogate": rb'{"a":"\ud800"}',
    "lone_low_surrogate": rb'{"a":"\udc00"}',
    "surrogate_and_letter": rb'{"a":["\ud800\u0041"]}',
    "two_high_surrogates": rb'{"a":{"b":"\ud800\ud800"}}',
    "surrogate_key": rb'{"\ud800":1}',
    "nested_surrogate_key": rb'{"a":{"\ud800":1}}',
    "bad_utf8": b'{"a":"\xff"}',
    "bad_utf8_nested": b'{"a":{"b":["\xc3\x28"]}}',
    "bad_utf8_key": b'{"a":{"\xff":1}}',
    "bad_utf8_at_the_end": b'{"a":"' + b"x" * 600_000 + b'\xe2\x82"}',
    "bad_utf8_cut_at_a_piece": b'{"a":"' + b"x" * (256 * 1024 - 7) + b'\xe2\x82x"}',
    "overlong_utf8": b'{"a":"\xc0\xaf"}',
    "utf8_surrogate": b'{"a":"\xed\xa0\x80"}',
    "bom": b"\xef\xbb\xbf{}",
    "utf16": '{"a":1}'.encode("utf-16"),
    "utf16_be": '{"a":1}'.encode("utf-16-be"),
    "utf32": '{"a":1}'.encode("utf-32"),
    "leading_zero": b'{"a":01}',
    "plus": b'{"a":+1}',
    "hex": b'{"a":0x10}',
    "bare_fraction": b'{"a":.5}',
    "comment": b'{"a":/* */1}',
    "single_quotes": b"{'a':1}",
    "bare_key": b"{a:1}",
    "control_character": b'{"a":"\x01"}',
    "raw_newline": b'{"a":"x\ny"}',
    "bad_escape": rb'{"a":"\x"}',
}


@pytest.mark.fault("B49")
@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_one_json_object_is_refused_quickly(name: str) -> None:
    started_s = time.process_time()
    with pytest.raises(GatewayError) as caught:
        parse_object(REFUSED[name])
    assert time.process_time() - started_s < 0.05
    assert (caught.value.code, caught.value.status) == ("invalid_json", 400)
    assert "\n" not in caught.value.message


@pytest.mark.fault("B49")
def test_of_duplicates_the_last_wins_and_what_goes_on_has_only_one() -> None:
    fields = parse_object(b'{"store":true,"model":"a","store":false,"st\\u006fre":1}')
    assert json.loads(msgspec.json.encode(fields)) == {"store": 1, "model": "a"}


@pytest.mark.fault("B49")
def test_a_giant_integer_is_carried_and_never_computed() -> None:
    started_s = time.process_time()
    fields = parse_object(b'{"n":' + b"9" * 1_000_000 + b"}")
    assert len(bytes(fields["n"])) == 1_000_000
    assert time.process_time() - started_s < 0.05


@pytest.mark.fault("B49")
@pytest.mark.parametrize("text", ["x" * 2_000_000, "é漢" * 400_000, '\\"' * 1_000_000])
def test_two_megabytes_take_less_than_fifty_milliseconds(text: str) -> None:
    body = json.dumps({"input": text}, ensure_ascii=False).encode()
    started_s = time.process_time()
    parse_object(body)
    assert time.process_time() - started_s < 0.05


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def is_plain(value: object) -> bool:
    """Whether all strings can be written in UTF-8."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5).filter(is_plain), st.booleans())
def test_every_object_passes_and_means_the_same_when_encoded_again(value: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert json.loads(msgspec.json.encode(parse_object(body))) == value


def no_constant(name: str) -> None:
    raise ValueError(name)


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,\\u019eE+-.ntf ad', max_size=24).map(str.encode))
def test_whatever_is_taken_the_standard_library_takes_too(body: bytes) -> None:
    try:
        fields = parse_object(b'{"a":' + body + b"}")
    except GatewayError:
        return
    expected = json.loads((b'{"a":' + body + b"}").decode(), parse_constant=no_constant)
    assert isinstance(expected, dict)
    assert set(expected) == set(fields)
