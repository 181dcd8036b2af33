"""The frames round every route: one id, one error shape, one observation; one place for keys; bounded work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from gateway.departure import ClientGone
from gateway.errors import GatewayError
from gateway.exchange import Exchange, exchange_of
from gateway.middleware import ClientAuth, Inflight, RequestContext
from store.records import Limits, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line, call, scope_of


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.crashes: list[Exception] = []

    def finished(self, exchange: Exchange) -> None:
        self.seen.append(exchange)

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        self.crashes.append(error)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    exchange = exchange_of(scope)
    exchange.status = 200
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok", "more_body": False})


def failing(error: BaseException, *, begun: bool = False) -> Callable[[Any, Any, Any], Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            exchange_of(scope).status = 200
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


# RequestContext


async def framed(app: Any) -> tuple[Line, Watcher]:
    watcher = Watcher()
    line = await call(RequestContext(app, FakeClock(), watcher), scope_of("GET", "/x"))
    assert len(watcher.seen) == 1, "each request is observed exactly once"
    return line, watcher


async def test_each_request_gets_an_id_of_its_own_and_its_start() -> None:
    clock, watcher = FakeClock(), Watcher()
    context = RequestContext(answer, clock, watcher)
    for _ in range(3):
        await call(context, scope_of("GET", "/x"))
    assert len({one.id for one in watcher.seen}) == 3
    assert watcher.seen[0].started_s == clock.monotonic_s()


async def test_a_refusal_is_told_in_our_shape_with_the_id_and_observed() -> None:
    line, watcher = await framed(failing(GatewayError.not_found()))
    (seen,) = watcher.seen
    assert (line.status, line.code) == (404, "not_found")
    assert line.headers[b"x-request-id"].decode() == seen.id
    assert (seen.status, seen.outcome, seen.error_code) == (404, "error", "not_found")


async def test_a_fault_of_our_own_is_a_500_that_tells_nothing() -> None:
    line, watcher = await framed(failing(ValueError("secret detail")))
    assert (line.status, line.code) == (500, "internal_error")
    assert b"secret detail" not in line.body
    assert [str(error) for error in watcher.crashes] == ["secret detail"]


async def test_a_client_that_left_gets_nothing_and_is_named() -> None:
    line, watcher = await framed(failing(ClientGone()))
    assert line.messages == []
    assert (watcher.seen[0].outcome, watcher.seen[0].status, watcher.seen[0].error_code) == ("client_gone", 499, None)


async def test_a_request_that_the_end_of_the_process_cancels_is_told_so() -> None:
    line, watcher = await framed(failing(asyncio.CancelledError()))
    assert (line.status, line.code) == (503, "draining")
    assert line.headers[b"connection"] == b"close"
    assert watcher.seen[0].error_code == "draining"


@pytest.mark.parametrize("error", [GatewayError.internal(), ValueError("x"), asyncio.CancelledError()])
async def test_into_an_answer_that_has_begun_nothing_is_written(error: BaseException) -> None:
    line, watcher = await framed(failing(error, begun=True))
    assert len(line.messages) == 1
    assert watcher.seen[0].status == 200
    assert watcher.seen[0].error_code is not None


async def test_a_client_that_left_after_the_head_keeps_its_status() -> None:
    _, watcher = await framed(failing(ClientGone(), begun=True))
    assert (watcher.seen[0].outcome, watcher.seen[0].status) == ("client_gone", 200)


async def test_what_is_no_http_request_is_passed_over() -> None:
    watcher = Watcher()
    await RequestContext(failing(AssertionError()), FakeClock(), watcher)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # nothing is called
    assert watcher.seen == []


# ClientAuth


class Gate:
    def __init__(self, *, keys: bool = True) -> None:
        ring = KeyRing(bytes(PEPPER_BYTES))
        self.directory = KeyDirectory(ring, Limits(), Limits())
        secret, record = ring.mint("t1", now_s=0.0)
        if keys:
            self.directory.load([record], [Tenant("t1", "t1")])
        self.key = b"Bearer " + secret.reveal().encode()
        self.watcher = Watcher()

    async def ask(self, *headers: tuple[bytes, bytes], path: str = "/v1/models", query: bytes = b"") -> Line:
        clock = FakeClock()
        auth = ClientAuth(answer, self.directory, clock, frozenset({"/healthz"}))
        return await call(RequestContext(auth, clock, self.watcher), scope_of("GET", path, headers, query))


async def test_a_valid_key_opens_and_the_caller_is_known() -> None:
    gate = Gate()
    assert (await gate.ask((b"authorization", gate.key))).status == 200
    (seen,) = gate.watcher.seen
    assert seen.caller is not None
    assert seen.caller.tenant_id == "t1"


async def test_a_key_counts_in_its_one_place_and_nowhere_else() -> None:
    gate = Gate()
    bare = gate.key.removeprefix(b"Bearer ")
    refused = [
        await gate.ask(),
        await gate.ask((b"x-api-key", bare)),
        await gate.ask((b"cookie", b"authorization=" + gate.key)),
        await gate.ask((b"proxy-authorization", gate.key)),
        await gate.ask((b"authorization", bare)),
        await gate.ask((b"authorization", b"Basic " + bare)),
        await gate.ask((b"authorization", gate.key), (b"authorization", gate.key)),
        await gate.ask((b"authorization", gate.key + b"x")),
        await gate.ask(query=b"api_key=" + bare),
    ]
    assert {(line.status, line.code) for line in refused} == {(401, "invalid_api_key")}
    assert len({line.body for line in refused}) == 1, "one answer for all of them"
    assert refused[0].headers[b"www-authenticate"] == b"Bearer"
    assert all(seen.caller is None for seen in gate.watcher.seen)


async def test_without_any_key_it_is_closed() -> None:
    gate = Gate(keys=False)
    line = await gate.ask((b"authorization", gate.key))
    assert (line.status, line.code) == (503, "not_configured")


@pytest.mark.parametrize("path", ["/healthz/", "/healthz/../v1/models", "//healthz", "/HEALTHZ", "/v1/models"])
async def test_open_paths_are_open_as_they_are_written_and_nothing_near_them(path: str) -> None:
    assert (await Gate().ask(path="/healthz")).status == 200
    assert (await Gate().ask(path=path)).status == 401


# Inflight


class Crowd:
    """Requests that stay in work until let go."""

    def __init__(self, limit: int = 2) -> None:
        self.gate = asyncio.Event()
        self.shed: list[str] = []
        self.full = False
        self.frame = Inflight(self.work, limit, self.shed.append, lambda: self.full)

    async def work(self, scope: Any, receive: Any, send: Any) -> None:
        await self.gate.wait()

    async def enter(self, path: str = "/v1/responses") -> asyncio.Task[None]:
        task = asyncio.create_task(self.frame(scope_of("POST", path), None, None))  # type: ignore[arg-type]  # nobody reads
        await asyncio.sleep(0)
        return task

    async def refusal(self) -> str:
        with pytest.raises(GatewayError) as caught:
            await (await self.enter())
        assert caught.value.retry_after_s
        return caught.value.code


async def test_above_the_bound_a_request_is_shed_and_room_is_given_back() -> None:
    crowd = Crowd()
    tasks = [await crowd.enter() for _ in range(2)]
    assert crowd.frame.count == 2
    assert await crowd.refusal() == "overloaded"
    assert crowd.shed == ["inflight"]
    crowd.gate.set()
    await asyncio.gather(*tasks)
    assert crowd.frame.count == 0
    await (await crowd.enter())


async def test_room_is_given_back_by_errors_and_cancellations_too() -> None:
    crowd = Crowd()
    task = await crowd.enter()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert crowd.frame.count == 0


async def test_while_draining_the_running_go_on_and_new_ones_are_refused() -> None:
    crowd = Crowd()
    running = await crowd.enter()
    crowd.frame.draining = True
    assert await crowd.refusal() == "draining"
    assert crowd.shed == ["draining"]
    assert not running.done()
    crowd.gate.set()
    await running


async def test_while_the_audit_log_can_take_no_more_nothing_begins() -> None:
    crowd = Crowd()
    crowd.full = True
    assert await crowd.refusal() == "store_unavailable"
    assert crowd.shed == ["audit_full"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_an_operators_look_is_answered_whatever_the_state(path: str) -> None:
    crowd = Crowd(limit=0)
    crowd.frame.draining = crowd.full = True
    crowd.gate.set()
    await (await crowd.enter(path))
    assert crowd.shed == []
