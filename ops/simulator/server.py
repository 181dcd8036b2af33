"""Runs the simulator on a socket: inside a test's event loop, or as the process of ``codex-relay simulator``.

uvicorn's HTTP/1.1 protocol with one addition: the connection's transport is in the ASGI scope, so that a scripted
answer can be cut or reset under the client. WebSocket upgrades are not spoken; the application sees them as GET.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ops.clock import Clock, SystemClock
from ops.simulator.app import SimulatorApp, build_simulator
from ops.simulator.config import SimulatorConfig
from ops.simulator.state import Simulator
from ops.simulator.wire import TRANSPORT

TLS_NAMES = ("localhost", "chatgpt.com", "auth.openai.com")


def _is_exception(record: logging.LogRecord) -> bool:
    return bool(record.exc_info)


class SimulatorProtocol(HttpToolsProtocol):
    """Puts the transport into the scope; its log has crashes only: dropped answers are its trade."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = logging.getLogger("ops.simulator.server")
        self.logger.filters = [_is_exception]

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[TRANSPORT] = self.transport


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """``url`` is ``http://127.0.0.1:PORT``; the gateway's settings are derived from it."""

    url: str
    state: Simulator
    ca_pem: bytes | None = None

    @property
    def base_url(self) -> str:
        """The backend's model base, for ``[upstream] base_url``."""
        return f"{self.url}/backend-api/codex"

    @property
    def chatgpt_base_url(self) -> str:
        return f"{self.url}/backend-api"

    @property
    def issuer(self) -> str:
        """For ``[oauth] issuer``: the token endpoint is ``{issuer}/oauth/token``."""
        return self.url

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


def _config(app: SimulatorApp, **options: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=SimulatorProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        **options,
    )


@contextlib.asynccontextmanager
async def running_simulator(
    config: SimulatorConfig | None = None,
    clock: Clock | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: bool = False,
) -> AsyncIterator[RunningSimulator]:
    """Serve a fresh simulator in the running loop until the block ends; then its connections are aborted.

    With ``tls`` the handle's ``ca_pem`` is the self-signed certificate to trust.
    """
    app = build_simulator(config, clock)
    options = _config(app)
    options.load()
    server_state = ServerState()
    context, ca_pem = tls_context() if tls else (None, None)
    server = await asyncio.get_running_loop().create_server(
        lambda: SimulatorProtocol(config=options, server_state=server_state, app_state={}), host, port, ssl=context
    )
    bound = server.sockets[0].getsockname()[1]
    try:
        yield RunningSimulator(f"{'https' if tls else 'http'}://{host}:{bound}", app.state, ca_pem)
    finally:
        server.close()
        for connection in list(server_state.connections):
            connection.transport.abort()
        tasks = list(server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def self_signed(clock: Clock | None = None) -> tuple[bytes, bytes]:
    """A certificate for localhost, 127.0.0.1, chatgpt.com and auth.openai.com, and its key; both PEM."""
    now = datetime.datetime.fromtimestamp((clock or SystemClock()).now_s(), datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "codex-relay simulator")])
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in TLS_NAMES]
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def tls_context() -> tuple[ssl.SSLContext, bytes]:
    """A server context with a fresh self-signed certificate, and that certificate."""
    certificate, key = self_signed()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulator.pem"
        path.touch(mode=0o600)
        path.write_bytes(certificate + key)
        context.load_cert_chain(path)
    return context, certificate


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _end(*_: object) -> None:
    raise SystemExit(0)


def serve(
    host: str = "127.0.0.1",
    port: int = 18_100,
    tls: bool = False,
    *,
    config: SimulatorConfig | None = None,
    ca_file: Path | None = None,
    announce: Callable[[str], None] = _to_stderr,
) -> None:
    """Run in the main thread until SIGINT or SIGTERM; ``port`` 0 takes a free one.

    ``announce`` gets a few lines that say where it is.
    With ``tls`` the certificate to trust is written to ``ca_file``, by default a temporary file that goes at the end.
    Raises OSError when the address is not free.
    """
    options = _config(build_simulator(config), timeout_graceful_shutdown=1)
    options.load()
    with socket.create_server((host, port), backlog=2048) as listener, contextlib.ExitStack() as cleanup:
        url = f"{'https' if tls else 'http'}://{host}:{listener.getsockname()[1]}"
        announce(f"simulator   {url}")
        announce(f"base_url    {url}/backend-api/codex")
        announce(f"issuer      {url}")
        announce(f"an account  curl -X POST {url}/simulator/accounts")
        if tls:
            options.ssl, certificate = tls_context()
            if ca_file is None:
                folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="codex-relay-simulator-"))
                ca_file = Path(folder) / "ca.pem"
            ca_file.write_bytes(certificate)
            announce(f"ca_file     {ca_file}")
        # uvicorn raises the signal again after its shutdown; what was made here is still to be taken away then.
        cleanup.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _end))
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(options).run(sockets=[listener])
