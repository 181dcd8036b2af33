"""``codex-relay serve``: one process, or a supervisor with several.

What must happen once happens first and here: the settings are settled, the key file is made if there is none, the
store is opened (which checks and migrates it) and closed again. Then either this process serves, or it starts
workers that each open the store for themselves. Whatever refuses the start is one line on standard error and exit
code 1.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from gateway.protocol import ConnectionValues, make_protocol
from ops.clock import SystemClock
from ops.house import KIB, Seat, counter_path, key_secret, open_gateway
from ops.log import configure, get_logger
from ops.metrics import Metrics
from ops.server import GatewayServer, ServerValues, bind, make_server, serve_until
from ops.settings import Settings, SettingsError
from ops.stop import Stop
from ops.version import VERSION
from ops.workers import supervise
from store.errors import StoreError
from store.open import key_provider, open_store, prepare_key, sqlite_path

STOP_EXTRA_S: Final = 5.0


def serve(settings: Settings, config_path: Path | None, host: str | None, port: int | None, workers: int | None) -> int:
    """Runs until told to stop; 0 after an orderly end, 1 when the start is refused."""
    changed = {"host": host, "port": port, "workers": workers}
    server = settings.server.model_copy(update={k: v for k, v in changed.items() if v is not None})
    settings = settings.model_copy(update={"server": server})
    configure(settings.log.level, settings.log.format)
    _raise_fd_limit()
    try:
        _check_combination(settings)
        asyncio.run(prepare(settings))
        sock = _bind(settings)
    except (StoreError, SettingsError) as error:
        print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal, before any log
        return 1
    if settings.server.workers > 1:
        return asyncio.run(supervise(settings, config_path, sock))
    return run_process(settings, Seat(), sock, Stop.on_signals, _announce(settings, sock))


def run_process(
    settings: Settings,
    seat: Seat,
    sock: socket.socket,
    listen_for_stop: Callable[[Stop], None],
    on_listening: Callable[[], None],
) -> int:
    """Serves on ``sock`` in this process until ``listen_for_stop``'s source says so."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_run(settings, seat, sock, listen_for_stop, on_listening))
        except (StoreError, SettingsError) as error:
            print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - as above
            return 1
    return 0


async def _run(
    settings: Settings,
    seat: Seat,
    sock: socket.socket,
    listen_for_stop: Callable[[Stop], None],
    on_listening: Callable[[], None],
) -> None:
    clock = SystemClock()
    stop = Stop(clock)
    listen_for_stop(stop)
    async with open_gateway(settings, seat, clock, Metrics(version=VERSION)) as gateway:
        settle_memory()
        values = server_values(settings)
        await serve_until(stop, server_for(settings, gateway.app, values), [sock], gateway, values, on_listening)


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
    )
    return make_server(app, make_protocol(connection, SystemClock()), values)


def settle_memory() -> None:
    """What was built at start lives for ever: the collector need not look at it again, nor after every request.

    A request leaves hardly any cycles; the young generation is looked at after tens of thousands of allocations.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


async def prepare(settings: Settings) -> None:
    """The key, the schema and the counters, once, before anything is spawned."""
    keys = key_provider(settings.vault.provider, key_secret(settings), settings.vault.key_file)
    made = prepare_key(keys, settings.store.url)
    if made is not None:
        get_logger().warning("key_file_created", path=str(made), next="back it up: without it the accounts are lost")
    store = await open_store(settings.store.url, keys=keys, busy_timeout_s=settings.store.busy_timeout_s)
    await store.close()
    path = sqlite_path(settings.store.url)
    if path is not None:
        counter_path(path).unlink(missing_ok=True)


def _check_combination(settings: Settings) -> None:
    if settings.store.hot_url is not None:
        raise SettingsError("setting store.hot_url: this release shares hot state by the durable store; leave it out")
    if settings.server.workers > 1 and sqlite_path(settings.store.url) is None:
        raise SettingsError("setting server.workers: memory:// is for one process; set store.url to sqlite:///PATH")
    if (settings.server.tls_cert_file is None) != (settings.server.tls_key_file is None):
        raise SettingsError("setting server.tls_cert_file: certificate and tls_key_file go together; set both or none")


def _bind(settings: Settings) -> socket.socket:
    server = settings.server
    try:
        return bind(server.host, server.port)
    except OSError as error:
        raise SettingsError(
            f"setting server.port: cannot listen on {server.host}:{server.port} ({os.strerror(error.errno or 0)}); "
            "choose another with --port"
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
