"""The way out of a container, over real sockets: the gateway by the letter, the internet by the list."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.addresses import networks
from ops.clock import SystemClock
from sandbox.egress import EgressServer, GatewayAddress
from sandbox.egress_policy import Decision, EgressRules
from sandbox.types import NetworkPolicy
from store.records import Secret

TOKEN = "e" * 43
CALL = b"POST /v1/responses HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer k\r\nContent-Length: 4\r\n\r\nbody"
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Other:
    """A server that keeps what it gets: ``answer`` is sent for every piece, or at the end when ``at_end``."""

    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    at_end: bool = False
    close_after: bool = False
    drips: int = 1
    got: bytearray = field(default_factory=bytearray)
    connections: int = 0
    ended: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                self.got += piece
                for n in range(0 if self.at_end else self.drips):
                    await asyncio.sleep(0.05 if n else 0)
                    writer.write(self.answer)
                if self.close_after:
                    break
            if self.at_end:
                writer.write(self.answer)
            await writer.drain()
        self.ended += 1
        writer.close()


@dataclass
class House:
    """The egress server with a gateway and one host of the internet behind it."""

    server: EgressServer
    path: Path
    gateway: Other
    web: Other
    told: list[Decision]

    async def connect(self) -> Ends:
        return await asyncio.open_unix_connection(self.path)

    async def ask(self, data: bytes, *, end: bool = True) -> bytes:
        """Sends ``data`` and reads to the end."""
        reader, writer = await self.connect()
        writer.write(data)
        if end:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return answer

    def grant(self, *domains: str, token: str = TOKEN, max_mib: int = 1, for_s: float = 60.0, **policy: object) -> None:
        wanted = NetworkPolicy(domains, max_mib=max_mib, **policy)  # type: ignore[arg-type]
        self.server.grant(Secret(token), "task-1/1", wanted, SystemClock().monotonic_s() + for_s)


def proxied(line: str, *fields: str, token: str = TOKEN) -> bytes:
    basic = base64.b64encode(f"setup:{token}".encode()).decode()
    return "\r\n".join([line, "Host: x", f"Proxy-Authorization: Basic {basic}", *fields, "", ""]).encode()


async def loopback(host: str, port: int) -> Sequence[str]:
    if host == "nowhere.test":
        raise OSError
    return ["10.0.0.7"] if host == "inside.test" else ["127.0.0.1"]


@contextlib.asynccontextmanager
async def house(rules: EgressRules | None = None, *, private: bool = True) -> AsyncIterator[House]:
    gateway, web, told = Other(), Other(close_after=False), list[Decision]()
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in (gateway, web)]
    gateway.port, web.port = (one.sockets[0].getsockname()[1] for one in servers)
    wanted = rules or EgressRules()
    wanted = EgressRules(
        connect_ports=frozenset({web.port}),
        http_ports=frozenset({web.port}),
        connections=wanted.connections,
        grant_connections=wanted.grant_connections,
        head_s=wanted.head_s,
        idle_s=wanted.idle_s,
        gateway_idle_s=wanted.gateway_idle_s,
        told=wanted.told,
    )
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        path = Path(folder) / "run" / "gw.sock"
        server = EgressServer(
            path,
            GatewayAddress.of(f"http://127.0.0.1:{gateway.port}"),
            SystemClock(),
            told.append,
            wanted,
            resolve=loopback,
            private=networks(["127.0.0.0/8"]) if private else (),
        )
        await server.start()
        try:
            yield House(server, path, gateway, web, told)
        finally:
            await server.close()
            assert not path.exists()
            for one in servers:
                one.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# -- to the gateway


async def test_a_call_goes_to_the_gateway_byte_for_byte_and_back() -> None:
    async with house() as one:
        assert stat.S_IMODE(one.path.stat().st_mode) == 0o666
        assert stat.S_IMODE(one.path.parent.stat().st_mode) == 0o755
        one.gateway.at_end = True
        assert await one.ask(CALL) == one.gateway.answer
        assert bytes(one.gateway.got) == CALL
        chunked = CALL.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked").replace(
            b"body", b"4\r\nbody\r\n0\r\n\r\n"
        )
        one.gateway.got.clear()
        await one.ask(chunked)
        assert bytes(one.gateway.got) == chunked
        assert one.told == [], "the gateway keeps its own log"


async def test_every_request_of_a_connection_is_checked() -> None:
    async with house() as one:
        reader, writer = await one.connect()
        for _ in range(3):
            writer.write(CALL)
            assert await reader.readexactly(len(one.gateway.answer)) == one.gateway.answer
        writer.write(b"GET /admin/api/keys HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer k\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert status_of(answer) == 403
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "forbidden"
        assert b"/admin" not in one.gateway.got
        assert bytes(one.gateway.got) == CALL * 3
        await until(lambda: one.gateway.ended == 1)


@pytest.mark.parametrize(
    "second",
    [
        b"GET /metrics HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer k\r\n\r\n",
        CALL.replace(b"Bearer k", b"Bearer stolen"),
        CALL.replace(b"Host: g", b"Host: g\r\nProxy-Authorization: Basic " + base64.b64encode(f"s:{TOKEN}".encode())),
        b"CONNECT web.test:443 HTTP/1.1\r\nHost: g\r\n\r\n",
        b"garbage\r\n\r\n",
    ],
)
async def test_what_is_smuggled_behind_a_good_request_stays_here(second: bytes) -> None:
    async with house() as one:
        one.grant("web.test")
        one.gateway.answer = b""
        answer = await one.ask(CALL + second)
        assert status_of(answer) in (400, 403)
        assert bytes(one.gateway.got) == CALL
        assert one.web.connections == 0


async def test_a_length_that_lies_gets_no_second_request_past() -> None:
    hidden = b"GET /admin/api/keys HTTP/1.1\r\nHost: g\r\n\r\n"
    async with house() as one:
        one.gateway.answer = b""
        lying = CALL.replace(b"Content-Length: 4", b"Content-Length: 4\r\nTransfer-Encoding: chunked") + hidden
        assert status_of(await one.ask(lying)) == 400
        assert one.gateway.connections == 0
        await one.ask(CALL.replace(b"body", b"") + hidden[:4])
        assert bytes(one.gateway.got).endswith(b"GET ")


async def test_half_close_goes_across_and_the_answer_still_comes() -> None:
    async with house() as one:
        one.gateway.at_end = True
        one.gateway.answer = b"x" * 300_000
        assert len(await one.ask(CALL)) == 300_000


async def test_a_long_answer_is_no_silence_and_silence_is() -> None:
    async with house(EgressRules(gateway_idle_s=0.3)) as one:
        one.gateway.drips = 16
        answer = await one.ask(CALL, end=False)
        assert answer == one.gateway.answer * 16, "it took longer than the silence that is allowed"


async def test_a_gateway_that_is_away_is_said_so() -> None:
    async with house() as one:
        server = EgressServer(
            one.path.with_name("b.sock"), GatewayAddress("127.0.0.1", 1), SystemClock(), one.told.append
        )
        await server.start()
        reader, writer = await asyncio.open_unix_connection(one.path.with_name("b.sock"))
        writer.write(CALL)
        assert status_of(await reader.read()) == 502
        writer.close()
        await server.close()


async def test_heads_and_connections_are_bounded() -> None:
    async with house(EgressRules(head_s=0.2, connections=3, grant_connections=1)) as one:
        assert await one.ask(b"POST /v1/resp", end=False) == b"", "too slow"
        assert status_of(await one.ask(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000)) == 431
        await until(lambda: one.server.connections == 0)
        held = await one.connect()
        held[1].write(CALL)
        await held[0].readexactly(1)
        assert status_of(await one.ask(CALL)) == 429, "one connection per key"
        assert status_of(await one.ask(CALL.replace(b"Bearer k", b"Bearer other"), end=True)) == 200
        more = [await one.connect() for _ in range(3)]
        assert await asyncio.wait_for(more[2][0].read(), 5) == b"", "three in all"
        for _, writer in (held, *more):
            writer.close()


# -- to the internet


async def test_a_tunnel_to_a_host_of_the_list() -> None:
    async with house() as one:
        one.grant("*.test")
        reader, writer = await one.connect()
        writer.write(proxied(f"CONNECT Web.test:{one.web.port} HTTP/1.1"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
        one.web.at_end = True
        writer.write(b"\x16\x03\x01 anything")
        writer.write_eof()
        assert await reader.read() == one.web.answer
        writer.close()
        await until(lambda: bool(one.told))
        assert bytes(one.web.got) == b"\x16\x03\x01 anything"
        size = len(one.web.answer)
        assert one.told == [Decision("task-1/1", True, "web.test", one.web.port, "CONNECT", "", 12, size)]


async def test_plain_http_goes_in_origin_form_and_one_request_per_connection() -> None:
    async with house() as one:
        one.grant("web.test")
        one.web.close_after = True
        line = f"GET http://web.test:{one.web.port}/dists/stable HTTP/1.1"
        answer = await one.ask(proxied(line, "Accept: */*") + proxied("GET http://other.test/ HTTP/1.1"))
        assert answer == one.web.answer
        sent = bytes(one.web.got)
        assert sent.startswith(b"GET /dists/stable HTTP/1.1\r\nHost: web.test:")
        assert b"roxy" not in sent
        assert b"other.test" not in sent
        assert TOKEN.encode() not in sent
        assert one.told[0].allowed


@pytest.mark.parametrize(
    ("line", "status", "why"),
    [
        ("CONNECT other.test:{port} HTTP/1.1", 403, "not on this environment's list"),
        ("CONNECT web.test:22 HTTP/1.1", 403, "port 22"),
        ("CONNECT inside.test:{port} HTTP/1.1", 403, "private or special"),
        ("CONNECT nowhere.test:{port} HTTP/1.1", 403, "does not resolve"),
        ("CONNECT 169.254.169.254:{port} HTTP/1.1", 403, "list"),
        ("CONNECT 0x7f.1:{port} HTTP/1.1", 403, "list"),
        ("POST http://web.test:{port}/ HTTP/1.1", 403, "method POST"),
        ("GET http://web.test:{port}@other.test/ HTTP/1.1", 400, "no host"),
        ("GET /v1/models HTTP/1.1", 400, "the proxy takes"),
    ],
)
async def test_what_is_not_on_the_list_is_refused_and_told(line: str, status: int, why: str) -> None:
    async with house() as one:
        one.grant("web.test", "inside.test", "nowhere.test")
        answer = await one.ask(proxied(line.format(port=one.web.port)))
        assert status_of(answer) == status
        assert one.web.connections == one.gateway.connections == 0
        (told,) = one.told
        assert not told.allowed
        assert why in told.reason


async def test_a_private_address_is_refused_although_its_name_is_listed() -> None:
    async with house(private=False) as one:
        one.grant("web.test", "127.0.0.1", "169.254.169.254")
        for host in ("web.test", "127.0.0.1", "169.254.169.254"):
            assert status_of(await one.ask(proxied(f"CONNECT {host}:{one.web.port} HTTP/1.1"))) == 403
        assert one.web.connections == 0


async def test_without_a_grant_there_is_no_proxy() -> None:
    async with house() as one:
        line = f"CONNECT web.test:{one.web.port} HTTP/1.1"
        assert status_of(await one.ask(proxied(line))) == 407
        one.grant()
        assert status_of(await one.ask(proxied(line))) == 403, "no domains: nothing"
        one.grant("web.test", token="f" * 43, for_s=-1.0)
        assert status_of(await one.ask(proxied(line, token="f" * 43))) == 407, "over"
        assert one.web.connections == 0


async def test_revoking_ends_what_runs_and_nothing_else() -> None:
    async with house() as one:
        one.grant("web.test")
        reader, writer = await one.connect()
        writer.write(proxied(f"CONNECT web.test:{one.web.port} HTTP/1.1"))
        await reader.readuntil(b"\r\n\r\n")
        other = await one.connect()
        other[1].write(CALL)
        await other[0].readexactly(len(one.gateway.answer))
        assert one.server.revoke("task-1/1") == 1
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        await until(lambda: one.web.ended == 1)
        assert status_of(await one.ask(proxied(f"CONNECT web.test:{one.web.port} HTTP/1.1"))) == 407
        other[1].write(CALL)
        assert await other[0].readexactly(len(one.gateway.answer)) == one.gateway.answer
        for end in (writer, other[1]):
            end.close()


async def test_a_deadline_a_silence_and_the_bytes_end_a_tunnel() -> None:
    async with house(EgressRules(idle_s=0.3)) as one:
        connect = f"CONNECT web.test:{one.web.port} HTTP/1.1"
        one.grant("web.test", for_s=0.2, token="a" * 43)
        one.grant("web.test", token="b" * 43)
        for token in ("a" * 43, "b" * 43):
            answer = await one.ask(proxied(connect, token=token), end=False)
            assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"
        one.grant("web.test", token="c" * 43, max_mib=1)
        one.web.answer = b"x" * 4_000_000
        answer = await one.ask(proxied(connect, token="c" * 43) + b"go")
        assert len(answer) < 1_400_000
        refused = await one.ask(proxied(connect, token="c" * 43))
        assert status_of(refused) == 403
        assert b"limit of 1 MiB" in refused


async def test_a_grant_has_so_many_connections() -> None:
    async with house(EgressRules(grant_connections=2)) as one:
        one.grant("web.test")
        connect = proxied(f"CONNECT web.test:{one.web.port} HTTP/1.1")
        held = [await one.connect() for _ in range(2)]
        for reader, writer in held:
            writer.write(connect)
            await reader.readuntil(b"\r\n\r\n")
        refused = await one.ask(connect)
        assert (status_of(refused), b"too many connections" in refused) == (403, True)
        for _, writer in held:
            writer.close()


async def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    server = EgressServer(tmp_path / ("x" * 120), GatewayAddress("127.0.0.1", 1), SystemClock(), lambda told: None)
    with pytest.raises(ValueError, match="too long for a socket"):
        await server.start()


@pytest.mark.parametrize("url", ["ftp://a", "http://", "127.0.0.1:80", "http://a/path"])
def test_a_gateway_is_an_address_of_a_server(url: str) -> None:
    with pytest.raises(ValueError, match="gateway_url"):
        GatewayAddress.of(url)
    assert GatewayAddress.of("http://[::1]:8080/").port == 8080
    assert GatewayAddress.of("https://gateway.test").tls is not None
