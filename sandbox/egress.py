"""The one way out of a container: a Unix socket, behind which are the gateway and a proxy with an allow-list.

    Proxy-Authorization in the first head   CONNECT host:443, or GET http://... : to the internet, as the grant says
    none                                    POST /v1/responses and little else, byte for byte to the gateway

Rules that hold:

* a connection is decided once, by its first head; every later request on a connection to the gateway is checked like
  the first, and a proxied one carries one request;
* a host is resolved once, private and special addresses are refused, and the connection goes to the checked address;
* nothing is put into or taken out of what goes to the gateway; who may do what there, the task's key says;
* a grant ends at its deadline, at its bytes, or by ``revoke``, and its connections with it, at once;
* all of it is bounded: connections in all, per token and per key, heads, silence; every decision is told.

It starts tasks of its own: one per connection (asyncio's server does) and two for its directions; they end with the
connection, and ``close`` ends all. Wires are in egress_wires, heads in egress_head, grants in egress_policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ops.addresses import AddressRefused, Network, Resolver, checked_address
from ops.clock import Clock
from sandbox.egress_head import (
    HEAD_MAX,
    BadHead,
    Head,
    Target,
    check_for_gateway,
    origin_form,
    parse_head,
    proxy_target,
)
from sandbox.egress_policy import Decision, EgressRules, Grant, Grants, Refused, Teller
from sandbox.egress_wires import Flow, Silence, pass_body, pump
from sandbox.types import NetworkPolicy
from store.records import Secret

PATH_MAX: Final = 100
_HEAD_END: Final = b"\r\n\r\n"
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REASONS: Final = {
    400: ("Bad Request", "invalid_request_error", "invalid_request"),
    403: ("Forbidden", "permission_error", "forbidden"),
    407: ("Proxy Authentication Required", "authentication_error", "proxy_token_invalid"),
    429: ("Too Many Requests", "rate_limit_error", "rate_limited"),
    431: ("Request Header Fields Too Large", "invalid_request_error", "headers_too_large"),
    502: ("Bad Gateway", "server_error", "upstream_error"),
}


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where the gateway listens. ``tls``: None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str) -> GatewayAddress:
        """Raises ValueError for what is not an http or https address of a server."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError("sandbox.gateway_url must be http://HOST:PORT or https://HOST:PORT")
        secure = parts.scheme == "https"
        return cls(
            parts.hostname, parts.port or (443 if secure else 80), ssl.create_default_context() if secure else None
        )


class EgressServer:
    """One per worker. ``report`` hears of every decision; it must not block or raise.

    ``private`` are networks that may be reached although they are not public (tests, and an operator's own mirror).
    """

    def __init__(
        self,
        socket_path: Path,
        gateway: GatewayAddress,
        clock: Clock,
        report: Callable[[Decision], None],
        rules: EgressRules | None = None,
        *,
        resolve: Resolver | None = None,
        private: Sequence[Network] = (),
    ) -> None:
        self._path = socket_path
        self._gateway = gateway
        self._clock = clock
        self._rules = rules or EgressRules()
        self._teller = Teller(report, self._rules)
        self._resolve = resolve
        self._private = private
        self._grants = Grants()
        self._by_key: Counter[bytes] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def grant(self, token: Secret, name: str, policy: NetworkPolicy, deadline_s: float) -> None:
        """From now on ``token`` opens the proxy as ``policy`` says, until ``deadline_s`` (monotonic). ``name`` is for
        the log and for ``revoke``. Raises ValueError for a token shorter than 32 characters or given before."""
        self._grants.add(token, Grant(name, policy, deadline_s))

    def revoke(self, name: str) -> int:
        """Ends the grants of that name and their connections at once; how many connections that were."""
        tasks = [task for grant in self._grants.remove(name) for task in grant.tasks]
        for task in tasks:
            task.cancel()
        return len(tasks)

    async def start(self) -> None:
        """Listens. Raises OSError, and ValueError for a path that is too long for a socket."""
        if len(bytes(self._path)) > PATH_MAX:
            raise ValueError(f"the path {self._path} is too long for a socket: choose a shorter sandbox.folder")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.parent.chmod(0o755)
        self._server = await asyncio.start_unix_server(self._connected, self._path, limit=HEAD_MAX)
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Ends every connection; the socket is gone afterwards."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    @property
    def connections(self) -> int:
        return len(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= self._rules.connections:
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._talk(task, reader, writer)
        except (Silence, EOFError, OSError):
            pass  # the connection ends; there is nobody to tell
        except asyncio.CancelledError:
            writer.transport.abort()  # revoked, or the end of the server: nothing more goes out
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _talk(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await _first_head(reader, self._rules.head_s)
            if head is None:
                return
            if head.is_proxied:
                await self._proxy(task, head, reader, writer)
            else:
                await self._pipe(head, reader, writer)
        except BadHead as error:
            await _refuse(writer, error)

    # -- to the gateway ------------------------------------------------------------------------------------------

    async def _pipe(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        check_for_gateway(head)
        key = _key_of(head)
        if self._by_key[key] >= self._rules.grant_connections:
            raise BadHead("too many connections with this key", 429)
        self._by_key[key] += 1
        try:
            place = self._gateway
            opening = asyncio.open_connection(place.host, place.port, ssl=place.tls)
            async with _opened(opening, self._rules.connect_s) as (gateway_reader, gateway_writer):
                flow = Flow(self._clock, self._rules.gateway_idle_s)
                up = self._requests(flow, head, reader, gateway_writer)
                await _both(up, pump(flow, gateway_reader, writer, up=False), until_down=True)
        finally:
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]

    async def _requests(
        self, flow: Flow, first: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Passes request after request on, each checked, to the end."""
        head: Head | None = first
        while head is not None:
            check_for_gateway(head)
            if head.values("authorization") and _key_of(head) != _key_of(first):
                raise BadHead("a connection has one key", 403)
            flow.passed(len(head.raw), up=True)
            writer.write(head.raw)
            await pass_body(flow, reader, writer, head.length)
            await flow.drain(writer)
            # an answer may take long: only when it is silent too, the wait for the next request is over
            head = await _read_head(flow.patiently(lambda: reader.readuntil(_HEAD_END)))
        if writer.can_write_eof():
            writer.write_eof()

    # -- to the internet -----------------------------------------------------------------------------------------

    async def _proxy(
        self, task: asyncio.Task[None], head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        grant = self._grants.of(head, self._clock.monotonic_s())
        if grant is None:
            raise BadHead("the proxy's token is missing, wrong or over", 407)
        target = Target("", 0)
        flow = Flow(self._clock, self._rules.idle_s, lambda size, _: _spend(grant, size))
        reason: str | None = None
        grant.tasks.add(task)
        try:
            target = proxy_target(head)
            grant.check(head.method, target, self._rules, self._clock.monotonic_s())
            address = await self._address(target)
            async with asyncio.timeout(grant.deadline_s - self._clock.monotonic_s()):
                opening = asyncio.open_connection(address, target.port)
                async with _opened(opening, self._rules.connect_s) as (there_reader, there_writer):
                    reason = ""
                    await _carry(flow, head, target, (reader, writer), (there_reader, there_writer))
        except (Refused, AddressRefused) as error:
            reason = str(error)
            raise BadHead(reason, 403) from error
        except BadHead as error:
            reason = reason or str(error)
            raise
        finally:
            grant.tasks.discard(task)
            decision = Decision(
                grant.name,
                allowed=not reason and reason is not None,
                host=target.host[:253],
                port=target.port,
                method=head.method,
                reason="cut off" if reason is None else reason,
                sent_bytes=flow.sent_bytes,
                received_bytes=flow.received_bytes,
            )
            self._teller.tell(grant, decision)

    async def _address(self, target: Target) -> str:
        try:
            async with asyncio.timeout(self._rules.connect_s):
                return await checked_address(target.host, target.port, resolve=self._resolve, private=self._private)
        except TimeoutError:
            raise Refused("the name does not resolve in time") from None


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _carry(flow: Flow, head: Head, target: Target, here: Ends, there: Ends) -> None:
    if head.method == "CONNECT":
        here[1].write(_ESTABLISHED)
        await _both(pump(flow, here[0], there[1], up=True), pump(flow, there[0], here[1], up=False))
        return
    raw = origin_form(head, target)
    flow.passed(len(raw), up=True)
    there[1].write(raw)
    await pass_body(flow, here[0], there[1], head.length)
    await flow.drain(there[1])
    await pump(flow, there[0], here[1], up=False)


async def _first_head(reader: asyncio.StreamReader, wait_s: float) -> Head | None:
    """The first head, None when there is none. Raises BadHead, Silence, EOFError."""
    try:
        async with asyncio.timeout(wait_s):
            return await _read_head(reader.readuntil(_HEAD_END))
    except TimeoutError:
        raise Silence("no whole head came in time") from None


async def _read_head(reading: Coroutine[Any, Any, bytes]) -> Head | None:
    """The head that ``reading`` comes to, None at the end. Raises BadHead, EOFError."""
    try:
        return parse_head(await reading)
    except asyncio.LimitOverrunError:
        raise BadHead("the head is too large", 431) from None
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None


@contextlib.asynccontextmanager
async def _opened(opening: Coroutine[Any, Any, Ends], wait_s: float) -> AsyncIterator[Ends]:
    """The other side, closed at the end. Raises BadHead (502) when it cannot be had."""
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await opening
    except (OSError, TimeoutError):
        raise BadHead("the other side cannot be reached", 502) from None
    try:
        yield reader, writer
    finally:
        writer.close()


async def _both(up: Coroutine[Any, Any, None], down: Coroutine[Any, Any, None], *, until_down: bool = False) -> None:
    """Runs both directions to their ends; ``until_down``: only as long as the one to the container goes on. The first
    failure ends both and is raised."""
    rising, falling = asyncio.create_task(up), asyncio.create_task(down)
    tasks = {rising, falling}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION if not until_down else asyncio.FIRST_COMPLETED)
        if until_down and rising.done() and rising.exception() is None:
            await asyncio.wait({falling})
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(rising, falling, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _refuse(writer: asyncio.StreamWriter, error: BadHead) -> None:
    """An answer in OpenAI's shape; the connection ends behind it."""
    phrase, kind, code = _REASONS[error.status]
    inner = {"message": f"Not from a container: {error}.", "type": kind, "code": code, "param": None}
    body = msgspec.json.encode({"error": inner})
    lines = [f"HTTP/1.1 {error.status} {phrase}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    if error.status == 407:
        lines.append('Proxy-Authenticate: Basic realm="sandbox"')
    writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(1.0):
            await writer.drain()


def _key_of(head: Head) -> bytes:
    return hashlib.sha256("\n".join(head.values("authorization")).encode("latin-1")).digest()


def _spend(grant: Grant, size: int) -> None:
    grant.used_bytes += size
    if grant.left_bytes < 0:
        raise Silence(f"the limit of {grant.policy.max_mib} MiB is reached")
