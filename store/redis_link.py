"""How do we talk to one Redis server, within a bound, and what do its failures mean to the rest?

A RedisLink is a bounded pool of connections to one URL:

    redis://[user:password@]host[:port][/db]      rediss://... the same over TLS
    unix://[user:password@]/path/to/socket[?db=n]

TLS always verifies certificate and host name; ``?ca_file=``, ``?cert_file=`` and ``?key_file=`` name PEM files.

Rules that hold:

* ``timeout_s`` bounds a whole call: waiting for a free connection, connecting, sending and the answer. A call that
  runs out or is cancelled closes its connection, so that no late answer can be taken for another call's;
* every failure is an error of store.errors, translated here once. Wrong credentials are StoreUnusable, everything
  else is StoreUnavailable. Messages name the server and never hold the password;
* only what certainly was not sent, or what the caller declares safe to send ``again``, is tried a second time;
* a link belongs to the event loop that first uses it. A dead connection is noticed and replaced at its next use.

What it does not do: keys, records, judging what a lost answer means.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.resources
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import ParseResult, parse_qs, unquote, urlparse

from redis import exceptions as redis_errors
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, UnixDomainSocketConnection

from store.errors import StoreError, StoreUnavailable, StoreUnusable

Word: TypeAlias = bytes | str | int | float

SCHEMES: Final = ("redis://", "rediss://", "unix://")
_OPTIONS: Final = frozenset({"db", "ca_file", "cert_file", "key_file"})
_PORT: Final = 6379
_PAUSE_S: Final = 0.05  # between two tries to connect: a restarting server refuses at once
_SEND_FAILURES: Final = (redis_errors.RedisError, OSError, EOFError, ValueError, TypeError)
"""What the client raises; the last two when the other side does not speak the protocol."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a URL leads. The repr and ``text`` hold no password."""

    text: str
    kwargs: dict[str, Any] = field(repr=False)
    connection: type[AbstractConnection] = field(repr=False)


class _TlsConnection(Connection):
    """A connection over one TLS context for all: loading the authorities for each one costs tens of milliseconds."""

    def __init__(self, *, tls: ssl.SSLContext, **kwargs: Any) -> None:
        self._tls = tls
        super().__init__(**kwargs)

    def _connection_arguments(self) -> dict[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls}


def is_redis(url: str) -> bool:
    """Whether the URL is one of Redis; it may be malformed all the same."""
    return url.startswith(SCHEMES)


def parse_address(url: str) -> RedisAddress:
    """Raises StoreUnusable for a URL that cannot be used; the message does not repeat it, as it may hold a password."""
    if not is_redis(url):
        raise StoreUnusable("the Redis URL must begin with redis://, rediss:// or unix://")
    try:
        parts = urlparse(url)
        port = parts.port or _PORT
        options = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        db = int(options.pop("db", "") or (parts.path.strip("/") if parts.scheme != "unix" else "") or 0)
    except ValueError:
        raise StoreUnusable("the Redis URL is malformed; write redis://HOST:PORT/DB") from None
    if db < 0 or set(options) - _OPTIONS or (options and parts.scheme != "rediss"):
        raise StoreUnusable("the Redis URL has options that are not known; db, and with rediss ca_file, cert_file, "
                            "key_file, are")  # fmt: skip
    kwargs: dict[str, Any] = {"db": db}
    if parts.username:
        kwargs["username"] = unquote(parts.username)
    if parts.password:
        kwargs["password"] = unquote(parts.password)
    if parts.scheme == "unix":
        return _unix(parts, kwargs)
    if not parts.hostname:
        raise StoreUnusable("the Redis URL names no host; write redis://HOST:PORT/DB")
    kwargs |= {"host": unquote(parts.hostname), "port": port}
    text = f"Redis at {kwargs['host']}:{port}/{db}"
    if parts.scheme == "redis":
        return RedisAddress(text, kwargs, Connection)
    return RedisAddress(text, {**kwargs, "tls": _tls(options)}, _TlsConnection)


def _unix(parts: ParseResult, kwargs: dict[str, Any]) -> RedisAddress:
    path = unquote(parts.path)
    if not path.strip("/"):
        raise StoreUnusable("the Redis URL names no socket; write unix:///PATH")
    return RedisAddress(f"Redis at {path}", {**kwargs, "path": path}, UnixDomainSocketConnection)


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if "cert_file" in options:
            context.load_cert_chain(options["cert_file"], options.get("key_file"), password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise StoreUnusable(f"ca_file, cert_file or key_file of the Redis URL cannot be used ({why})") from None
    return context


@dataclass(frozen=True, slots=True)
class LuaScript:
    """A script as Redis runs it: one atomic step. ``sha`` is how the server knows it once it has seen the text."""

    text: bytes = field(repr=False)
    sha: str


def lua_script(*names: str) -> LuaScript:
    """The files ``store/lua/NAME.lua`` one after the other, as one script."""
    folder = importlib.resources.files("store") / "lua"
    text = b"\n".join((folder / f"{name}.lua").read_bytes() for name in names)
    return LuaScript(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def translated(error: BaseException, where: str, timeout_s: float) -> StoreError:
    """The error of this package for one of the client's. Nothing the server wrote is repeated but its error code."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, redis_errors.AuthenticationError | redis_errors.AuthenticationWrongNumberOfArgsError):
        return StoreUnusable(f"{where} refuses the user or the password; correct the URL")
    if isinstance(error, redis_errors.NoPermissionError) or "user executing the script" in str(error):
        return StoreUnusable(f"{where} does not let this user do what is needed; widen its ACL (docs/redis.md)")
    if isinstance(error, TimeoutError | redis_errors.TimeoutError):
        return StoreUnavailable(f"{where} did not answer within {timeout_s:g} s")
    for kinds, why in _REASONS:
        if isinstance(error, kinds):
            return StoreUnavailable(f"{where} {why}")
    if isinstance(error, redis_errors.ResponseError):
        return StoreUnavailable(f"{where} {_refusal(str(error))}")
    if isinstance(error, redis_errors.ConnectionError | OSError | EOFError):
        return StoreUnavailable(f"{where} cannot be reached or closed the connection; check that it runs")
    return StoreUnavailable(f"{where} does not answer as Redis does; check the address")


_REASONS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    ((redis_errors.BusyLoadingError,), "is loading its data; wait until it is ready"),
    ((redis_errors.ReadOnlyError,), "is a read-only replica; name the primary in the URL"),
    ((redis_errors.OutOfMemoryError,), "has no memory left (maxmemory); give it more"),
    (
        (redis_errors.AskError, redis_errors.ClusterError, redis_errors.TryAgainError),
        "belongs to a cluster and does not hold our keys now; name the node that does",
    ),
)

_REFUSALS: Final = {
    "LOADING": "is loading its data; wait until it is ready",
    "READONLY": "is a read-only replica; name the primary in the URL",
    "OOM": "has no memory left (maxmemory); give it more",
    "MISCONF": "cannot save to its disk; see its log",
    "NOREPLICAS": "has too few replicas to accept writes; see min-replicas-to-write",
    "WRONGTYPE": "holds keys of another program under our prefix; choose another store.redis_prefix",
    "BUSY": "is busy with a script; wait or restart it",
}


def _refusal(text: str) -> str:
    """For a refusal that came as a plain error, some from inside a script with words around its code."""
    for code, why in _REFUSALS.items():
        if code in text.partition(" script: ")[0].split() or f"-{code} " in text:
            return why
    code = text.split(" ", 1)[0]
    return f"refused a command ({code if code.isalpha() and code.isupper() else 'ERR'}); see its log"


class RedisLink:
    """A bounded pool to one server. Build it anywhere; use and close it on one event loop."""

    def __init__(self, url: str, *, name: str, timeout_s: float, retries: int = 0, connections: int = 16) -> None:
        """Connects at the first use, not now.

        Args: ``name`` is shown by CLIENT LIST; ``timeout_s`` bounds each call as a whole; ``retries`` is how often
        connecting (and what may be sent again) is tried anew within that time; ``connections`` at most are open.
        Raises StoreUnusable for a URL that cannot be used.
        """
        self._address = parse_address(url)
        self._timeout_s = timeout_s
        self._retries = retries
        self._free = asyncio.Semaphore(connections)
        self._pool = ConnectionPool(
            connection_class=self._address.connection,
            protocol=2,  # the older handshake: every server and every proxy knows it
            client_name=name,
            socket_timeout=None,  # the whole call has one bound, here
            socket_connect_timeout=max(timeout_s, 0.05),
            **self._address.kwargs,
        )
        self._closed = False

    @property
    def where(self) -> str:
        """The server for messages, without the password."""
        return self._address.text

    @property
    def timeout_s(self) -> float:
        return self._timeout_s

    def __repr__(self) -> str:
        return f"RedisLink({self.where})"

    async def call(self, *words: Word, again: bool = False, timeout_s: float | None = None) -> Any:
        """One command; its answer as redis sends it (bytes, int, list, None).

        ``again`` says that the command may run twice. Raises StoreUnavailable (it is not known whether the command
        ran) and StoreUnusable. Cancelling closes the connection; the command may have run.
        """
        (answer,) = await self.batch([words], again=again, timeout_s=timeout_s)
        return answer

    async def run(self, script: LuaScript, keys: Sequence[Word], args: Sequence[Word], *, again: bool = False) -> Any:
        """A script, as one atomic step; by its digest, or by its text when the server does not know it yet."""
        rest = (len(keys), *keys, *args)
        async with self._bounded(None):
            try:
                (answer,) = await self._exchange([("EVALSHA", script.sha, *rest)], again)
            except redis_errors.NoScriptError:  # it did not run
                (answer,) = await self._exchange([("EVAL", script.text, *rest)], again)
        return answer

    async def run_then(
        self, script: LuaScript, keys: Sequence[Word], args: Sequence[Word], then: Sequence[Word]
    ) -> tuple[Any, Any]:
        """As :meth:`run`, and then a command on the same connection; both answers."""
        rest = (len(keys), *keys, *args)
        async with self._bounded(None):
            try:
                answers = await self._exchange([("EVALSHA", script.sha, *rest), then], False)
            except redis_errors.NoScriptError:
                answers = await self._exchange([("EVAL", script.text, *rest), then], False)
        return answers[0], answers[1]

    async def batch(
        self, commands: Sequence[Sequence[Word]], *, again: bool = False, timeout_s: float | None = None
    ) -> list[Any]:
        """Commands on one connection in one go, in order, not as one atomic step; their answers.

        Raises the first refusal after all were answered.
        """
        async with self._bounded(timeout_s):
            return await self._exchange(commands, again)

    @contextlib.asynccontextmanager
    async def subscribed(self, *channels: str) -> AsyncIterator[Subscription]:
        """A connection of its own, beside the pool, that listens. Raises StoreUnavailable, StoreUnusable."""
        pool = ConnectionPool(
            connection_class=self._address.connection, max_connections=1, **self._pool.connection_kwargs
        )
        listener = PubSub(pool)
        try:
            async with self._bounded(None):
                await listener.subscribe(*channels)
            yield Subscription(self, listener)
        finally:
            with contextlib.suppress(*_SEND_FAILURES):
                await listener.aclose()  # type: ignore[no-untyped-call]
                await pool.disconnect()

    async def close(self) -> None:
        """Calls that run are cut off; later ones raise StoreUnavailable."""
        self._closed = True
        with contextlib.suppress(*_SEND_FAILURES):
            await self._pool.disconnect()

    @contextlib.asynccontextmanager
    async def _bounded(self, timeout_s: float | None) -> AsyncIterator[None]:
        bound_s = self._timeout_s if timeout_s is None else timeout_s
        if self._closed:
            raise StoreUnavailable("the store is closed")
        try:
            async with asyncio.timeout(bound_s):
                yield
        except _SEND_FAILURES as error:
            raise translated(error, self.where, bound_s) from None

    async def _exchange(self, commands: Sequence[Sequence[Word]], again: bool) -> list[Any]:
        tries = self._retries + 1 if again else 1
        while True:
            tries -= 1
            try:
                async with self._borrowed() as connection:
                    await connection.send_packed_command(connection.pack_commands(commands))
                    answers = [await _answer(connection) for _ in commands]
            except redis_errors.AuthenticationError:
                raise
            except (redis_errors.ConnectionError, OSError):
                if tries <= 0:
                    raise
                await asyncio.sleep(_PAUSE_S)
                continue
            for answer in answers:
                if isinstance(answer, redis_errors.ResponseError):
                    raise answer
            return answers

    @contextlib.asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[AbstractConnection]:
        async with self._free:
            connection = await self._connected()
            try:
                yield connection
            finally:
                await self._pool.release(connection)

    async def _connected(self) -> AbstractConnection:
        """A connection that was alive a moment ago. Nothing has been sent, so a failure may be tried again."""
        tries = self._retries
        while True:
            found: AbstractConnection
            try:
                found = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            except redis_errors.AuthenticationError:
                raise
            except (redis_errors.ConnectionError, OSError):
                if tries <= 0:
                    raise
                tries -= 1
                await asyncio.sleep(_PAUSE_S)
            else:
                return found


class Subscription:
    """Messages of the channels that were subscribed to, while the ``async with`` lasts."""

    def __init__(self, link: RedisLink, listener: PubSub) -> None:
        self._link = link
        self._listener = listener

    async def message(self, wait_s: float) -> bytes | None:
        """The next message's data, or None after ``wait_s`` without one or at the answer to a ping.

        Raises StoreUnavailable when the connection is gone: subscribe anew. What was sent meanwhile is lost.
        """
        try:
            found = await self._listener.get_message(ignore_subscribe_messages=True, timeout=wait_s)
        except _SEND_FAILURES as error:
            raise translated(error, self._link.where, wait_s) from None
        return None if found is None or found["type"] != "message" else bytes(found["data"])

    async def ping(self) -> None:
        """Finds out whether a silent connection still lives. Raises StoreUnavailable."""
        async with self._link._bounded(None):
            await self._listener.ping()


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except redis_errors.AuthenticationError:
        raise
    except redis_errors.ResponseError as refused:  # an answer as well: the next one must be read all the same
        return refused
