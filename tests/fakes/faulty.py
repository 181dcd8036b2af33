"""A stand-in for the Codex backend that misbehaves on purpose, down to single bytes. For tests only.

    async with FaultyUpstream() as up:
        up.default = modes.good()
        up.per_account["acct-1"] = statuses.usage_limit(resets_in_s=60)
        up.per_token["token-2"] = streams.cut(after=3)
        up.next(modes.rst_pre(), modes.good())
        ... a client is pointed at up.base_url ...
        await up.until(lambda: up.aborted == 1)

Which mode answers ``POST /backend-api/codex/responses``: the queue of the account, the queue of all (``next``), then
``per_token``, then ``per_account``, then ``default``. ``refuse()``, ``swallow()`` and ``listen()`` change the listener
on the same port. It also serves the models list, ``wham/accounts/check`` and ``wham/usage``; ``routes`` scripts any
other path. It counts and records what it saw; it never raises into a test. OAuth is not its business.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from tests.fakes import faulty_events as events
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_statuses as statuses
from tests.fakes import faulty_streams as streams
from tests.fakes.faulty_tls import Certificate, make_identity
from tests.fakes.faulty_wire import Mode, NotHttp, PeerLeft, Seen, Wire

__all__ = ["Certificate", "FaultyUpstream", "Mode", "Seen", "events", "modes", "statuses", "streams"]

RESPONSES = "/backend-api/codex/responses"


class FaultyUpstream:
    """One listener on loopback with its script and its counters; an async context manager.

    Script: ``default``, ``per_token``, ``per_account``, ``routes`` (path without query -> mode), ``models`` and
    ``models_by_account`` (slugs), ``on_client_hello`` (what a plain listener answers when it is asked by TLS).
    Counters: ``connections``, ``open_connections``, ``requests`` and its two Counters (``responses`` path only),
    ``other_requests`` (by path), ``open_streams``, ``aborted`` (the peer left before the mode was through),
    ``finished``, ``bytes_written``, ``canary_hits``, ``half_requests``. ``seen``: the last ``keep`` requests.
    """

    def __init__(
        self, *, certificate: Certificate | None = None, keep: int = 1000, keep_body_bytes: int = 1 << 20, port: int = 0
    ) -> None:
        self.default: Mode = modes.good()
        self.per_token: dict[str, Mode] = {}
        self.per_account: dict[str, Mode] = {}
        self.routes: dict[str, Mode] = {}
        self.models: list[str] = ["gpt-5.5", "gpt-5.1-codex"]
        self.models_by_account: dict[str, list[str]] = {}
        self.on_client_hello: Mode = modes.garbage(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        self.seen: deque[Seen] = deque(maxlen=keep)
        self.requests = self.connections = self.open_connections = self.open_streams = 0
        self.aborted = self.finished = self.bytes_written = self.canary_hits = self.half_requests = 0
        self.requests_by_account: Counter[str] = Counter()
        self.requests_by_token: Counter[str] = Counter()
        self.other_requests: Counter[str] = Counter()
        self.ca_pem = b""
        self.port = port
        self._keep_body_bytes = keep_body_bytes
        self._certificate = certificate
        self._tls: ssl.SSLContext | None = None
        self._queue: deque[Mode] = deque()
        self._queues: dict[str, deque[Mode]] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._canary: asyncio.Server | None = None
        self._canary_url = ""
        self._sockets: list[socket.socket] = []

    # --- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._certificate is not None:
            identity = make_identity(self._certificate)
            self._tls, self.ca_pem = identity.context, identity.ca_pem
        self._canary = await asyncio.start_server(self._canary_hit, "127.0.0.1", 0)
        self._canary_url = f"http://127.0.0.1:{self._canary.sockets[0].getsockname()[1]}/stolen"
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        if self._canary is not None:
            self._canary.close()
        await self.drop_connections()

    async def listen(self) -> None:
        """Accepts connections (again), on the port it had before. Does nothing while it does."""
        if self._server is not None:
            return
        self.refuse()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """New connections are refused; those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def swallow(self) -> None:
        """A black hole: the SYN of a new connection gets no answer, because the backlog is full."""
        self.refuse()
        hole = socket.socket()
        hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        hole.bind(("127.0.0.1", self.port))
        hole.listen(0)
        self._sockets.append(hole)
        loop = asyncio.get_running_loop()
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            self._sockets.append(filler)
            try:
                await asyncio.wait_for(loop.sock_connect(filler, ("127.0.0.1", self.port)), 0.1)
            except TimeoutError:
                return
        raise RuntimeError("the backlog does not fill up on this kernel")

    async def drop_connections(self) -> None:
        """Closes every connection that is open, whatever it is doing."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- script -----------------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """For ``[upstream] base_url``."""
        return f"{self.origin}/backend-api/codex"

    @property
    def origin(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    def next(self, *queued: Mode, account: str | None = None) -> None:
        """The next requests (of ``account`` when named) are answered by these modes, one each, in order."""
        (self._queue if account is None else self._queues.setdefault(account, deque())).extend(queued)

    @property
    def queued(self) -> int:
        """Modes of ``next`` that no request has taken yet."""
        return len(self._queue) + sum(len(queue) for queue in self._queues.values())

    def open_gate(self, name: str = "go") -> None:
        """Lets every mode pass that waits at the gate ``name``, now and later."""
        self._gates.setdefault(name, asyncio.Event()).set()

    async def until(self, true: Callable[[], bool], *, timeout_s: float = 5.0) -> None:
        """Returns when ``true()`` holds; it is looked at after every change. TimeoutError names the counters."""
        try:
            async with asyncio.timeout(timeout_s):
                while not true():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"did not come true within {timeout_s:g} s: {self!r}") from None

    def __repr__(self) -> str:
        names = "connections open_connections requests open_streams aborted finished half_requests bytes_written"
        return f"FaultyUpstream({', '.join(f'{name}={getattr(self, name)}' for name in names.split())})"

    # --- connections ------------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_connections += 1
        wire = Wire(reader, writer, self._wrote, lambda name: self._gates.setdefault(name, asyncio.Event()).wait())
        try:
            while not wire.closed and await self._serve_one(wire):
                self._changed.set()
        except asyncio.CancelledError:
            wire.abort()
        finally:
            if not wire.closed:
                wire.abort()
            self._tasks.discard(task)
            self.open_connections -= 1
            self._changed.set()

    async def _serve_one(self, wire: Wire) -> bool:
        """One request and its answer; False: the connection is done with."""
        try:
            seen, mode = await self._read(wire)
        except NotHttp:
            seen, mode = Seen(0, "", "", (), b""), self.on_client_hello
        except (PeerLeft, ValueError, ConnectionError):
            return False
        self._changed.set()
        whole = await self._answer(wire, mode, seen)
        if whole and mode.read == "head" and not wire.closed:
            await wire.close()
        return whole and not wire.closed

    async def _read(self, wire: Wire) -> tuple[Seen, Mode]:
        head = await wire.read_head()
        first, *lines = head[:-4].split(b"\r\n")
        method, path, _version = first.decode("latin-1").split(" ", 2)
        fields = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        seen = Seen(0, method, path, fields, head, canary_url=self._canary_url)
        mode = self._choose(seen)
        body = b""
        if mode.read == "request":
            try:
                body = await wire.read_body(fields)
            except (PeerLeft, ConnectionError):
                self.half_requests += 1
                raise
        seen = replace(seen, number=self.requests, body=body[: self._keep_body_bytes], body_bytes=len(body))
        self.seen.append(seen)
        return seen, mode

    def _choose(self, seen: Seen) -> Mode:
        path = seen.path.partition("?")[0]
        if path != RESPONSES or seen.method != "POST":
            self.other_requests[path] += 1
            return self.routes.get(path) or self._plain(path, seen)
        self.requests += 1
        self.requests_by_account[seen.account] += 1
        self.requests_by_token[seen.token] += 1
        self._changed.set()
        for queue in (self._queues.get(seen.account), self._queue):
            if queue:
                return queue.popleft()
        return self.per_token.get(seen.token) or self.per_account.get(seen.account) or self.default

    async def _answer(self, wire: Wire, mode: Mode, seen: Seen) -> bool:
        """Plays the mode while it watches for the peer's departure; True: played to its end."""
        play = asyncio.create_task(wire.play(mode.steps(seen)))
        gone = asyncio.create_task(wire.departure())
        self.open_streams += 1
        try:
            await asyncio.wait({play, gone}, return_when=asyncio.FIRST_COMPLETED)
            whole = play.done() and play.exception() is None
            if whole:
                self.finished += 1
            else:
                self.aborted += 1
                wire.abort()
            return whole
        finally:
            self.open_streams -= 1
            for task in (play, gone):
                task.cancel()
            await asyncio.gather(play, gone, return_exceptions=True)
            self._changed.set()

    def _wrote(self, count: int) -> None:
        self.bytes_written += count
        self._changed.set()

    async def _canary_hit(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.canary_hits += 1
        self._changed.set()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    # --- what else the backend serves -------------------------------------------------------------------------------

    def _plain(self, path: str, seen: Seen) -> Mode:
        body: dict[str, object]
        if path == "/backend-api/codex/models":
            slugs = self.models_by_account.get(seen.account, self.models)
            body = {"models": [_model(slug) for slug in slugs]}
        elif path == "/backend-api/wham/accounts/check":
            free = "NO_CONSTRAINT"
            account = {"id": seen.account, "plan_type": "pro", "structure": "personal"}
            account |= {"workspace_backend_origin": free, "account_routing_override": free}
            body = {"accounts": [account], "default_account_id": seen.account}
        elif path == "/backend-api/wham/usage":
            window = {"used_percent": 12, "limit_window_seconds": 18_000, "reset_after_seconds": 100}
            body = {
                "plan_type": "pro",
                "rate_limit": {"allowed": True, "limit_reached": False, "primary_window": window},
            }
        else:
            return statuses.status(404, json.dumps({"detail": "Not Found"}).encode())
        return statuses.status(200, body)


def _model(slug: str) -> dict[str, object]:
    efforts = [{"effort": effort, "description": effort} for effort in ("low", "medium", "high")]
    return {
        "slug": slug,
        "display_name": slug,
        "description": slug,
        "default_reasoning_level": "medium",
        "supported_reasoning_levels": efforts,
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": True,
        "priority": 1,
        "base_instructions": "",
        "supports_reasoning_summaries": True,
        "support_verbosity": False,
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": True,
        "experimental_supported_tools": [],
        "context_window": 272_000,
    }
