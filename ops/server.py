"""uvicorn as we run it: explicit parser, no lifespan, no access log of its own, and an orderly end.

The end, on the first wish to stop: ``/readyz`` falls at once while the listener stays open for ``drain_delay_s``,
so that load balancers look away first; then the listener closes, new requests on kept connections get 503
``draining``, and running streams get ``drain_s`` to end whole. A second wish cuts the waiting short. Token
refreshes are waited for in both cases: a rotated token that is not stored is a lost account.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvicorn

from ops.house import Gateway
from ops.stop import Stop

BACKLOG: Final = 4096
LAST_WORD_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServerValues:
    """What the listener needs; times in seconds."""

    keep_alive_s: float
    drain_delay_s: float
    drain_s: float
    tls_cert_file: Path | None
    tls_key_file: Path | None
    trusted_proxies: tuple[str, ...]


class GatewayServer(uvicorn.Server):
    """Signals are not uvicorn's business here: ops.stop owns them. ``listening`` is set when it takes connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: object, protocol: type[asyncio.Protocol], values: ServerValues) -> GatewayServer:
    """A server that is not started; ``app`` is an ASGI application."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn names the same callable more strictly
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(values.trusted_proxies),
        forwarded_allow_ips=list(values.trusted_proxies) or None,
        backlog=BACKLOG,
        timeout_keep_alive=int(values.keep_alive_s),
        ssl_certfile=values.tls_cert_file,
        ssl_keyfile=values.tls_key_file,
    )
    return GatewayServer(config)


async def serve_until(
    stop: Stop,
    server: GatewayServer,
    sockets: list[socket.socket],
    gateway: Gateway,
    values: ServerValues,
    on_listening: Callable[[], None],
) -> None:
    """Serves until ``stop`` says so, then drains as described above. Returns when no request runs any more."""
    serving = asyncio.create_task(server.serve(sockets))
    await _first(server.listening.wait(), serving)
    if not serving.done():
        on_listening()
    await _first(stop.drain.wait(), serving)
    gateway.readiness.draining = True
    await _first(stop.quick.wait(), serving, timeout_s=values.drain_delay_s)
    gateway.inflight.draining = True
    server.should_exit = True
    await _first(stop.quick.wait(), serving, timeout_s=values.drain_s)
    server.force_exit = True
    tasks = list(server.server_state.tasks)
    for task in tasks:
        task.cancel()
    await serving
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_WORD_S)


async def _first(
    waiting: Coroutine[Any, Any, object], serving: asyncio.Task[None], *, timeout_s: float | None = None
) -> None:
    """Waits for ``waiting``, the end of serving, or the timeout, whichever comes first."""
    task = asyncio.create_task(waiting)
    await asyncio.wait({task, serving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket that listens, which children may inherit; connections wait until somebody serves. Raises OSError.

    Listening at once is what shows that the port is taken: two that only bind may share it for a while.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
