"""An exchange by itself: buffer, deadlines, nudges, and what it says after its end."""

from __future__ import annotations

import asyncio

import pytest

from upstream.errors import FaultKind, UpstreamError
from upstream.exchange import HIGH_WATER, Exchange
from upstream.types import Timeouts

TIMEOUTS = Timeouts(connect_s=1, first_event_s=10, idle_s=20, total_s=100, write_s=5)


class Carrier:
    def __init__(self) -> None:
        self.abandoned = 0
        self.resumed = 0

    def abandon(self) -> None:
        self.abandoned += 1

    def resume_reading(self) -> None:
        self.resumed += 1


def started() -> tuple[Exchange, Carrier]:
    carrier = Carrier()
    return Exchange(carrier, TIMEOUTS, 1000.0), carrier


async def test_what_came_is_given_out_before_the_end_is_told() -> None:
    """All of it at once, then the error, again and again."""
    exchange, _ = started()
    exchange.arrived(b"a")
    exchange.arrived(b"b")
    exchange.end(UpstreamError(FaultKind.TRUNCATED))
    assert await exchange.read() == b"ab"
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await exchange.read()


def test_a_reader_that_is_behind_pauses_once_and_resumes_by_taking() -> None:
    """The carrier is told once in each direction."""
    exchange, carrier = started()
    assert not exchange.arrived(b"x" * HIGH_WATER)
    assert exchange.arrived(b"y")
    assert not exchange.arrived(b"z")
    assert len(exchange.take()) == HIGH_WATER + 2
    assert exchange.take() == b""
    assert carrier.resumed == 1


async def test_an_abort_is_told_once_and_ends_a_waiting_reader() -> None:
    """Nothing waits on a connection that is gone."""
    exchange, carrier = started()
    reading = asyncio.create_task(exchange.read())
    await asyncio.sleep(0)
    exchange.abort()
    exchange.abort()
    with pytest.raises(UpstreamError):
        await reading
    assert carrier.abandoned == 1


def test_an_abort_after_the_end_touches_nobody() -> None:
    """The connection may serve somebody else by then."""
    exchange, carrier = started()
    exchange.arrived(b"a")
    exchange.end(None)
    exchange.abort()
    assert carrier.abandoned == 0
    assert exchange.take() == b"a"
    assert exchange.complete


async def test_a_nudge_is_forgotten_when_a_new_wait_is_armed() -> None:
    """A late timer of an earlier wait does not end the next one."""
    exchange, _ = started()
    exchange.nudge()
    assert await exchange.read() is None
    exchange.nudge()
    exchange.nudge_at(2000.0)
    exchange.nudge_if_due(1999.0)
    exchange.arrived(b"a")
    assert await exchange.read() == b"a"
    exchange.nudge_if_due(2000.0)
    assert await exchange.read() is None


def kind(exchange: Exchange, now_s: float, unwritten: int = 0) -> FaultKind | None:
    error = exchange.overdue(now_s, unwritten)
    return None if error is None else error.kind


def test_deadlines_one_after_the_other() -> None:
    """First event and total from the start, idle from the last byte, write from the last progress."""
    exchange, _ = started()
    assert kind(exchange, 1009.9) is None
    assert kind(exchange, 1010.0) is FaultKind.FIRST_EVENT_TIMEOUT
    exchange.received = 5
    assert kind(exchange, 1010.0) is FaultKind.HEADER_TIMEOUT
    exchange.status = 200
    assert kind(exchange, 1010.0) is FaultKind.FIRST_EVENT_TIMEOUT
    exchange.first_event_seen()
    assert kind(exchange, 1019.0) is None
    exchange.heard = True
    assert kind(exchange, 1030.0) is None
    assert kind(exchange, 1049.9) is None
    assert kind(exchange, 1050.0) is FaultKind.IDLE
    assert kind(exchange, 1100.0) is FaultKind.BUDGET


def test_a_request_that_is_taken_slowly_is_not_stalled() -> None:
    """Only one that is not taken at all for the whole write time."""
    exchange, _ = started()
    assert kind(exchange, 1001.0, 100) is None
    assert kind(exchange, 1005.0, 99) is None
    assert kind(exchange, 1009.0, 99) is None
    exchange, _ = started()
    assert kind(exchange, 1001.0, 100) is None
    assert kind(exchange, 1006.0, 100) is FaultKind.FIRST_EVENT_TIMEOUT
