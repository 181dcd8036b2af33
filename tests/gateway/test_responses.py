"""What a call passes on its way in, and that all of it is given back however the call ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from auth.limits import CallerLimits
from auth.types import Caller
from gateway.adapt import Mode
from gateway.departure import ClientGone
from gateway.errors import GatewayError
from gateway.exchange import SCOPE_KEY, Exchange
from gateway.idempotency import IdempotencyGate
from gateway.models import ModelTable
from gateway.parse import RequestParser
from gateway.protocol import CUT_KEY
from gateway.responses import Gates, ResponsesEndpoint
from gateway.revocation import RunningRequests
from gateway.types import RelayRequest
from store.counters import LocalCounters, LocalStreams
from store.records import Limits
from tests.fakes.backend import make_caller, make_exchange
from tests.fakes.clock import FakeClock
from tests.fakes.line import call, scope_of
from tests.fakes.records import make_key, make_tenant

BODY: dict[str, Any] = {"model": "gpt-5.4", "input": "hello", "stream": True}
Work = Callable[[Exchange], Awaitable[None]]


async def serve(exchange: Exchange) -> None:
    exchange.status = 200


class Answerer:
    """Stands for both ways of answering; ``work`` is what it does."""

    def __init__(self) -> None:
        self.work: Work = serve
        self.calls: list[RelayRequest] = []

    async def answer(self, request: RelayRequest, exchange: Exchange, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append(request)
        await self.work(exchange)


class Desk:
    def __init__(self, limits: Limits | None = None) -> None:
        self.clock = FakeClock()
        self.keys = KeyDirectory(KeyRing(bytes(PEPPER_BYTES)), Limits(), Limits())
        self.keys.load([make_key("k1", "t1", expires_at_s=None)], [make_tenant("t1", enabled=True)])
        self.running = RunningRequests(self.keys, self.clock)
        self.idempotency = IdempotencyGate(self.clock)
        self.streams = LocalStreams("me")
        self.shed: list[str] = []
        gates = Gates(
            CallerLimits(LocalCounters(self.clock), self.streams, self.clock),
            self.idempotency,
            self.running,
            self.shed.append,
        )
        self.streaming, self.whole = Answerer(), Answerer()
        parser = RequestParser(ModelTable(), frozenset, Mode.RELAXED, 10_000, 60.0)
        self.endpoint = ResponsesEndpoint(parser, gates, cast("Any", self.streaming), cast("Any", self.whole))
        self.caller: Caller = make_caller(key_limits=limits or Limits())
        self.exchange = make_exchange(route="none", caller=self.caller)
        self.scope: dict[str, Any] = {}

    async def ask(self, *headers: tuple[bytes, bytes], method: str = "POST", **body: Any) -> Exchange:
        self.exchange = make_exchange(route="none", caller=self.caller)
        self.scope = {**scope_of(method, "/v1/responses", headers), SCOPE_KEY: self.exchange}
        await call(self.endpoint, self.scope, json.dumps({**BODY, **body}).encode())
        return self.exchange

    async def refusal(self, *headers: tuple[bytes, bytes], method: str = "POST", **body: Any) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.ask(*headers, method=method, **body)
        return caught.value

    def nothing_is_held(self) -> bool:
        return len(self.running) == 0


async def test_streams_and_whole_answers_go_their_own_ways_and_the_exchange_is_filled_in() -> None:
    desk = Desk()
    exchange = await desk.ask(user="me")
    assert (exchange.route, exchange.model, exchange.stream) == ("responses", "gpt-5.4", True)
    assert "dropped:user" in exchange.adaptations
    assert not (await desk.ask(stream=False)).stream
    assert (len(desk.streaming.calls), len(desk.whole.calls)) == (1, 1)
    assert desk.nothing_is_held()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused_before_anything_is_read(method: str) -> None:
    error = await Desk().refusal(method=method)
    assert (error.status, error.allow) == (405, "POST")


async def test_a_websocket_upgrade_is_answered_426_so_that_the_client_falls_back() -> None:
    error = await Desk().refusal((b"upgrade", b"WebSocket"), method="GET")
    assert error.status == 426
    assert (await Desk().refusal((b"upgrade", b"h2c"), method="GET")).status == 405


async def test_a_key_without_the_scope_may_not_relay() -> None:
    desk = Desk()
    desk.caller = make_caller(scopes=frozenset({"metrics"}))
    assert (await desk.refusal()).status == 403
    assert desk.streaming.calls == []


async def test_a_bad_body_holds_nothing() -> None:
    desk = Desk(Limits(None, 1))
    assert (await desk.refusal((b"idempotency-key", b"one"), input=7)).status == 400
    assert len(desk.idempotency) == 0
    await desk.ask((b"idempotency-key", b"one"))


async def failing(error: BaseException, status: int = 0) -> Work:
    async def work(exchange: Exchange) -> None:
        exchange.status = status
        raise error

    return work


@pytest.mark.parametrize(
    "error", [GatewayError.overloaded(), ClientGone(), ValueError("ours"), asyncio.CancelledError()]
)
async def test_places_under_limits_are_given_back_however_it_ends(error: BaseException) -> None:
    desk = Desk(Limits(None, 1))
    desk.streaming.work = await failing(error)
    for _ in range(3):
        with pytest.raises(type(error)):
            await desk.ask()
    assert desk.nothing_is_held()
    assert desk.shed == []


async def test_above_its_limits_a_caller_is_refused_and_told_how_it_stands() -> None:
    desk = Desk(Limits(2, None))
    for _ in range(2):
        await desk.ask()
    error = await desk.refusal()
    assert (error.status, error.code) == (429, "rate_limited")
    assert dict(desk.exchange.extra_headers)[b"x-ratelimit-limit-requests"] == b"2"
    assert desk.shed == ["rate_limited"]


async def test_too_many_at_once_are_refused_and_their_idempotency_key_is_free_again() -> None:
    desk = Desk(Limits(None, 1))
    inside: list[GatewayError] = []

    async def work(exchange: Exchange) -> None:
        exchange.status = 200
        inside.append(await desk.refusal((b"idempotency-key", b"two")))

    desk.streaming.work = work
    await desk.ask()
    assert [error.code for error in inside] == ["rate_limited"]
    assert desk.shed == ["too_many_streams"]
    desk.streaming.work = serve
    await desk.ask((b"idempotency-key", b"two"))


async def test_an_idempotency_key_is_kept_by_an_answer_and_freed_by_a_failure() -> None:
    desk = Desk()
    desk.streaming.work = await failing(GatewayError.overloaded())
    assert (await desk.refusal((b"idempotency-key", b"one"))).code == "overloaded"
    desk.streaming.work = serve
    await desk.ask((b"idempotency-key", b"one"))
    assert (await desk.refusal((b"idempotency-key", b"one"))).status == 409
    assert len(desk.streaming.calls) == 2


async def test_two_idempotency_keys_are_none() -> None:
    desk = Desk()
    error = await desk.refusal((b"idempotency-key", b"one"), (b"idempotency-key", b"two"))
    assert error.status == 400


async def test_a_connection_that_was_cut_names_the_end_of_its_stream() -> None:
    desk = Desk()

    async def work(exchange: Exchange) -> None:
        exchange.end = "client_gone"
        desk.scope[CUT_KEY] = "client_stalled"
        raise ClientGone

    desk.streaming.work = work
    with pytest.raises(ClientGone):
        await desk.ask()
    assert desk.exchange.end == "client_stalled"


async def waiting(exchange: Exchange) -> None:
    await asyncio.Event().wait()


async def test_a_key_revoked_before_the_answer_has_begun_is_a_401() -> None:
    desk = Desk()
    desk.streaming.work = waiting
    task = asyncio.create_task(desk.ask())
    while not desk.streaming.calls:
        await asyncio.sleep(0)
    desk.keys.load([], [])
    assert desk.running.look() == 1
    with pytest.raises(GatewayError) as caught:
        await task
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert desk.nothing_is_held()


async def test_the_end_of_the_process_is_no_revocation() -> None:
    desk = Desk()
    desk.streaming.work = waiting
    task = asyncio.create_task(desk.ask())
    while not desk.streaming.calls:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert desk.nothing_is_held()
