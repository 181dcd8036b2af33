"""The guard judges heads without a server, and read_body stops at the limit."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.departure import ClientGone
from gateway.errors import GatewayError
from gateway.guard import Guard, Scope, read_body, values_of


async def nothing(scope: Scope, receive: Any, send: Any) -> None:
    """An application that answers nothing."""


GUARD = Guard(nothing, max_headers=20, max_header_bytes=2000, max_body_bytes=1000, max_uri_bytes=100)
CLEAN = [
    (b"host", b"gateway.test:8080"),
    (b"authorization", b"Bearer at-cr-x-y"),
    (b"content-type", b"application/json"),
    (b"user-agent", b"OpenAI/Python 2.0"),
    (b"content-length", b"900"),
]


def scope(headers: list[tuple[bytes, bytes]], **other: Any) -> dict[str, Any]:
    base = {"type": "http", "http_version": "1.1", "method": "POST", "raw_path": b"/v1", "query_string": b""}
    return base | {"headers": headers} | other


def status(headers: list[tuple[bytes, bytes]], **other: Any) -> int | None:
    error = GUARD.fault(scope(headers, **other))
    if error is None:
        return None
    assert error.close
    return error.status


@pytest.mark.parametrize(
    ("headers", "other", "expected"),
    [
        (CLEAN, {}, None),
        (CLEAN[1:], {}, 400),
        (CLEAN[1:], {"http_version": "1.0"}, None),
        ([*CLEAN, (b"host", b"x")], {}, 400),
        ([(b"host", b"x/y"), *CLEAN[1:]], {}, 400),
        ([(b"host", b"[::1]:80"), *CLEAN[1:]], {}, None),
        ([*CLEAN, (b"transfer-encoding", b"chunked")], {}, 400),
        ([*CLEAN[:4], (b"transfer-encoding", b"Chunked ")], {}, None),
        ([*CLEAN[:4], (b"transfer-encoding", b"chunked")], {"http_version": "1.0"}, 400),
        ([*CLEAN[:4], (b"transfer-encoding", b"gzip")], {}, 400),
        ([*CLEAN[:4], (b"content-length", b"1001")], {}, 413),
        ([*CLEAN[:4], (b"content-length", b"9" * 30)], {}, 400),
        ([*CLEAN[:4], (b"content-length", b"1_0")], {}, 400),
        ([*CLEAN, (b"content-length", b"900")], {}, 400),
        ([*CLEAN, (b"x", b"1")] + [(b"y%d" % i, b"") for i in range(20)], {}, 431),
        ([*CLEAN, (b"x", b"1" * 2000)], {}, 431),
        ([*CLEAN, (b"x y", b"1")], {}, 400),
        ([*CLEAN, (b"", b"1")], {}, 400),
        ([*CLEAN, (b"x", b"1\r\n2")], {}, 400),
        ([*CLEAN, (b"x", b"1\x002")], {}, 400),
        ([*CLEAN, (b"x", b"caf\xc3\xa9\t")], {}, None),
        ([*CLEAN, (b"upgrade", b"h2c")], {}, 400),
        ([*CLEAN[:4], (b"upgrade", b"websocket")], {"method": "GET"}, None),
        (CLEAN, {"raw_path": b"/" * 90, "query_string": b"x" * 11}, 414),
    ],
)
def test_a_head_is_judged(headers: list[tuple[bytes, bytes]], other: dict[str, Any], expected: int | None) -> None:
    assert status(headers, **other) == expected


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=6))
def test_no_control_character_ever_passes(extra: list[tuple[bytes, bytes]]) -> None:
    if GUARD.fault(scope([*CLEAN, *extra])) is None:
        for name, value in extra:
            assert name
            assert not any(byte <= 0x20 or byte >= 0x7F for byte in name)
            assert not any((byte < 0x20 and byte != 9) or byte == 0x7F for byte in value)


async def test_a_refusal_never_reaches_the_application_and_other_scopes_always_do() -> None:
    seen: list[str] = []
    sent: list[Any] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    guard = Guard(app, max_headers=20, max_header_bytes=2000, max_body_bytes=1000)
    await guard(scope(CLEAN[1:]), receive, send)
    assert seen == []
    assert sent[0]["status"] == 400
    await guard({"type": "lifespan"}, receive, send)
    await guard(scope(CLEAN), receive, send)
    assert seen == ["lifespan", "http"]


def test_a_clean_head_costs_microseconds() -> None:
    clean = scope([*CLEAN, *((b"x-stainless-%d" % i, b"value") for i in range(9))])
    best = min(cost(clean) for _ in range(5))
    assert best < 30e-6  # about 3 on an idle machine; the bound only catches a change of kind


def cost(clean: dict[str, Any]) -> float:
    started_s = time.process_time()
    for _ in range(1000):
        GUARD.fault(clean)
    return (time.process_time() - started_s) / 1000


def receiver(*messages: dict[str, Any]) -> Any:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    return receive


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_in_pieces_is_joined() -> None:
    assert await read_body(receiver(part(b"ab"), part(b""), part(b"c", more=False)), 3) == b"abc"
    whole = b"abc"
    assert await read_body(receiver(part(whole, more=False)), 3) is whole


@pytest.mark.fault("B48")
@pytest.mark.parametrize("parts", [[part(b"abcd", more=False)], [part(b"ab"), part(b"cd")]])
async def test_a_body_over_the_limit_is_refused_before_its_end(parts: list[dict[str, Any]]) -> None:
    with pytest.raises(GatewayError) as caught:
        await read_body(receiver(*parts), 3)
    assert caught.value.status == 413
    assert caught.value.close


@pytest.mark.parametrize("parts", [[], [part(b"ab")]])
async def test_a_client_that_leaves_in_the_middle_of_the_body_is_gone(parts: list[dict[str, Any]]) -> None:
    with pytest.raises(ClientGone):
        await read_body(receiver(*parts, {"type": "http.disconnect"}), 3)


def test_values_of_a_field_come_in_order() -> None:
    assert values_of([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")], b"a") == [b"1", b"3"]
