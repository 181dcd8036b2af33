"""The route table and the order of the frames. Nothing else.

    Guard -> RequestContext -> ClientAuth -> Inflight -> route

Routes are matched on the decoded path exactly; there is no redirect of slashes. Endpoints are raw ASGI callables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
    is_below,
)
from gateway.responses import ResponsesEndpoint
from ops.clock import Clock

CODEX_PATHS: Final = (
    "/api/accounts/v1/user-auth-credential/whoami",
    "/backend-api/wham/accounts/check",
    "/backend-api/wham/settings/user",
    "/backend-api/wham/usage",
)


ADMIN_DOORS: Final = ("/admin/api", "/console/oidc")
TASK_DOORS: Final = (
    "/v1/tasks", "/v1/environments", "/v1/uploads", "/share",
    "/backend-api/wham/tasks", "/backend-api/wham/environments", "/api/codex/tasks", "/api/codex/environments",
)  # fmt: skip
OWN_DOORS: Final = (*ADMIN_DOORS, "/console", *TASK_DOORS)
"""What is behind them finds out itself who comes: by a session, or by a key with the scope that is asked for."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The raw ASGI endpoints that the composition root has built. Without ``admin``, ``console`` and ``tasks`` nothing
    is found behind their doors."""

    responses: ResponsesEndpoint
    models: ModelsEndpoint
    native_models: ModelsEndpoint
    codex_paths: CodexPaths
    ready: ReadyEndpoint
    metrics: MetricsEndpoint | None
    admin: App | None = None
    console: App | None = None
    tasks: App | None = None


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


class RouteTable:
    """Fixed paths by one look-up, and nothing near them (a pattern would take a line end behind them); the rest by
    ``patterns``."""

    def __init__(self, fixed: Mapping[str, App], patterns: App) -> None:
        self._fixed = fixed
        self._patterns = patterns

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._fixed.get(scope["path"], self._patterns)(scope, receive, send)


class Doors:
    """What is behind the doors of administrators and of tasks; the rest is the relay's."""

    def __init__(self, admin: App, console: App, tasks: App, rest: App) -> None:
        self._admin = admin
        self._console = console
        self._tasks = tasks
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, app = scope["path"], self._rest
        if is_below(path, ADMIN_DOORS):
            app = self._admin
        elif is_below(path, TASK_DOORS):
            app = self._tasks
        elif is_below(path, OWN_DOORS):
            app = self._console
        await app(scope, receive, send)


def build_app(endpoints: Endpoints, frames: Frames) -> tuple[App, Inflight]:
    """The whole ASGI application, and its Inflight frame for whoever drains it."""
    fixed: dict[str, App] = {
        "/v1/responses": endpoints.responses,
        "/v1/models": endpoints.models,
        "/backend-api/codex/responses": endpoints.responses,
        "/backend-api/codex/models": endpoints.native_models,
        **dict.fromkeys(CODEX_PATHS, endpoints.codex_paths),
        "/healthz": HealthEndpoint(),
        "/readyz": endpoints.ready,
    }
    open_paths = OPEN_PATHS
    if endpoints.metrics is not None:
        fixed[METRICS_PATH] = endpoints.metrics
        if frames.metrics_open:
            open_paths = open_paths | {METRICS_PATH}
    patterns = [Route("/v1/models/{model_id:path}", endpoints.models)]
    router = Router(routes=patterns, default=not_found, redirect_slashes=False)
    doors = Doors(
        endpoints.admin or not_found, endpoints.console or not_found, endpoints.tasks or not_found, router
    )  # fmt: skip
    inflight = Inflight(RouteTable(fixed, doors), frames.max_inflight, frames.on_shed, frames.audit_full)
    return _framed(inflight, frames, open_paths, frozenset(fixed) - open_paths), inflight


def build_metrics_app(metrics: MetricsEndpoint, frames: Frames) -> App:
    """/metrics and /healthz alone, for a port of their own."""
    table = RouteTable({METRICS_PATH: metrics, "/healthz": HealthEndpoint()}, not_found)
    return _framed(table, frames, OPEN_PATHS | {METRICS_PATH} if frames.metrics_open else OPEN_PATHS)


def _framed(app: App, frames: Frames, open_paths: frozenset[str], keyed: frozenset[str] | None = None) -> App:
    doors = OWN_DOORS if keyed is not None else ()
    authenticated = ClientAuth(app, frames.keys, frames.clock, open_paths, doors, keyed or frozenset())
    return frames.guard(RequestContext(authenticated, frames.clock, frames.observer))
