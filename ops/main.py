"""``codex-relay serve``: one process, or a supervisor with several.

What must happen once happens first and here: the settings are settled, the key file is made if there is none, the
store is opened (which checks and migrates it) and closed again, the port is taken. Then either this process serves,
or it starts workers that each open the store for themselves. Whatever refuses the start is one line on standard error
and exit code 1.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

import uvloop

from gateway.protocol import ConnectionValues, make_protocol
from ops.clock import SystemClock
from ops.house import Gateway, open_gateway
from ops.house_front import KIB
from ops.house_store import keys_of
from ops.house_watch import webhook_settings
from ops.log import Sink, configure, get_logger
from ops.metrics import Metrics
from ops.sandbox_child import worker_beside
from ops.seat import Seat
from ops.server import GatewayServer, ServerValues, bind, make_server, serve_until
from ops.settings import Settings, SettingsError
from ops.stop import Stop
from ops.version import VERSION
from ops.workers import Supervisor
from store.errors import StoreError, StoreUnusable
from store.open import StoreKind, open_store, prepare_key, store_kind
from store.redis_link import parse_address
from upstream.dial import tls_context

_REFUSALS: Final = (StoreError, SettingsError)


def serve(settings: Settings, host: str | None, port: int | None, workers: int | None) -> int:
    """Runs until told to stop; 0 after an orderly end, 1 when the start is refused."""
    changed = {"host": host, "port": port, "workers": workers}
    server = settings.server.model_copy(update={k: v for k, v in changed.items() if v is not None})
    settings = settings.model_copy(update={"server": server})
    sink = configure(settings.log.level, settings.log.format)
    _raise_fd_limit()
    try:
        check_combination(settings)
        asyncio.run(prepare(settings))
        sock = listen(server.host, server.port, "server.port")
    except _REFUSALS as error:
        return _refused(error)
    announce = _announce(settings, sock)
    if server.workers > 1:
        return asyncio.run(_supervise(settings, sock, announce))
    return run_process(settings, Seat(), sock, sink, Stop.on_signals, announce)


def run_process(
    settings: Settings,
    seat: Seat,
    sock: socket.socket,
    sink: Sink,
    listen_for_stop: Callable[[Stop], None],
    on_listening: Callable[[], None],
) -> int:
    """Serves on ``sock`` in this process until ``listen_for_stop``'s source says so; the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(settings, seat, sock, sink, listen_for_stop, on_listening))
        except _REFUSALS as error:
            return _refused(error)
    return 0


def _refused(error: Exception) -> int:
    print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal; a log line may come late
    return 1


async def _supervise(settings: Settings, sock: socket.socket, announce: Callable[[], None]) -> int:
    clock = SystemClock()
    stop = Stop(clock)
    stop.on_signals()
    async with worker_beside(settings, sock, clock):
        return await Supervisor(settings, sock, clock).run(stop, announce)


async def _run(
    settings: Settings,
    seat: Seat,
    sock: socket.socket,
    sink: Sink,
    listen_for_stop: Callable[[Stop], None],
    on_listening: Callable[[], None],
) -> None:
    clock = SystemClock()
    stop = Stop(clock)
    listen_for_stop(stop)
    metrics = Metrics(version=VERSION)
    sink.on_drop = metrics.log_dropped.inc
    async with open_gateway(settings, seat, clock, metrics) as gateway, metrics_port(settings, gateway):
        settle_memory()
        values = server_values(settings)
        server = server_for(settings, gateway.app, values)
        alone = seat.count == 1  # of several workers, the supervisor has the child
        async with worker_beside(settings, sock, clock) if alone else nullcontext():
            await serve_until(stop, server, [sock], gateway, values, on_listening)


@asynccontextmanager
async def metrics_port(settings: Settings, gateway: Gateway) -> AsyncIterator[None]:
    """Serves /metrics on its own port while the block runs, when the settings say so. Raises SettingsError."""
    if gateway.metrics_app is None or settings.metrics.port is None:
        yield
        return
    sock = listen(settings.server.host, settings.metrics.port, "metrics.port")
    values = server_values(settings)
    server = server_for(settings, gateway.metrics_app, values)
    serving = asyncio.create_task(server.serve([sock]))
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await serving


def server_values(settings: Settings) -> ServerValues:
    server = settings.server
    return ServerValues(
        keep_alive_s=server.keep_alive_s,
        drain_delay_s=server.drain_delay_s,
        drain_s=server.drain_s,
        tls_cert_file=server.tls_cert_file,
        tls_key_file=server.tls_key_file,
        trusted_proxies=server.trusted_proxies,
    )


def server_for(settings: Settings, app: object, values: ServerValues) -> GatewayServer:
    """uvicorn with our protocol, for an app that open_gateway built."""
    server = settings.server
    connection = ConnectionValues(
        header_timeout_s=server.header_timeout_s,
        max_header_bytes=server.max_header_kib * KIB,
        body_idle_timeout_s=server.body_idle_timeout_s,
        body_min_bytes_per_s=server.body_min_bytes_per_s,
        write_stall_s=server.write_stall_s,
        keep_alive_s=server.keep_alive_s,
    )
    return make_server(app, make_protocol(connection, SystemClock()), values)


def settle_memory() -> None:
    """What was built at start lives for ever: the collector need not look at it again, nor after every request.

    A request leaves hardly any cycles, so the young generation is looked at seldom, and the old one more seldom still.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def prepare(settings: Settings) -> None:
    """The key and the schema, once, before anything is spawned."""
    keys = keys_of(settings)
    values = settings.store
    made = prepare_key(keys, values.url, prefix=values.redis_prefix)
    if made is not None:
        get_logger().warning("key_file_created", path=str(made), next="back it up: without it the accounts are lost")
    store = await open_store(values.url, keys=keys, busy_timeout_s=values.busy_timeout_s, prefix=values.redis_prefix)
    await store.close()


def check_combination(settings: Settings) -> None:
    """Refuses what is wrong only together, or with a file beside it. Raises SettingsError, StoreUnusable."""
    server, workers = settings.server, settings.server.workers
    if settings.store.hot_url is not None:
        _check_hot_url(settings.store.hot_url)
    if workers > 1 and store_kind(settings.store.url) is StoreKind.MEMORY:
        raise SettingsError("setting server.workers: memory:// is for one process; set store.url to sqlite:///PATH")
    if settings.sandbox.enabled and store_kind(settings.store.url) is StoreKind.MEMORY:
        raise SettingsError(
            "setting sandbox.enabled: its worker is a process of its own and cannot share memory://; "
            "set store.url to sqlite:///PATH"
        )
    if 0 < settings.router.per_account_concurrency < workers:
        raise SettingsError(
            f"setting router.per_account_concurrency: {workers} workers share it; set 0 or at least {workers}"
        )
    if server.tls_cert_file is not None and server.tls_key_file is not None:
        _check_certificate(server.tls_cert_file, server.tls_key_file)
    elif server.tls_cert_file is not None or server.tls_key_file is not None:
        raise SettingsError("setting server.tls_cert_file: certificate and tls_key_file go together; set both or none")
    _check_authorities(settings.upstream.ca_file)
    webhook_settings(settings)


def _check_hot_url(url: str) -> None:
    """Only its form: a hot store that is away is no reason not to serve."""
    try:
        parse_address(url)
    except StoreUnusable as error:
        raise SettingsError(f"setting store.hot_url: {error}") from None


def _check_certificate(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SettingsError(
            f"setting server.tls_cert_file: {certificate} with {key} cannot be used ({why}); "
            "name a PEM chain and its unencrypted key"
        ) from None


def _check_authorities(bundle: Path | None) -> None:
    try:
        tls_context(bundle)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SettingsError(f"setting upstream.ca_file: {bundle} cannot be used ({why}); name a PEM bundle") from None


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket. Raises SettingsError that names ``setting``."""
    try:
        return bind(host, port)
    except OSError as error:
        raise SettingsError(
            f"setting {setting}: cannot listen on {host}:{port} ({error.strerror or error}); choose another"
        ) from None


def _announce(settings: Settings, sock: socket.socket) -> Callable[[], None]:
    scheme = "https" if settings.server.tls_cert_file else "http"
    host, port = sock.getsockname()[:2]
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def say() -> None:
        get_logger().info("listening", url=url, workers=settings.server.workers, version=VERSION)

    return say


def _raise_fd_limit() -> None:
    """Every stream takes two descriptors; the soft limit is often 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
