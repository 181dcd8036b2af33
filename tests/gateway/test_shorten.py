"""A shortened text has the structure of the whole one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.items import look_at, sealed_of
from gateway.shorten import KEPT, shortened

FILL = ["a", "b64+/=", "é", "\\", '"', "\n", "]", ",", " ", "1,", ":"]
LENGTHS = st.sampled_from([0, 3, KEPT - 1, KEPT, 2 * KEPT + 5, 3 * KEPT, 5 * KEPT])
STRINGS = st.builds(
    lambda first, fill, length: first + fill * (length // len(fill)),
    st.sampled_from(FILL),
    st.sampled_from(FILL),
    LENGTHS,
)
NUMBERS = st.builds(lambda count: list(range(count)), st.sampled_from([0, 2, 40_000]))
VALUES = st.recursive(
    STRINGS | NUMBERS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc") | STRINGS, inner, max_size=2),
    max_leaves=6,
)


def same(short: Any, whole: Any) -> bool:
    """Equal but for long strings, which may have lost what is behind their first characters."""
    if isinstance(whole, str):
        return short == whole or (isinstance(short, str) and len(short) >= KEPT and whole.startswith(short[:KEPT]))
    if isinstance(whole, list):
        return isinstance(short, list) and len(short) == len(whole) and all(map(same, short, whole))
    if isinstance(whole, dict):
        pairs = zip(short.items(), whole.items(), strict=True)
        return all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    return bool(short == whole)


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_structure_and_short_strings_stay(value: list[Any], indent: int | None, escaped: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escaped).encode()
    short = shortened(text)
    if short is not text:
        assert len(short) < len(text)
        assert same(json.loads(short, object_pairs_hook=_pairs), json.loads(text, object_pairs_hook=_pairs))


def _pairs(pairs: list[tuple[str, Any]]) -> list[Any]:
    return [list(pair) for pair in pairs]


def test_an_image_is_all_but_gone() -> None:
    text = json.dumps([{"content": "data:image/png;base64," + "iVBOR" * 200_000}, {"content": "x"}]).encode()
    assert len(shortened(text)) < 2 * KEPT


@pytest.mark.parametrize("gap", [" ", "\n", "\t"])
def test_white_space_between_strings_is_not_taken_for_a_string(gap: str) -> None:
    text = f'["a",{gap * (4 * KEPT)}"b"{gap * (4 * KEPT)},{"1," * (2 * KEPT)}"c"]'.encode()
    assert shortened(text) == text


@pytest.mark.parametrize("size", [100, KEPT - 1, KEPT, 3 * KEPT])
def test_an_encrypted_part_has_its_own_digest_however_long_it_is(size: int) -> None:
    rng = random.Random(size)
    parts = ["".join(rng.choices("ABCDEFGH", k=size)) for _ in range(2)]
    items = [{"role": "user", "content": "i" * (4 * KEPT)}]
    items += [{"type": "reasoning", "encrypted_content": "A" * KEPT + part} for part in parts]
    text = json.dumps(items).encode()
    expected = tuple((index + 1, b"A" * KEPT + part.encode()) for index, part in enumerate(parts))
    assert sealed_of(text, bytes) == expected
    assert look_at(text, bytes) == (expected, {})


def test_what_is_wrong_behind_an_image_is_seen() -> None:
    image = {"role": "user", "content": "i" * (4 * KEPT)}
    _, found = look_at(json.dumps([image, {"role": "system", "content": "x", "id": "y"}]).encode(), bytes)
    assert found == {1: ("system_to_developer", "item_ids_dropped")}
