"""The front of the house: endpoints and frames, built from the settings and the parts that relay."""

from __future__ import annotations

from functools import partial

from auth.keys import KeyDirectory
from gateway.adapt import Mode
from gateway.app import Endpoints, Frames, build_metrics_app
from gateway.catalog import ModelCatalog
from gateway.codex_paths import CodexPaths
from gateway.guard import Guard
from gateway.info import MetricsEndpoint, ModelsEndpoint, ReadyEndpoint
from gateway.middleware import App
from gateway.models import ModelTable
from gateway.observe import Observer
from gateway.parse import RequestParser
from gateway.relay import Relay
from gateway.responses import Gates, ResponsesEndpoint, Runs
from gateway.streaming import StreamingRelay
from gateway.whole import WholeRelay
from ops.audit import AuditLog
from ops.clock import Clock
from ops.house_relay import MIB
from ops.metrics import Metrics
from ops.seat import Seat
from ops.settings import Settings

KIB = 1024


def model_table(settings: Settings) -> ModelTable:
    models = settings.models
    return ModelTable(dict(models.aliases), frozenset(models.hidden), models.list_efforts)


def endpoints_of(
    settings: Settings, clock: Clock, gates: Gates, relay: Relay, catalog: ModelCatalog, ready: ReadyEndpoint,
    metrics: MetricsEndpoint | None, runs: Runs | None = None,
) -> Endpoints:  # fmt: skip
    """The raw endpoints; ``metrics`` is left out when it has a port of its own; ``runs``: what answers a sandbox."""
    server = settings.server
    parser = RequestParser(
        catalog.table,
        lambda: catalog.known,
        Mode(settings.models.adaptation),
        server.max_body_mib * MIB,
        settings.upstream.total_timeout_s,
    )
    streaming = StreamingRelay(relay, relay.ownership, gates.running, server.heartbeat_s, clock)
    whole = WholeRelay(relay, relay.ownership, clock)
    https = server.tls_cert_file is not None or (server.public_url or "").startswith("https://")
    return Endpoints(
        responses=ResponsesEndpoint(parser, gates, streaming, whole, runs),
        models=ModelsEndpoint(catalog),
        native_models=ModelsEndpoint(catalog, native=True),
        codex_paths=CodexPaths(relay.pool, clock, https=https),
        ready=ready,
        metrics=metrics if settings.metrics.port is None else None,
    )


def metrics_endpoint(settings: Settings, metrics: Metrics) -> MetricsEndpoint | None:
    wanted = settings.metrics
    return MetricsEndpoint(metrics.render, require_key=wanted.require_key) if wanted.enabled else None


def metrics_app(settings: Settings, seat: Seat, metrics: MetricsEndpoint | None, frames: Frames) -> App | None:
    """For a port of its own; of several workers the first serves it."""
    if metrics is None or settings.metrics.port is None or seat.index:
        return None
    return build_metrics_app(metrics, frames)


def frames_of(
    settings: Settings, clock: Clock, keys: KeyDirectory, observer: Observer, audit: AuditLog | None
) -> Frames:
    server = settings.server
    return Frames(
        guard=partial(
            Guard,
            max_headers=server.max_headers,
            max_header_bytes=server.max_header_kib * KIB,
            max_body_bytes=server.max_body_mib * MIB,
        ),
        keys=keys,
        clock=clock,
        observer=observer,
        max_inflight=server.max_inflight,
        on_shed=observer.shed,
        audit_full=lambda: audit is not None and audit.full,
        metrics_open=not settings.metrics.require_key,
    )
