"""The bytes of an answer: one framing for each kind, and no field that could split a head."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl

from gateway.cycle import Bell, RelayCycle
from tests.fakes.line import scope_of
from tests.gateway.test_outlet import Wire


class Answer:
    """One cycle over a wire that keeps the bytes."""

    def __init__(self, method: str = "POST", *, keep_alive: bool = True) -> None:
        self.wire = Wire()
        self.closed = 0
        self.wire.close = self._close  # type: ignore[method-assign]  # a transport without a socket
        self.done: list[bool] = []
        logger = logging.getLogger("test")
        self.cycle = RelayCycle(
            scope=cast("Any", scope_of(method, "/x")),
            transport=self.wire,
            flow=FlowControl(self.wire),
            logger=logger,
            access_logger=logger,
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=lambda: self.done.append(True),
        )

    def _close(self) -> None:
        self.closed += 1

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        await self.cycle.send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def send(self, body: bytes, *, more: bool = False) -> None:
        await self.cycle.send({"type": "http.response.body", "body": body, "more_body": more})

    @property
    def head(self) -> bytes:
        return self.wire.writes[0]

    @property
    def body(self) -> bytes:
        return b"".join(self.wire.writes[1:])


async def test_a_stream_is_framed_in_chunks_and_ended_once() -> None:
    answer = Answer()
    await answer.start((b"content-type", b"text/event-stream"))
    await answer.send(b"a" * 17, more=True)
    await answer.send(b"", more=True)
    await answer.send(b"bc")
    assert answer.head == (
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert answer.wire.writes[1:] == [b"11\r\n" + b"a" * 17 + b"\r\n", b"2\r\nbc\r\n0\r\n\r\n"]
    assert answer.done == [True]
    assert answer.cycle.response_complete
    assert answer.closed == 0


async def test_an_empty_piece_in_mid_stream_writes_no_chunk_for_it_would_end_the_body() -> None:
    answer = Answer()
    await answer.start()
    await answer.send(b"", more=True)
    assert answer.body == b""
    await answer.send(b"")
    assert answer.body == b"0\r\n\r\n"


@given(st.lists(st.binary(max_size=70), max_size=8))
async def test_what_is_sent_is_what_a_reader_of_chunks_gets(pieces: list[bytes]) -> None:
    answer = Answer()
    await answer.start()
    for piece in pieces:
        await answer.send(piece, more=True)
    await answer.send(b"")
    assert dechunked(answer.body) == b"".join(pieces)


def dechunked(data: bytes) -> bytes:
    out = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert data == b"\r\n", "bytes behind the last chunk"
            return out
        out += data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]


async def test_a_body_of_known_length_is_not_chunked() -> None:
    answer = Answer()
    await answer.start((b"content-length", b"2"))
    await answer.send(b"ok")
    assert b"chunked" not in answer.head
    assert answer.body == b"ok"
    assert answer.done == [True]


async def test_a_body_longer_or_shorter_than_announced_is_a_fault_of_ours() -> None:
    for body in (b"long", b"x"):
        answer = Answer()
        await answer.start((b"content-length", b"2"))
        with pytest.raises(RuntimeError):
            await answer.send(body)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("POST", 304)])
async def test_an_answer_that_may_have_no_body_has_no_framing_and_none(method: str, status: int) -> None:
    answer = Answer(method)
    await answer.start(status=status)
    await answer.send(b"")
    assert b"transfer-encoding" not in answer.head
    assert answer.body == b""
    assert answer.done == [True]


async def test_the_body_of_an_answer_to_head_stays_here() -> None:
    answer = Answer("HEAD")
    await answer.start((b"content-length", b"5"))
    await answer.send(b"hello")
    assert b"content-length: 5" in answer.head
    assert answer.body == b""
    assert answer.done == [True]


@pytest.mark.parametrize("part", ["name", "value"])
@pytest.mark.parametrize("bad", [b"\r\n", b"\n", b"\r", b"\0", b"a\r\nset-cookie: x", b"\r\n\r\n"])
async def test_a_field_that_would_split_the_head_is_refused_and_nothing_goes_down(part: str, bad: bytes) -> None:
    answer = Answer()
    field = (b"x-a" + bad, b"1") if part == "name" else (b"x-a", b"1" + bad + b"2")
    with pytest.raises(RuntimeError, match="line end"):
        await answer.start((b"x-b", b"1"), field)
    assert answer.wire.writes == []


@pytest.mark.parametrize("by_field", [True, False])
async def test_a_connection_that_ends_with_the_answer_says_so_once_and_ends(by_field: bool) -> None:
    answer = Answer(keep_alive=by_field)
    await answer.start(*([(b"connection", b"Close")] if by_field else []))
    await answer.send(b"x")
    assert answer.head.count(b"connection: close\r\n") == 1
    assert answer.head.lower().count(b"connection") == 1
    assert answer.closed == 1


async def test_to_a_client_that_is_gone_nothing_is_written() -> None:
    answer = Answer()
    await answer.start()
    answer.cycle.disconnected = True
    await answer.send(b"x", more=True)
    assert len(answer.wire.writes) == 1


async def test_a_client_that_takes_nothing_is_waited_for() -> None:
    answer = Answer()
    await answer.start()
    answer.cycle.flow.pause_writing()
    task = asyncio.create_task(answer.send(b"x", more=True))
    await asyncio.sleep(0)
    assert not task.done()
    assert answer.body == b""
    answer.cycle.flow.resume_writing()
    await task
    assert answer.body == b"1\r\nx\r\n"


async def test_messages_out_of_turn_are_faults_of_ours() -> None:
    answer = Answer()
    with pytest.raises(RuntimeError):
        await answer.send(b"x")
    await answer.start()
    await answer.send(b"x")
    with pytest.raises(RuntimeError):
        await answer.send(b"again")


async def test_a_bell_wakes_its_waiter_and_stays_rung_until_it_is_cleared() -> None:
    """As an event does, for one waiter; a waiter that gives up takes nothing with it."""
    bell = Bell()
    waiting = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    bell.set()
    bell.set()
    assert bell.is_set()
    assert await bell.wait()
    bell.clear()
    again = asyncio.create_task(bell.wait())
    await asyncio.sleep(0)
    assert not again.done()
    bell.set()
    assert await again
