"""How a command reaches a gateway over HTTP: its address, the key, and what its refusals mean.

The address is ``--url``, else ``$CODEX_RELAY_URL``, else what the settings say (``server.public_url``, else where it
listens). The key comes from ``--key-file``, else ``$CODEX_RELAY_KEY``; it is never an argument, and is shown nowhere.
An answer that is no success ends the command with exit code 1 and the gateway's own message.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from ops.cli.options import config_option
from ops.cli.output import fail
from ops.cli.session import Surroundings, settings_of
from ops.clock import Clock
from ops.settings import KEY_ENV, URL_ENV, Settings
from store.records import Secret

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
CONNECT_S: Final = 10.0
READ_S: Final = 60.0
_KEY_BYTES: Final = 4096

url_option = click.option(
    "--url", metavar="URL", help=f"The gateway (default: ${URL_ENV}, then what the settings say)."
)
key_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"A file that holds a gateway key (default: ${KEY_ENV}).",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway and the key to it. ``url`` has no slash at its end."""

    url: str
    key: Secret

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, which no proxy of the environment leads to."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def reaching(function: F) -> F:
    """``--config``, ``--url`` and ``--key-file``."""
    return config_option(url_option(key_option(function)))


def target_of(config: Path | None, url: str | None, key_file: Path | None) -> Target:
    """The gateway that a command is for. Ends the command when the key or the address cannot be used."""
    given = url or os.environ.get(URL_ENV) or address_of(settings_of(config))
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or parts.query:
        raise click.UsageError("the gateway's address must be http://HOST[:PORT] or https://HOST[:PORT]")
    return Target(given.rstrip("/"), _key(key_file))


def address_of(settings: Settings) -> str:
    """Where the settings say that the gateway is to be found from this machine."""
    server = settings.server
    if server.public_url is not None:
        return server.public_url
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - translated, not bound
    shown = f"[{host}]" if ":" in host else host
    return f"{'http' if server.tls_cert_file is None else 'https'}://{shown}:{server.port}"


def _key(key_file: Path | None) -> Secret:
    if key_file is None:
        text = os.environ.get(KEY_ENV, "")
    else:
        try:
            with key_file.open("rb") as file:
                text = file.read(_KEY_BYTES).decode("ascii", "replace")
        except OSError as error:
            fail(f"{key_file}: cannot be read ({error.strerror}); name a file that holds a gateway key")
    key = text.strip()
    if not key:
        fail(f"no gateway key; set ${KEY_ENV} or name a file with --key-file (codex-relay keys create makes one)")
    if not key.isascii() or not key.isprintable() or " " in key:
        fail("the gateway key holds characters that no key has; it is one line, at-cr-...")
    return Secret(key)


@asynccontextmanager
async def http_to(target: Target) -> AsyncIterator[httpx.AsyncClient]:
    """A client without limit on silence. Proxies of the environment are used, but never for this machine."""
    import httpx

    async with httpx.AsyncClient(
        verify=ssl.create_default_context(),
        trust_env=not target.loopback,
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S, read=None),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        follow_redirects=False,
    ) as client:
        yield client


class Remote:
    """The gateway's REST API for the holder of a key."""

    def __init__(self, target: Target, http: httpx.AsyncClient, clock: Clock) -> None:
        self.target = target
        self.clock = clock
        self.http = http

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The key as bearer, and ``more``."""
        return {"authorization": f"Bearer {self.target.key.reveal()}", **(more or {})}

    async def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        """The whole answer. ``body`` is sent as JSON, ``content`` as it is. Fails unless it is a success."""
        import httpx

        asked = self.headers(headers)
        if body is not None:
            content, asked = msgspec.json.encode(body), {**asked, "content-type": "application/json"}
        given = {name: value for name, value in (params or {}).items() if value is not None}
        url = self.target.url + path
        try:
            try:
                answer = await self.http.request(method, url, params=given or None, headers=asked, content=content)
            except httpx.RemoteProtocolError:
                if method != "GET":
                    raise
                # a kept connection that the server has just closed: reading again changes nothing
                answer = await self.http.request(method, url, params=given or None, headers=asked)
        except httpx.HTTPError as error:
            fail(f"{unreachable(self.target, error)}")
        if not answer.is_success:
            refuse(answer.status_code, answer.content)
        return answer

    async def json(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """As :meth:`send`, decoded; None for an answer without a body."""
        answer = await self.send(method, path, body, **options)
        if not answer.content:
            return None
        try:
            return msgspec.json.decode(answer.content)
        except msgspec.DecodeError:
            fail(f"{self.target.url}{path} answered with something that is not JSON; is it a codex-relay gateway?")


def unreachable(target: Target, error: Exception) -> str:
    """One line for a gateway that cannot be spoken to."""
    why = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"cannot reach the gateway at {target.url} ({why}); is it running, and is the address right (--url)?"


def refuse(status: int, body: bytes) -> None:
    """Ends the command with what the gateway said."""
    try:
        said = msgspec.json.decode(body)["error"]
        message, code = str(said["message"]), str(said["code"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message, code = "no error message of ours; is this a codex-relay gateway?", "unknown"
    fail(f"the gateway answered {status} {code}: {message}{_next_step(status)}")


def _next_step(status: int) -> str:
    if status == 401:
        return " Set a valid key; codex-relay keys create makes one."
    if status == 403:
        return " The key needs another scope; codex-relay keys create --scopes relay,tasks makes one."
    return ""


def run_remote(target: Target, body: Callable[[Remote], Awaitable[T]]) -> T:
    """Opens a client, runs ``body`` with it and closes it."""
    surroundings = click.get_current_context().find_object(Surroundings) or Surroundings()

    async def inside() -> T:
        async with http_to(target) as http:
            return await body(Remote(target, http, surroundings.clock))

    return asyncio.run(inside())
