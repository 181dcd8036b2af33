"""One committed stream: order, bytes, heartbeats, honest ends; the account is given back exactly once."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Exchange
from gateway.ownership import Ownership
from gateway.relay import OpenedStream
from gateway.streaming import HEARTBEAT, Pump, relay_headers
from gateway.types import Dialect
from router.pool import AccountPool
from router.types import RouteQuery
from store.memory import MemoryStore
from tests.fakes.backend import (
    COMPLETED,
    CREATED,
    DELTA,
    FakeResponse,
    Step,
    event,
    make_exchange,
    make_request,
)
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line
from tests.fakes.routing import MODEL, pool_of
from upstream.errors import FaultKind, UpstreamError

INCOMPLETE = event("response.incomplete", sequence_number=2, response='{"status":"incomplete"}')
FAILED = event("response.failed", sequence_number=2, response='{"error":{"code":"server_error","message":"m"}}')


class Bench:
    """One committed stream on a real lease."""

    def __init__(self, *steps: Step, held: bytes = CREATED, dialect: Dialect = Dialect.SDK) -> None:
        self.clock = FakeClock()
        self.pool: AccountPool = pool_of(1, self.clock)
        self.response = FakeResponse(*steps)
        self.line = Line()
        self.exchange: Exchange = make_exchange(attempts=1)
        lease = self.pool.lease(RouteQuery(MODEL))
        self.opened = OpenedStream(lease, self.response.real(), held, make_request(dialect=dialect))
        ownership = Ownership(self.pool.placements, MemoryStore(self.clock), self.clock)
        self.pump = Pump(self.opened, self.exchange, ownership, self.clock)

    async def run(self) -> Bench:
        try:
            await self.pump.run(self.line.send, 15.0)
        finally:
            self.pump.settle()
        return self

    @property
    def strikes(self) -> int:
        explained = self.pool.explain("a0")
        assert explained is not None
        return explained.failures or 0


async def test_blocks_go_down_as_they_came_and_the_end_comes_with_the_terminal_event() -> None:
    bench = await Bench(DELTA, COMPLETED).run()
    assert bench.line.pieces == [CREATED, DELTA, COMPLETED]
    assert bench.line.ended
    assert (bench.exchange.end, bench.exchange.status, bench.exchange.error_code) == ("completed", 200, None)
    assert bench.exchange.usage is not None
    assert bench.exchange.usage.input_tokens == 7
    assert (bench.exchange.events, bench.exchange.bytes_out) == (3, len(CREATED + DELTA + COMPLETED))
    assert bench.response.ending
    assert bench.response.closed
    assert bench.pool.snapshot().inflight == 0


@given(st.lists(st.sampled_from([DELTA, CREATED + DELTA, b": c\n\n", DELTA * 3]), max_size=6), st.integers(0, 3))
async def test_what_goes_down_is_what_came_up_however_it_was_cut(blocks: list[bytes], silent: int) -> None:
    steps: list[Step] = [*blocks]
    for n in range(silent):
        steps.insert(n * 2, None)
    bench = await Bench(*steps, COMPLETED).run()
    assert (
        b"".join(p for p in bench.line.pieces if p != HEARTBEAT[Dialect.SDK]) == CREATED + b"".join(blocks) + COMPLETED
    )
    assert bench.line.pieces.count(HEARTBEAT[Dialect.SDK]) == silent
    assert bench.line.ended


@pytest.mark.parametrize("dialect", Dialect)
async def test_a_heartbeat_of_the_clients_kind_fills_silence_between_events(dialect: Dialect) -> None:
    bench = await Bench(None, DELTA, None, COMPLETED, dialect=dialect).run()
    beat = HEARTBEAT[dialect]
    assert bench.line.pieces == [CREATED, beat, DELTA, beat, COMPLETED]
    assert bench.response.waits[0] == 15.0
    assert bench.exchange.events == 3, "a heartbeat is no event of the upstream"


def test_a_heartbeat_is_skipped_by_every_client() -> None:
    assert HEARTBEAT[Dialect.SDK].startswith(b":")
    assert b'"type":"keepalive"' in HEARTBEAT[Dialect.CODEX]
    assert all(beat.endswith(b"\n\n") for beat in HEARTBEAT.values())


async def test_what_has_come_behind_the_terminal_event_goes_down_in_the_same_message() -> None:
    bench = await Bench(COMPLETED, b": bye\n\n", b"data: [DONE]\n\n").run()
    assert bench.line.pieces == [CREATED, COMPLETED + b": bye\n\ndata: [DONE]\n\n"]
    assert bench.line.ended


async def test_a_connection_that_breaks_behind_the_terminal_event_is_nobodys_concern() -> None:
    bench = await Bench(COMPLETED, UpstreamError(FaultKind.LOST)).run()
    assert (bench.exchange.end, bench.strikes) == ("completed", 0)
    assert bench.line.body.count(b"response.failed") == 0


async def test_a_terminal_event_in_the_held_block_ends_it_at_once() -> None:
    bench = await Bench(DELTA, held=CREATED + COMPLETED).run()
    assert bench.line.pieces == [CREATED + COMPLETED + DELTA]


@pytest.mark.parametrize(
    ("last", "end"), [(COMPLETED, "completed"), (INCOMPLETE, "incomplete"), (FAILED, "upstream_failed")]
)
async def test_the_end_is_what_the_upstream_said(last: bytes, end: str) -> None:
    bench = await Bench(DELTA, last).run()
    assert bench.exchange.end == end
    assert bench.line.body.endswith(last), "the upstream's own failure goes down as it is, without one of ours"
    assert bench.line.body.count(b"event: response.failed") == (end == "upstream_failed")


@pytest.mark.parametrize(
    ("death", "code", "end", "strikes"),
    [
        (UpstreamError(FaultKind.TRUNCATED), "upstream_stream_truncated", "truncated", 1),
        (UpstreamError(FaultKind.LOST), "upstream_stream_truncated", "truncated", 1),
        (UpstreamError(FaultKind.IDLE), "upstream_idle_timeout", "idle", 0),
        (UpstreamError(FaultKind.EVENT_TOO_LARGE), "event_too_large", "event_too_large", 0),
        (UpstreamError(FaultKind.BUDGET), "stream_budget_exceeded", "budget", 0),
        (UpstreamError(FaultKind.PROTOCOL), "upstream_protocol_error", "protocol_error", 0),
        (None, "upstream_stream_truncated", "truncated", 1),
    ],
)
async def test_a_stream_that_dies_gets_one_failed_event_with_the_next_number(
    death: UpstreamError | None, code: str, end: str, strikes: int
) -> None:
    steps: list[Step] = [DELTA] if death is None else [DELTA, death]
    bench = await Bench(*steps).run()
    assert bench.line.last["type"] == "response.failed"
    assert bench.line.last["sequence_number"] == 2
    assert bench.line.last["response"]["error"]["code"] == code
    assert bench.line.ended
    assert b"response.completed" not in bench.line.body
    assert (bench.exchange.error_code, bench.exchange.end) == (code, end)
    assert bench.strikes == strikes


async def test_without_any_number_the_failed_event_is_number_zero() -> None:
    bench = await Bench(UpstreamError(FaultKind.IDLE), held=event("response.output_text.delta")).run()
    assert bench.line.last["sequence_number"] == 0


@pytest.mark.parametrize(
    ("numbers", "disordered"),
    [([0, 1, 2], False), ([5, 6, 7], False), ([0, 2], True), ([0, 1, 1], True), ([1, 0], True), ([0], False)],
)
@pytest.mark.parametrize("cut", [False, True], ids=["one block", "a block each"])
async def test_numbers_out_of_order_are_noticed_and_never_changed(
    numbers: list[int], disordered: bool, cut: bool
) -> None:
    events = [event("response.output_text.delta", sequence_number=n) for n in numbers]
    last = event("response.completed", sequence_number=numbers[-1] + 1, response="{}")
    held, *rest = events if cut else [b"".join(events)]
    bench = await Bench(*rest, last, held=held).run()
    assert bench.exchange.disordered is disordered
    assert bench.line.body == b"".join(events) + last


async def test_sealed_parts_are_learned_on_their_way_down() -> None:
    item = '{"type":"reasoning","encrypted_content":"sealed"}'
    bench = await Bench(event("response.output_item.done", sequence_number=1, item=item), COMPLETED).run()
    assert bench.pool.placements.sizes()[1] == 1


async def test_the_body_is_let_go_and_held_bytes_are_not_kept() -> None:
    bench = await Bench(COMPLETED).run()
    assert bench.opened.held == b""


async def test_the_head_says_who_served_and_is_never_buffered_by_a_proxy() -> None:
    bench = Bench(COMPLETED)
    bench.exchange.account_id, bench.exchange.moved = "a0", True
    bench.exchange.adaptations = ("store_false", "dropped:user")
    bench.exchange.extra_headers = ((b"x-ratelimit-limit-requests", b"5"),)
    bench.response.headers = [(b"x-codex-turn-state", b"s")]
    await bench.run()
    head = dict(bench.line.messages[0]["headers"])
    assert bench.line.messages[0]["status"] == 200
    assert head[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert head[b"x-accel-buffering"] == b"no"
    assert head[b"x-relay-account"] == b"a0"
    assert head[b"x-relay-moved"] == b"1"
    assert head[b"x-relay-attempts"] == b"1"
    assert head[b"x-relay-adapted"] == b"store_false, dropped:user"
    assert (head[b"x-codex-turn-state"], head[b"x-ratelimit-limit-requests"]) == (b"s", b"5")


def test_a_plain_answer_says_only_its_id_and_its_attempts() -> None:
    assert dict(relay_headers(make_exchange(attempts=3))) == {b"x-request-id": b"req_1", b"x-relay-attempts": b"3"}


async def test_the_next_block_is_not_read_before_the_last_one_was_taken() -> None:
    bench = Bench(DELTA, COMPLETED)
    bench.line.gate = asyncio.Event()
    task = asyncio.create_task(bench.run())
    await bench.line.blocked.wait()
    assert bench.response.waits == [], "a slow reader slows the upstream"
    bench.line.gate.set()
    await task
    assert bench.line.ended


async def test_settling_twice_gives_back_once_and_keeps_the_first_verdict() -> None:
    bench = await Bench(DELTA).run()
    bench.pump.settle()
    assert (bench.pool.snapshot().inflight, bench.strikes) == (0, 1)
    assert bench.exchange.end == "truncated"


@pytest.mark.parametrize("where", ["waiting for the upstream", "waiting for the client"])
async def test_a_cancellation_in_mid_stream_closes_the_upstream_and_blames_nobody(where: str) -> None:
    bench = Bench(asyncio.Event())
    if where == "waiting for the client":
        bench.line.gate = asyncio.Event()
    task = asyncio.create_task(bench.run())
    await (bench.line.blocked if bench.line.gate else bench.response.asked).wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.response.closed
    assert (bench.pool.snapshot().inflight, bench.strikes, bench.exchange.end) == (0, 0, "client_gone")


async def test_a_stream_whose_terminal_event_went_down_has_ended_as_that_says() -> None:
    bench = await Bench(COMPLETED).run()
    bench.pump.cut("client_gone")
    bench.pump.settle()
    assert bench.exchange.end == "completed"
