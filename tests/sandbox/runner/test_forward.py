"""The two ports: bytes through, the token put to proxy requests and to nothing else."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.runner.forward import HEAD_MAX_BYTES, BadHead, authorized, listen, model_port, proxy_port

CREDENTIAL = base64.b64encode(b"setup:t0ken")


class Server:
    """A Unix socket that keeps what it read and answers by echo, or with one answer."""

    def __init__(self, path: Path, answer: bytes | None) -> None:
        self.read: list[bytes] = []
        self._answer = answer
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                if self._answer is not None:
                    self.read.append(client.recv(1 << 20))
                    client.sendall(self._answer)
                    continue
                while piece := client.recv(1 << 16):
                    client.sendall(piece)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gw.sock"


@pytest.fixture
def echo(path: Path) -> Iterator[Server]:
    server = Server(path, None)
    yield server
    server.close()


@pytest.fixture
def proxy(path: Path) -> Iterator[Server]:
    server = Server(path, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello")
    yield server
    server.close()


def asked(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        read = b""
        while piece := client.recv(1 << 16):
            read += piece
        return read


def test_the_model_port_pipes_bytes_and_ends(path: Path, echo: Server) -> None:
    port = listen(0, model_port(path))
    data = bytes(range(256)) * 8000
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:

        def write() -> None:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        read = b""
        while piece := client.recv(1 << 16):
            read += piece
        writer.join()
    assert read == data


def test_without_a_gateway_a_connection_is_closed_and_the_next_one_tries_again(path: Path) -> None:
    port = listen(0, model_port(path))
    assert asked(port, b"") == b""
    server = Server(path, None)
    assert asked(port, b"now") == b"now"
    server.close()
    path.unlink()
    assert asked(listen(0, proxy_port(path, "t0ken")), b"CONNECT a:443 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 502 ")


def test_the_proxy_port_adds_the_token(path: Path, proxy: Server) -> None:
    port = listen(0, proxy_port(path, "t0ken"))
    answer = asked(port, b"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\n\r\n")
    assert answer.endswith(b"hello")
    assert proxy.read == [
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic "
        + CREDENTIAL
        + b"\r\nConnection: close\r\n\r\n"
    ]


def test_a_second_request_on_the_connection_is_not_passed_on(path: Path, proxy: Server) -> None:
    port = listen(0, proxy_port(path, "t0ken"))
    one = b"POST http://a/ HTTP/1.1\r\nContent-Length: 2\r\n\r\nxy"
    assert asked(port, one + b"GET http://b/ HTTP/1.1\r\n\r\n").count(b"HTTP/1.1 200") == 1
    assert len(proxy.read) == 1
    assert proxy.read[0].endswith(b"\r\n\r\nxy")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: gw\r\n\r\n",
        b"GET https://a/ HTTP/1.1\r\n\r\n",
        b"GET http://a/\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"POST http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST http://a/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_request_for_a_proxy_never_gets_the_token(path: Path, proxy: Server, head: bytes) -> None:
    with pytest.raises(BadHead):
        authorized(head, CREDENTIAL)
    assert asked(listen(0, proxy_port(path, "t0ken")), head).startswith(b"HTTP/1.1 400 ")
    assert proxy.read == []


@pytest.mark.parametrize("data", [b"GET http://a/ HTTP/1.1\r\nHost: a\r\n", b"x" * (HEAD_MAX_BYTES + 9)])
def test_a_head_that_breaks_off_or_has_no_end_is_refused(path: Path, proxy: Server, data: bytes) -> None:
    assert asked(listen(0, proxy_port(path, "t0ken")), data).startswith(b"HTTP/1.1 400 ")
    assert proxy.read == []
