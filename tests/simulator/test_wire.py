"""Bodies: what is read, what is decoded, and where the cap is."""

from __future__ import annotations

import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from ops.simulator import wire


@given(st.binary(max_size=2_000))
def test_what_was_encoded_decodes(body: bytes) -> None:
    packed = {"": body, "Identity": body, "zstd": zstandard.compress(body), " gzip": gzip.compress(body)}
    for encoding, data in packed.items():
        assert wire.decode_body(data, encoding, 2_000) == body


@given(st.binary(max_size=200), st.sampled_from(["zstd", "gzip"]))
def test_noise_is_refused_and_never_more_than_the_cap(body: bytes, encoding: str) -> None:
    try:
        decoded = wire.decode_body(body, encoding, 100)
    except wire.BadBody:
        return
    assert len(decoded) <= 100


async def test_a_departure_while_the_body_is_read_is_said() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(wire.Gone):
        await wire.read_body(receive, 100)


async def test_work_that_fails_is_not_hidden_by_the_watch() -> None:
    """An error in what is waited for comes out, and is not taken for a departure."""

    async def never() -> Message:
        import asyncio

        await asyncio.Event().wait()
        raise AssertionError

    async def broken() -> None:
        raise LookupError("broken")

    async with wire.departure(never) as watch:
        with pytest.raises(LookupError):
            await wire.first_of(watch, broken())
