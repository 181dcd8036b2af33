"""From the request to the end of its stream, whoever ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from auth.keys import KeyDirectory, KeyRing
from gateway.departure import ClientGone
from gateway.handshake import Handshake
from gateway.ownership import Ownership
from gateway.relay import Relay, RelayPolicy
from gateway.revocation import RunningRequests
from gateway.streaming import StreamingRelay
from router.retry import RetryBudget
from store.memory import MemoryStore
from store.records import Limits
from tests.fakes.backend import (
    COMPLETED,
    CREATED,
    DELTA,
    FakeCodex,
    FakeResponse,
    FakeTokens,
    Step,
    make_exchange,
    make_request,
)
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line
from tests.fakes.routing import pool_of
from tests.gateway.test_relay import Ear


class Door:
    """StreamingRelay round a loop with fakes."""

    def __init__(self, *steps: Step) -> None:
        self.clock = FakeClock()
        self.pool = pool_of(1, self.clock)
        self.codex = FakeCodex()
        self.response = FakeResponse(*steps)
        self.codex.answers.append(self.response)
        ownership = Ownership(self.pool.placements, MemoryStore(self.clock), self.clock)
        relay = Relay(
            pool=self.pool,
            tokens=FakeTokens().real(),
            codex=self.codex.real(),
            handshake=Handshake(0.0, self.clock),
            ownership=ownership,
            budget=RetryBudget(0.0, 0, self.clock),
            policy=RelayPolicy(3, 0.0),
            clock=self.clock,
            observer=Ear(),
        )
        self.running = RunningRequests(KeyDirectory(KeyRing(bytes(32)), Limits(), Limits()), self.clock)
        self.streaming = StreamingRelay(relay, ownership, self.running, 15.0, self.clock)
        self.line = Line()
        self.exchange = make_exchange()
        self.request = make_request()
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def answer(self) -> None:
        task = self.running.enter("k1")  # no such key any more: the next look ends it
        try:
            await self.streaming.answer(self.request, self.exchange, {}, self.receive, self.line.send)
        finally:
            self.running.leave(task)

    def nothing_is_left_upstream(self) -> bool:
        return self.response.closed and self.pool.snapshot().inflight == 0

    def nothing_is_left(self) -> bool:
        return self.nothing_is_left_upstream() and len(self.running) == 0


async def test_from_the_request_to_the_end() -> None:
    door = Door(CREATED, DELTA, COMPLETED)
    await door.answer()
    assert door.line.body == CREATED + DELTA + COMPLETED
    assert door.request.headers == []
    assert door.request.adapted.model == "", "the body is not kept while the stream runs"
    assert door.nothing_is_left()


async def test_a_client_that_leaves_stops_the_upstream_and_is_named() -> None:
    door = Door(CREATED, asyncio.Event())
    task = asyncio.create_task(door.answer())
    await door.response.asked.wait()
    door.left.set()
    with pytest.raises(ClientGone):
        await task
    assert door.exchange.end == "client_gone"
    assert door.nothing_is_left()


async def test_the_end_of_the_process_is_told_to_the_client_with_the_upstream_closed_first() -> None:
    door = Door(CREATED, asyncio.Event())
    task = asyncio.create_task(door.answer())
    await door.response.asked.wait()
    door.line.gate = asyncio.Event()
    task.cancel()
    await door.line.blocked.wait()
    assert door.nothing_is_left_upstream()
    door.line.gate.set()
    await task
    assert door.line.last["response"]["error"]["code"] == "draining"
    assert door.line.ended
    assert door.exchange.end == "draining"


async def test_a_cancellation_before_the_commit_passes_through() -> None:
    door = Door(asyncio.Event())
    task = asyncio.create_task(door.answer())
    await door.response.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert door.line.messages == []
    assert door.nothing_is_left()


async def test_a_terminal_event_that_could_not_go_down_any_more_is_followed_by_nothing() -> None:
    door = Door(CREATED, COMPLETED)
    task = asyncio.create_task(door.answer())
    door.line.gate = asyncio.Event()
    await door.line.blocked.wait()
    door.line.gate.set()
    door.line.gate = asyncio.Event()
    door.line.blocked.clear()
    while not door.response.ending:
        await door.line.blocked.wait()
        door.line.blocked.clear()
        if not door.response.ending:
            door.line.gate.set()
            door.line.gate = asyncio.Event()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert b"response." not in door.line.body.replace(b"response.created", b"")
    assert door.exchange.end == "completed"
    assert door.nothing_is_left()


async def test_a_key_that_is_revoked_ends_its_stream_honestly_with_the_upstream_closed_first() -> None:
    door = Door(CREATED, DELTA, asyncio.Event())
    task = asyncio.create_task(door.answer())
    await door.response.asked.wait()
    assert door.running.look() == 1
    await task
    assert door.line.last["response"]["error"]["code"] == "invalid_api_key"
    assert door.line.last["sequence_number"] == 2
    assert door.line.ended
    assert (door.exchange.end, door.exchange.error_code) == ("revoked", "invalid_api_key")
    assert door.nothing_is_left()
    assert task.cancelling() == 0
