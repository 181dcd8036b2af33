"""The route table: every path by every method, with a key and without, refused or answered in one shape."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest

from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from gateway.app import CODEX_PATHS, Endpoints, Frames, build_app, build_metrics_app
from gateway.errors import GatewayError
from gateway.exchange import Exchange, exchange_of
from gateway.guard import Guard
from gateway.info import MetricsEndpoint, ReadyEndpoint, reply
from gateway.middleware import App
from store.memory import MemoryStore
from store.records import Limits, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line, call, scope_of

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get")


class Named:
    """An endpoint that answers with its name and takes the methods of its kind."""

    def __init__(self, name: str, *methods: str) -> None:
        self.name = name
        self.methods = methods

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        exchange_of(scope).route = self.name
        if scope["method"] not in self.methods:
            raise GatewayError.method_not_allowed(", ".join(self.methods))
        await reply(scope, send, f'"{self.name}"'.encode())


ROUTES: dict[str, tuple[str, tuple[str, ...]]] = {
    "/v1/responses": ("responses", ("POST",)),
    "/backend-api/codex/responses": ("responses", ("POST",)),
    "/v1/models": ("models", ("GET", "HEAD")),
    "/v1/models/gpt-5.4": ("models", ("GET", "HEAD")),
    "/v1/models/a/b": ("models", ("GET", "HEAD")),
    "/backend-api/codex/models": ("native", ("GET", "HEAD")),
    **dict.fromkeys(CODEX_PATHS, ("wham", ("GET",))),
    "/healthz": ("", ("GET", "HEAD")),
    "/readyz": ("", ("GET", "HEAD")),
    "/metrics": ("", ("GET", "HEAD")),
}
OPEN = {"/healthz", "/readyz", "/metrics"}
NOWHERE = (
    "/", "/v1", "/v1/", "/v1/responses/", "/v1/responses/x", "/V1/responses", "//v1/responses", "/v1//responses",
    "/v1/chat/completions", "/v1/responses\n", "/metrics\n", "/admin", "/healthz/", "/metrics/", "/.env",
    "/v1/modelsx", "*", "",
)  # fmt: skip


class House:
    """The application with named endpoints behind its real frames."""

    def __init__(self, *, metrics_open: bool = True, metrics: bool = True) -> None:
        self.clock = FakeClock()
        ring = KeyRing(bytes(PEPPER_BYTES))
        keys = KeyDirectory(ring, Limits(), Limits())
        secret, record = ring.mint("t1", now_s=0.0)
        keys.load([record], [Tenant("t1", "t1")])
        self.key = (b"authorization", b"Bearer " + secret.reveal().encode())
        self.seen: list[Exchange] = []
        self.metrics = MetricsEndpoint(lambda: (b"up 1\n", "text/plain"), require_key=not metrics_open)
        endpoints = Endpoints(
            responses=cast("Any", Named("responses", "POST")),
            models=cast("Any", Named("models", "GET", "HEAD")),
            native_models=cast("Any", Named("native", "GET", "HEAD")),
            codex_paths=cast("Any", Named("wham", "GET")),
            ready=ReadyEndpoint(MemoryStore(self.clock), lambda: None),
            metrics=self.metrics if metrics else None,
        )
        self.frames = Frames(
            guard=partial(Guard, max_headers=20, max_header_bytes=4096, max_body_bytes=1024),
            keys=keys,
            clock=self.clock,
            observer=self,
            max_inflight=5,
            on_shed=lambda reason: None,
            audit_full=lambda: False,
            metrics_open=metrics_open,
        )
        self.app, self.inflight = build_app(endpoints, self.frames)

    def finished(self, exchange: Exchange) -> None:
        self.seen.append(exchange)

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        raise AssertionError("nothing crashes here") from error

    async def ask(self, method: str, path: str, *, key: bool = True, app: App | None = None) -> Line:
        length = [(b"content-length", b"0")] if method == "POST" else []
        headers = [*length, *([self.key] if key else [])]
        return await call(app or self.app, scope_of(method, path, headers))


@pytest.mark.parametrize("path", ROUTES)
async def test_each_route_takes_its_methods_and_refuses_every_other_with_405(path: str) -> None:
    house = House()
    name, taken = ROUTES[path]
    for method in METHODS:
        line = await house.ask(method, path)
        if method in taken:
            assert line.status == 200, method
            assert method == "HEAD" or not name or line.json == name
        else:
            assert (line.status, line.code) == (405, "method_not_allowed"), method
            assert line.headers[b"allow"].decode().split(", ") == list(taken)
        assert line.headers[b"x-request-id"]
    assert len(house.seen) == len(METHODS)


@pytest.mark.parametrize("path", ROUTES)
async def test_each_route_but_the_open_ones_demands_a_key_before_it_says_anything(path: str) -> None:
    house = House()
    for method in METHODS:
        line = await house.ask(method, path, key=False)
        if path in OPEN:
            assert line.status in (200, 405)
        else:
            assert (line.status, line.code) == (401, "invalid_api_key"), method


@pytest.mark.parametrize("path", NOWHERE)
async def test_a_path_that_no_route_takes_is_a_404_in_our_shape_and_no_redirect(path: str) -> None:
    house = House()
    line = await house.ask("GET", path)
    assert (line.status, line.code) == (404, "not_found")
    assert b"location" not in line.headers
    assert house.seen[-1].route == "none"
    assert (await house.ask("GET", path, key=False)).status == 401, "a stranger learns nothing of the paths"


async def test_metrics_may_ask_for_a_key_with_its_scope() -> None:
    house = House(metrics_open=False)
    assert (await house.ask("GET", "/metrics", key=False)).status == 401
    assert (await house.ask("GET", "/metrics")).status == 403


async def test_metrics_that_are_off_or_elsewhere_are_not_found() -> None:
    house = House(metrics=False)
    assert (await house.ask("GET", "/metrics")).status == 404
    assert (await house.ask("GET", "/metrics", key=False)).status == 401


@pytest.mark.parametrize("metrics_open", [True, False])
async def test_the_port_of_metrics_serves_nothing_else(metrics_open: bool) -> None:
    house = House(metrics_open=metrics_open)
    app = build_metrics_app(house.metrics, house.frames)
    assert (await house.ask("GET", "/healthz", key=False, app=app)).status == 200
    assert (await house.ask("GET", "/metrics", key=False, app=app)).status == (200 if metrics_open else 401)
    for path in ("/v1/responses", "/v1/models", "/readyz"):
        assert (await house.ask("GET", path, app=app)).status == 404


async def test_the_guard_is_outermost_and_refuses_before_a_key_is_looked_at() -> None:
    house = House()
    line = await call(house.app, scope_of("GET", "/v1/models", [(b"host", b"second"), house.key]))
    assert line.status == 400
    assert house.seen == []


async def test_draining_is_told_to_callers_with_a_key_and_health_goes_on() -> None:
    house = House()
    house.inflight.draining = True
    assert (await house.ask("POST", "/v1/responses")).code == "draining"
    assert (await house.ask("POST", "/v1/responses", key=False)).status == 401
    assert (await house.ask("GET", "/healthz", key=False)).status == 200
