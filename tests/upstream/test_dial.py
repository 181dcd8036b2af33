"""Connecting: verified TLS or none, a proxy that sees the target only, and one clear kind for each failure."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.upstream.wire import CREATED, LAST, SSE_HEAD, Peer, Server, ask, chunk, pooled, read_all, serving
from upstream.dial import Dialer, Origin, parse_origin, tls_context
from upstream.errors import FaultKind, UpstreamError
from upstream.types import Timeouts

PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"


def certificate(folder: Path, *, host: str = "", address: str = "127.0.0.1") -> Path:
    """A self-signed certificate and its key in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    names: list[x509.GeneralName] = [x509.DNSName(host)] if host else [x509.IPAddress(ipaddress.ip_address(address))]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


def server_tls(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def answer(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.say(SSE_HEAD + chunk(CREATED), chunk(CREATED) + LAST)


async def failure(server: Server, ca_file: Path | None = None, timeouts: Timeouts | None = None) -> UpstreamError:
    async with pooled(ca_file=ca_file) as pool:
        with pytest.raises(UpstreamError) as caught:
            await ask(pool, server, timeouts=timeouts or Timeouts(connect_s=2))
        assert not caught.value.sent
        assert not caught.value.reused
        return caught.value


async def test_tls_with_a_trusted_certificate(tmp_path: Path) -> None:
    """Streams, and the connection is used again."""
    file = certificate(tmp_path)
    async with serving(answer, tls=server_tls(file)) as server, pooled(ca_file=file) as pool:
        for _ in range(3):
            assert await read_all(await ask(pool, server)) == CREATED * 2
        assert server.accepted == 1


@pytest.mark.fault("B4")
async def test_an_unknown_certificate_is_refused(tmp_path: Path) -> None:
    """Nothing of the request is sent, and the reason is named."""
    async with serving(answer, tls=server_tls(certificate(tmp_path))) as server:
        error = await failure(server)
        assert error.kind is FaultKind.TLS
        assert "certificate" in error.excerpt


@pytest.mark.fault("B4")
async def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    """Trusted, but not for this name."""
    file = certificate(tmp_path, host="elsewhere.example")
    async with serving(answer, tls=server_tls(file)) as server:
        assert (await failure(server, file)).kind is FaultKind.TLS


@pytest.mark.fault("B4")
async def test_plain_http_on_a_tls_port_is_a_tls_error() -> None:
    """Never a fall back to plain text."""

    async def talk(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(talk) as server:
        server.origin = server.origin._replace(scheme="https")
        assert (await failure(server)).kind is FaultKind.TLS


@pytest.mark.fault("B4")
async def test_a_connection_that_ends_in_the_handshake_is_a_tls_error() -> None:
    """Closed without a word."""

    async def talk(peer: Peer) -> None:
        await peer.reader.read(1)

    async with serving(talk) as server:
        server.origin = server.origin._replace(scheme="https")
        assert (await failure(server)).kind is FaultKind.TLS


@pytest.mark.fault("B2")
async def test_a_handshake_that_never_ends_is_a_connect_timeout() -> None:
    """The deadline covers TLS, and the socket is closed."""

    async def talk(peer: Peer) -> None:
        await peer.gone()

    async with serving(talk) as server:
        server.origin = server.origin._replace(scheme="https")
        assert (await failure(server, timeouts=Timeouts(connect_s=0.1))).kind is FaultKind.CONNECT_TIMEOUT
        await server.until_empty()


@pytest.mark.fault("B1")
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_refused_connection(scheme: str) -> None:
    """Told apart from TLS trouble also when TLS was meant."""
    server = Server(())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server.origin = Origin(scheme, "127.0.0.1", taken.getsockname()[1])
        assert (await failure(server)).kind is FaultKind.CONNECT


@pytest.mark.fault("B3")
async def test_a_name_that_does_not_resolve() -> None:
    """RFC 6761 reserves .invalid."""
    server = Server(())
    server.origin = Origin("http", "no-such-host.invalid", 80)
    assert (await failure(server)).kind in (FaultKind.DNS, FaultKind.CONNECT_TIMEOUT)


def proxy(target: Server, seen: list[bytes], reply: bytes = b"HTTP/1.1 200 OK\r\nvia: p\r\n\r\n") -> object:
    async def talk(peer: Peer) -> None:
        seen.append(await peer.reader.readuntil(b"\r\n\r\n"))
        await peer.say(reply)
        if b" 200 " not in reply:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", target.origin.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65_536):
                    sink.write(data)
            finally:
                sink.close()

        await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer), return_exceptions=True)

    return talk


@pytest.mark.parametrize("secure", [True, False])
async def test_a_connect_proxy_carries_everything_and_sees_the_target_only(secure: bool, tmp_path: Path) -> None:
    """TLS goes through it end to end, with the certificate checked against the target."""
    file = certificate(tmp_path)
    seen: list[bytes] = []
    async with serving(answer, tls=server_tls(file) if secure else None) as server:
        async with serving(proxy(server, seen)) as middle:  # type: ignore[arg-type]
            url = f"http://user:p%40ss@127.0.0.1:{middle.origin.port}"
            async with pooled(ca_file=file, proxy=url) as pool:
                for _ in range(2):
                    assert await read_all(await ask(pool, server)) == CREATED * 2
        target = b"127.0.0.1:%d" % server.origin.port
        assert seen == [
            b"CONNECT %b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n" % (target, target)
        ]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"HTTP/1.1 407 Auth\r\n\r\n", FaultKind.CONNECT),
        (b"HTTP/1.1 502 Bad\r\n\r\n", FaultKind.CONNECT),
        (b"", FaultKind.CONNECT),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", FaultKind.PROTOCOL),
        (b"x" * 20_000, FaultKind.PROTOCOL),
    ],
)
async def test_a_proxy_that_does_not_open_the_tunnel(reply: bytes, kind: FaultKind) -> None:
    """Its words are never taken for the upstream's."""

    async def talk(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.say(reply)
        if reply:
            await peer.gone()

    async with serving(talk) as middle, serving(answer) as server:
        async with pooled(proxy=f"http://127.0.0.1:{middle.origin.port}") as pool:
            with pytest.raises(UpstreamError) as caught:
                await ask(pool, server)
            assert caught.value.kind is kind
            assert not caught.value.sent
        await middle.until_empty()
        assert server.accepted == 0


@pytest.mark.fault("B44")
@pytest.mark.parametrize("through", [False, True])
async def test_cancelling_while_connecting_leaves_no_socket(through: bool, tmp_path: Path) -> None:
    """At every turn of the loop, through TCP, the proxy's answer and the TLS handshake."""
    file = certificate(tmp_path)
    seen: list[bytes] = []
    async with serving(answer, tls=server_tls(file)) as server, serving(proxy(server, seen)) as middle:  # type: ignore[arg-type]
        url = f"http://127.0.0.1:{middle.origin.port}" if through else None
        async with pooled(ca_file=file, proxy=url) as pool:
            for turns in range(60):
                task = asyncio.create_task(ask(pool, server))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if not task.cancelled():
                    (task.result()).abort()
                assert pool.busy == 0
            await pool.aclose()
            await server.until_empty()
            await middle.until_empty()


def test_the_context_verifies() -> None:
    """Host name and chain, TLS 1.2 or newer."""
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://chatgpt.com/backend-api/codex/", b"chatgpt.com", "/backend-api/codex"),
        ("http://127.0.0.1:9000", b"127.0.0.1:9000", ""),
        ("https://[::1]:8443/x", b"[::1]:8443", "/x"),
    ],
)
def test_urls(url: str, authority: bytes, path: str) -> None:
    """Origin and path; the default port is not spelled out."""
    origin, found = parse_origin(url)
    assert (origin.authority, found) == (authority, path)


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "https://", "https://a@b/", "https://x/?q=1", "https://x/#f", "https://x/a b", "/x", "https://x\r\ny/"],
)
def test_urls_that_are_refused(url: str) -> None:
    """Before anything is sent anywhere."""
    with pytest.raises(ValueError, match="URL"):
        parse_origin(url)


def test_a_proxy_url_is_checked_at_the_start() -> None:
    """https and socks proxies are not spoken."""
    for url in ("socks5://x:1", "https://x:1", "x:1"):
        with pytest.raises(ValueError, match="proxy"):
            Dialer(tls_context(), url)
