"""How does a connection come to be? TCP, an HTTP CONNECT proxy if one is set, TLS.

Rules that hold:

* TLS is verified, always: the system's roots plus one bundle of the operator's; there is no switch to turn it off;
* the connect deadline covers name resolution, TCP, the proxy's answer and the TLS handshake together;
* every failure here is before the first byte of the request: ``sent`` is False;
* a proxy gets the target and its own credentials, nothing of the request.

Knows nothing of HTTP beyond the proxy's answer. Cancelling leaves no socket behind.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from upstream.errors import FaultKind, UpstreamError

P = TypeVar("P", bound=asyncio.Protocol)

_MAX_PROXY_HEAD: Final = 16_384
_PROXY_OK: Final = re.compile(rb"HTTP/1\.[01] 2\d\d[ \r]")
_PRINTABLE: Final = re.compile(r"[\x21-\x7e]{1,2048}")
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_]{1,253}|[0-9A-Fa-f:.]{2,45}")


class Origin(NamedTuple):
    """Where connections go, and the key under which they are kept."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> bytes:
        """The value of the host field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return (host if self.port == default else f"{host}:{self.port}").encode("ascii")


def parse_origin(url: str) -> tuple[Origin, str]:
    """(origin, path without trailing slash) of an absolute URL.

    Raises ValueError for anything but http(s)://host[:port]/path without credentials, query and fragment.
    """
    if not _PRINTABLE.fullmatch(url):
        raise ValueError("not a URL: it holds blanks, control characters or letters beyond ASCII")
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise ValueError(f"not an http(s) URL with a host: {parts.scheme}://{host}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an upstream URL has no credentials, no query and no fragment")
    return Origin(parts.scheme, host, parts.port or (443 if parts.scheme == "https" else 80)), parts.path.rstrip("/")


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The one context for upstream traffic: verified, TLS 1.2 or newer, HTTP/1.1 by ALPN."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=str(ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Opens connections. ``proxy`` is ``http://[user:password@]host:port`` or None."""

    def __init__(self, tls: ssl.SSLContext, proxy: str | None = None) -> None:
        self._tls = tls
        self._proxy: tuple[str, int] | None = None
        self._proxy_fields = b""
        if proxy is not None:
            parts = urlsplit(proxy)
            if parts.scheme != "http" or not parts.hostname:
                raise ValueError("the proxy is a URL of the form http://host:port")
            self._proxy = parts.hostname, parts.port or 80
            if parts.username is not None:
                pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
                self._proxy_fields = b"Proxy-Authorization: Basic " + base64.b64encode(pair) + b"\r\n"

    async def dial(self, origin: Origin, factory: Callable[[], P], timeout_s: float) -> P:
        """A connected protocol; its ``connection_made`` has been called with the final transport.

        Raises UpstreamError CONNECT, CONNECT_TIMEOUT, DNS, TLS or (from the proxy) PROTOCOL; nothing was sent.
        """
        try:
            async with asyncio.timeout(timeout_s):
                if self._proxy is None:
                    return await self._direct(origin, factory)
                return await self._through(self._proxy, origin, factory)
        except TimeoutError as error:
            raise _failed(FaultKind.CONNECT_TIMEOUT, f"no connection within {timeout_s:g} s", error) from error
        except socket.gaierror as error:
            raise _failed(FaultKind.DNS, f"cannot resolve {origin.host}", error) from error
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise _failed(FaultKind.TLS, "TLS handshake failed", error) from error
        except OSError as error:
            broken = isinstance(error, ConnectionResetError | ConnectionAbortedError | BrokenPipeError)
            kind = FaultKind.TLS if broken and origin.scheme == "https" else FaultKind.CONNECT
            raise _failed(kind, "cannot connect", error) from error

    async def _direct(self, origin: Origin, factory: Callable[[], P]) -> P:
        secure = origin.scheme == "https"
        _, protocol = await asyncio.get_running_loop().create_connection(
            factory,
            origin.host,
            origin.port,
            ssl=self._tls if secure else None,
            server_hostname=origin.host if secure else None,
        )
        return protocol

    async def _through(self, proxy: tuple[str, int], origin: Origin, factory: Callable[[], P]) -> P:
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(_Tunnel, *proxy)
        try:
            target = origin.authority if b":" in origin.authority else b"%b:%d" % (origin.authority, origin.port)
            transport.write(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, self._proxy_fields))
            await tunnel.opened
            protocol = factory()
            if origin.scheme == "https":
                secured = await loop.start_tls(transport, protocol, self._tls, server_hostname=origin.host)
                assert secured is not None  # only for transports that are none of asyncio's
                protocol.connection_made(secured)
            else:
                transport.set_protocol(protocol)
                protocol.connection_made(transport)
        except BaseException:
            transport.abort()
            raise
        return protocol


class _Tunnel(asyncio.Protocol):
    """Reads the proxy's answer to CONNECT, and nothing behind it."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = bytearray()

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= _MAX_PROXY_HEAD:
            return
        if end < 0 or end + 4 != len(self._head):
            self._refuse(FaultKind.PROTOCOL, "the proxy's answer is not one to CONNECT")
        elif _PROXY_OK.match(self._head):
            if not self.opened.done():
                self.opened.set_result(None)
        else:
            status = bytes(self._head[9:12]).decode("ascii", errors="replace")
            self._refuse(FaultKind.CONNECT, f"the proxy refused the tunnel with status {status}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._refuse(FaultKind.CONNECT, "the proxy closed the connection")

    def _refuse(self, kind: FaultKind, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(UpstreamError(kind, why, sent=False))
            self.opened.exception()  # seen, also when nobody waits any more


def _failed(kind: FaultKind, why: str, error: BaseException) -> UpstreamError:
    cause = type(error).__name__
    reason = (
        getattr(error, "verify_message", None) or getattr(error, "reason", None) or getattr(error, "strerror", None)
    )
    return UpstreamError(kind, f"{why} ({cause}: {str(reason)[:120]})" if reason else f"{why} ({cause})", sent=False)
