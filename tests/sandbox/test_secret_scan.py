"""A layer that holds a secret is found out, in whatever plain form it holds it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.secret_scan import SecretScan, forms_of, secrets_in
from store.records import Secret
from tests.sandbox.archive_makers import pieces, tar_of

VALUE = 'p@ss "w\u00f6rd"/+x'
PLAIN = VALUE.encode()
HELD = {
    "plain": PLAIN,
    "hex": PLAIN.hex().encode(),
    "HEX": PLAIN.hex().upper().encode(),
    "percent": quote(VALUE, safe="").encode(),
    "percent in small letters": quote(VALUE, safe="").lower().encode(),
    "path": quote(VALUE).encode(),
    "form": quote_plus(VALUE).encode(),
    "JSON": json.dumps({"token": VALUE}).encode(),
    "UTF-16": VALUE.encode("utf-16-le"),
    "base64": base64.b64encode(PLAIN),
    "base64 behind one": base64.b64encode(b"u" + PLAIN),
    "base64 behind a user": base64.b64encode(b"user:" + PLAIN + b"\n"),
    "base64 for addresses": base64.urlsafe_b64encode(b"\xff\xfe" + PLAIN),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
async def test_a_value_in_a_file_is_found(held: bytes) -> None:
    layer = tar_of({"etc/a": os.urandom(70_000), "root/.netrc": b"x" + held + b"y", "b": os.urandom(5000)})
    wanted = [("TOKEN", Secret(VALUE)), ("OTHER", Secret("another-secret"))]
    assert await secrets_in(pieces(layer, 1000), wanted) == {"TOKEN"}


async def test_a_layer_without_one_is_clean() -> None:
    layer = tar_of({"a": os.urandom(200_000), "b": b"p@ss w\xc3\xb6rd" * 100})
    assert await secrets_in(pieces(layer), [("TOKEN", Secret(VALUE))]) == frozenset()
    assert await secrets_in(pieces(layer), []) == frozenset()


async def test_it_is_read_no_further_than_it_must() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield PLAIN + bytes(600_000)

    assert await secrets_in(endless(), [("TOKEN", Secret(VALUE))]) == {"TOKEN"}
    assert read < 5


@given(st.integers(0, 60), st.lists(st.integers(1, 7), min_size=1))
def test_a_value_is_found_wherever_the_pieces_end(before: int, cuts: list[int]) -> None:
    scan = SecretScan([("TOKEN", Secret(VALUE))])
    data = bytes(before) + PLAIN + bytes(20)
    at = n = 0
    while at < len(data):
        size = cuts[n % len(cuts)]
        scan.feed(data[at : at + size])
        at, n = at + size, n + 1
    assert scan.done


@given(st.text(min_size=8, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_base64_is_found_behind_and_before_anything(value: str, before: bytes, behind: bytes) -> None:
    scan = SecretScan([("S", Secret(value))])
    scan.feed(base64.b64encode(before + value.encode() + behind))
    assert scan.found == {"S"}


def test_a_form_that_is_too_short_is_not_searched_for() -> None:
    assert all(len(form) >= 6 for form in forms_of(Secret("abc")))
