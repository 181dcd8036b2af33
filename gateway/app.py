"""The route table and the order of the frames. Nothing else.

    Guard -> RequestContext -> ClientAuth -> Inflight -> route

Routes are matched on the decoded path exactly; there is no redirect of slashes. Endpoints are raw ASGI callables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.routing import Route, Router

from auth.keys import KeyDirectory
from gateway.codex_paths import CodexPaths
from gateway.errors import GatewayError
from gateway.exchange import exchange_of
from gateway.guard import Guard
from gateway.info import HealthEndpoint, MetricsEndpoint, ModelsEndpoint, ReadyEndpoint
from gateway.middleware import (
    METRICS_PATH,
    OPEN_PATHS,
    App,
    ClientAuth,
    Inflight,
    Receive,
    RequestContext,
    RequestObserver,
    Scope,
    Send,
)
from gateway.responses import ResponsesEndpoint
from ops.clock import Clock

CODEX_PATHS: Final = (
    "/api/accounts/v1/user-auth-credential/whoami",
    "/backend-api/wham/accounts/check",
    "/backend-api/wham/settings/user",
    "/backend-api/wham/usage",
)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The raw ASGI endpoints that the composition root has built."""

    responses: ResponsesEndpoint
    models: ModelsEndpoint
    native_models: ModelsEndpoint
    codex_paths: CodexPaths
    ready: ReadyEndpoint
    metrics: MetricsEndpoint | None


@dataclass(frozen=True, slots=True)
class Frames:
    """What the middleware needs. ``metrics_open``: /metrics asks for no key. ``audit_full``: nothing new may begin."""

    guard: Callable[[App], Guard]
    keys: KeyDirectory
    clock: Clock
    observer: RequestObserver
    max_inflight: int
    on_shed: Callable[[str], None]
    audit_full: Callable[[], bool]
    metrics_open: bool


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Every path that no route takes."""
    exchange_of(scope).route = "none"
    raise GatewayError.not_found()


class Express:
    """Model calls go straight to their endpoint; every other path takes the route table."""

    def __init__(self, exact: Mapping[str, App], router: App) -> None:
        self._exact = exact
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._exact.get(scope["path"], self._router)(scope, receive, send)


def build_app(endpoints: Endpoints, frames: Frames) -> tuple[App, Inflight]:
    """The whole ASGI application, and its Inflight frame for whoever drains it."""
    routes = [
        Route("/v1/responses", endpoints.responses),
        Route("/v1/models", endpoints.models),
        Route("/v1/models/{model_id:path}", endpoints.models),
        Route("/backend-api/codex/responses", endpoints.responses),
        Route("/backend-api/codex/models", endpoints.native_models),
        *(Route(path, endpoints.codex_paths) for path in CODEX_PATHS),
        Route("/healthz", HealthEndpoint()),
        Route("/readyz", endpoints.ready),
    ]
    open_paths = OPEN_PATHS
    if endpoints.metrics is not None:
        routes.append(Route(METRICS_PATH, endpoints.metrics))
        if frames.metrics_open:
            open_paths = open_paths | {METRICS_PATH}
    router = Router(routes=routes, default=not_found, redirect_slashes=False)
    exact = {"/v1/responses": endpoints.responses, "/backend-api/codex/responses": endpoints.responses}
    inflight = Inflight(Express(exact, router), frames.max_inflight, frames.on_shed, frames.audit_full)
    return _framed(inflight, frames, open_paths), inflight


def build_metrics_app(metrics: MetricsEndpoint, frames: Frames) -> App:
    """/metrics and /healthz alone, for a port of their own."""
    routes = [Route(METRICS_PATH, metrics), Route("/healthz", HealthEndpoint())]
    router = Router(routes=routes, default=not_found, redirect_slashes=False)
    return _framed(router, frames, OPEN_PATHS | {METRICS_PATH} if frames.metrics_open else OPEN_PATHS)


def _framed(app: App, frames: Frames, open_paths: frozenset[str]) -> App:
    authenticated = ClientAuth(app, frames.keys, frames.clock, open_paths)
    return frames.guard(RequestContext(authenticated, frames.clock, frames.observer))
