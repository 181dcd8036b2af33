"""What the gateway says of itself: lists with etags, health, readiness with a reason, metrics behind a scope."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.exchange import SCOPE_KEY, Exchange, exchange_of
from gateway.info import HealthEndpoint, MetricsEndpoint, ReadyEndpoint, reply
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from tests.fakes.backend import make_caller, make_exchange
from tests.fakes.clock import FakeClock
from tests.fakes.line import App, Line, call, scope_of


def scope(method: str = "GET", *headers: tuple[bytes, bytes], exchange: Exchange | None = None) -> dict[str, Any]:
    return {**scope_of(method, "/x", headers), SCOPE_KEY: exchange or make_exchange()}


async def replied(method: str, *headers: tuple[bytes, bytes], etag: bytes = b"") -> Line:
    line = Line()
    asked = scope(method, *headers)
    await reply(asked, line.send, b'{"a":1}', etag=etag)
    assert exchange_of(asked).status == line.status
    return line


async def test_a_whole_answer_says_its_length_and_its_id() -> None:
    line = await replied("GET")
    assert (line.status, line.body) == (200, b'{"a":1}')
    assert line.headers[b"content-length"] == b"7"
    assert line.headers[b"x-request-id"] == b"req_1"
    assert b"etag" not in line.headers


async def test_head_gets_the_fields_of_the_answer_and_no_body() -> None:
    line = await replied("HEAD", etag=b'"t"')
    assert (line.status, line.body) == (200, b"")
    assert line.headers[b"content-length"] == b"7"


@pytest.mark.parametrize("given", [b'"t"', b'W/"t"', b'"x", "t"', b' "t" ', b"*", b'"x",W/"t"'])
async def test_what_the_client_has_already_is_a_304_without_body(given: bytes) -> None:
    line = await replied("GET", (b"if-none-match", given), etag=b'"t"')
    assert (line.status, line.body) == (304, b"")
    assert line.headers[b"etag"] == b'"t"'
    assert b"content-length" not in line.headers


@pytest.mark.parametrize("given", [b"", b'"x"', b"t", b'"tt"'])
async def test_anything_else_is_answered_in_full(given: bytes) -> None:
    assert (await replied("GET", (b"if-none-match", given), etag=b'"t"')).status == 200
    assert (await replied("GET", (b"if-none-match", b"*"))).status == 200


async def test_health_says_that_the_process_runs() -> None:
    line = await call(HealthEndpoint(), scope())
    assert (line.status, line.json) == (200, {"status": "ok"})


class AwayStore(MemoryStore):
    async def check(self) -> None:
        raise StoreUnavailable("the disk is full")


@pytest.mark.parametrize(
    ("away", "known", "status", "reason"),
    [
        (False, None, 200, None),
        (False, "draining", 503, "draining"),
        (True, "draining", 503, "draining"),
        (True, None, 503, "store_unavailable: the disk is full"),
        (True, "audit_unavailable: x", 503, "store_unavailable: the disk is full"),
        (False, "audit_unavailable: x", 503, "audit_unavailable: x"),
    ],
)
async def test_readiness_names_what_is_against_it(
    away: bool, known: str | None, status: int, reason: str | None
) -> None:
    store = (AwayStore if away else MemoryStore)(FakeClock())
    line = await call(ReadyEndpoint(store, lambda: known), scope())
    assert line.status == status
    assert line.json.get("reason") == reason
    assert line.json["status"] == ("ready" if reason is None else "not_ready")


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [({"metrics"}, True), ({"admin"}, True), ({"relay"}, False), (set(), False), (None, False)],
)
async def test_metrics_behind_a_key_want_its_scope(scopes: set[str] | None, allowed: bool) -> None:
    caller = None if scopes is None else make_caller(scopes=frozenset(scopes))
    endpoint = MetricsEndpoint(lambda: (b"up 1\n", "text/plain; version=0.0.4"), require_key=True)
    asked = scope(exchange=make_exchange(caller=caller))
    if allowed:
        line = await call(endpoint, asked)
        assert (line.body, line.headers[b"content-type"]) == (b"up 1\n", b"text/plain; version=0.0.4")
        return
    with pytest.raises(GatewayError) as caught:
        await call(endpoint, asked)
    assert caught.value.status == 403


async def test_open_metrics_ask_for_nothing() -> None:
    endpoint = MetricsEndpoint(lambda: (b"up 1\n", "text/plain"), require_key=False)
    assert (await call(endpoint, scope(exchange=make_exchange(caller=None)))).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_only_get_and_head_are_taken(method: str) -> None:
    endpoints: list[App] = [
        HealthEndpoint(),
        ReadyEndpoint(MemoryStore(FakeClock()), lambda: None),
        MetricsEndpoint(lambda: (b"", ""), require_key=False),
    ]
    for endpoint in endpoints:
        with pytest.raises(GatewayError) as caught:
            await call(endpoint, scope(method))
        assert (caught.value.status, caught.value.allow) == (405, "GET, HEAD")
