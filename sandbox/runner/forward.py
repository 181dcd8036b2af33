"""How does a program in a container without a network reach the gateway? Two loopback ports, each to one Unix socket.

The model port pipes bytes as they are. The proxy port speaks HTTP proxy to programs of this container and adds the
phase's ``Proxy-Authorization``, so that no program (and no log of one) ever holds the token. Rules that hold:

* only 127.0.0.1 listens; only the one socket is connected to; when it is not there a connection is closed (model
  port) or answered with 502 (proxy port), and the next one tries again;
* at the proxy port a connection carries one request: CONNECT, or absolute-form with at most a body of stated length.
  Anything else is answered with 400: the token is never sent along with a request that is not for the proxy;
* a head is at most 64 KiB and must arrive within 30 s; bodies are piped, never collected.

Threads, because the runner waits for its child in its main thread; they are daemons and end with the process.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

HEAD_MAX_BYTES = 64 << 10
HEAD_WITHIN_S = 30.0
PIECE_BYTES = 64 << 10
_DROPPED = (b"proxy-authorization", b"proxy-connection", b"connection", b"keep-alive")


class BadHead(Exception):
    """The request is not one for a proxy."""


def listen(port: int, serve: Callable[[socket.socket], None]) -> int:
    """Serves connections to 127.0.0.1:``port`` (0: any) each in a thread; returns the port. Raises OSError."""
    server = socket.create_server(("127.0.0.1", port), backlog=128)

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                continue
            threading.Thread(target=_served, args=(serve, client), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(server.getsockname()[1])


def _served(serve: Callable[[socket.socket], None], client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        serve(client)


def model_port(path: Path) -> Callable[[socket.socket], None]:
    """Pipes a connection to the socket at ``path``."""

    def serve(client: socket.socket) -> None:
        with _connected(path) as gateway:
            _pipe(client, gateway)

    return serve


def proxy_port(path: Path, token: str, user: str = "setup") -> Callable[[socket.socket], None]:
    """Puts the token to one request and pipes it to the socket at ``path``."""
    credential = base64.b64encode(f"{user}:{token}".encode())

    def serve(client: socket.socket) -> None:
        client.settimeout(HEAD_WITHIN_S)
        try:
            head, rest = _read_head(client)
            sent, body_bytes = authorized(head, credential)
        except BadHead as error:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + str(error).encode() + b"\n")
            return
        client.settimeout(None)
        try:
            gateway = _connected(path)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\nthe gateway cannot be reached\n")
            return
        with gateway:
            gateway.sendall(sent + (rest if body_bytes is None else rest[:body_bytes]))
            left = None if body_bytes is None else max(0, body_bytes - len(rest))
            _pipe(client, gateway, left)

    return serve


def authorized(head: bytes, credential: bytes) -> tuple[bytes, int | None]:
    """The head (up to and with its empty line) with the credential, and how long its body is (None: a tunnel).

    Raises BadHead.
    """
    first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        raise BadHead("this is no HTTP/1.1 request")
    tunnel = words[0] == b"CONNECT"
    if not tunnel and not words[1].lower().startswith(b"http://"):
        raise BadHead("this port is a proxy; it takes CONNECT and absolute addresses")
    kept, body_bytes = [], 0
    for line in fields:
        name = line.partition(b":")[0].strip().lower()
        if name == b"transfer-encoding":
            raise BadHead("a body must state its length")
        if name == b"content-length":
            value = line.partition(b":")[2].strip()
            if not value.isdigit():
                raise BadHead("the length of the body is no number")
            body_bytes = int(value)
        if name not in _DROPPED:
            kept.append(line)
    added = [b"Proxy-Authorization: Basic " + credential, *([] if tunnel else [b"Connection: close"])]
    return b"\r\n".join([first, *kept, *added]) + b"\r\n\r\n", None if tunnel else body_bytes


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    read = b""
    while b"\r\n\r\n" not in read:
        if len(read) > HEAD_MAX_BYTES:
            raise BadHead("the head of the request is too long")
        try:
            piece = client.recv(PIECE_BYTES)
        except TimeoutError:
            raise BadHead("the request did not come") from None
        if not piece:
            raise BadHead("the request broke off")
        read += piece
    head, _, rest = read.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _connected(path: Path) -> socket.socket:
    gateway = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        gateway.connect(str(path))
    except OSError:
        gateway.close()
        raise
    return gateway


def _pipe(client: socket.socket, gateway: socket.socket, left: int | None = None) -> None:
    """Both directions until both have ended; ``left``: how much the client may still say (None: without end)."""
    up = threading.Thread(target=_copy, args=(client, gateway, left), daemon=True)
    up.start()
    _copy(gateway, client, None)
    if left is not None:  # the answer is whole; who says more is not listened to
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
    up.join()


def _copy(source: socket.socket, sink: socket.socket, left: int | None) -> None:
    """Copies until the end, then passes the end on. A side that breaks ends the other."""
    try:
        while left is None or left > 0:
            piece = source.recv(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
            if not piece:
                break
            sink.sendall(piece)
            left = None if left is None else left - len(piece)
        if left is None:
            sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
