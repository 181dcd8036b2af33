"""The Codex CLI as a child of ours: what its environment and its arguments become, and how it runs.

Rules that hold:

* the child gets the user's environment and folder, the terminal itself, and its own exit code back; nothing of the
  user's is written to;
* added are the proxy, the certificate to trust, and a token for this process. Taken away is what would lead past the
  proxy or bring another login along: the gateway key, other logins and addresses, and entries of ``NO_PROXY`` that
  cover the three hosts;
* commands that the model runs get the user's own proxy settings and no token, by the CLI's own configuration on its
  command line (an address with a password is left out there: arguments can be seen by everybody);
* links to tasks are rewritten in what ``cloud exec | list | status`` print, and nowhere else: there the child's
  standard output is a pipe. Everywhere else it is the user's own, whose bytes we never touch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.codex_proxy import HOSTS
from store.records import Secret

TASK_LINK: Final = b"https://chatgpt.com/codex/tasks/"
PRINTS_LINKS: Final = frozenset({"exec", "list", "status"})
_PROXIES: Final = ("HTTPS_PROXY", "https_proxy")
_AROUND: Final = ("NO_PROXY", "no_proxy")
_TOKEN: Final = "CODEX_ACCESS_TOKEN"  # noqa: S105 - the variable's name
_TAKEN_AWAY: Final = (
    "CODEX_RELAY_KEY", "CODEX_API_KEY", "CODEX_AUTHAPI_BASE_URL", "CODEX_CLOUD_TASKS_BASE_URL",
    "CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE",
)  # fmt: skip
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_FORWARDED: Final = (signal.SIGTERM, signal.SIGHUP)
_OF_THE_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT)
_BACKEND: Final = "https://chatgpt.com/backend-api"
_NOWHERE: Final = ("analytics.enabled=false", "check_for_update_on_startup=false", "features.apps=false")
"""What has nobody at the gateway to talk to: the telemetry, the news of releases, the connectors of chatgpt.com."""
_CHUNK_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Ways:
    """What the child needs to find the gateway. ``proxy`` holds a password, ``token`` is for this process."""

    proxy: Secret
    token: Secret
    ca_file: Path


def child_environment(users: Mapping[str, str], ways: Ways) -> dict[str, str]:
    """The user's environment with the additions and without what would lead elsewhere."""
    kept = {name: value for name, value in users.items() if name not in _TAKEN_AWAY}
    around = ",".join([*_around(users), *_LOOPBACK])
    return {
        **kept,
        **dict.fromkeys(_PROXIES, ways.proxy.reveal()),
        **dict.fromkeys(_AROUND, around),
        _TOKEN: ways.token.reveal(),
        "CODEX_CA_CERTIFICATE": str(ways.ca_file),
    }


def _around(users: Mapping[str, str]) -> list[str]:
    """The user's ``NO_PROXY`` without entries that cover a host of ours."""
    given = users.get("NO_PROXY") or users.get("no_proxy") or ""
    entries = [one.strip() for one in given.split(",")]
    return [one for one in entries if one and not any(_covers(one, host) for host in HOSTS)]


def _covers(entry: str, host: str) -> bool:
    name = entry.lower().partition(":")[0].lstrip("*").lstrip(".")
    return not name or host == name or host.endswith("." + name)


def child_arguments(given: Sequence[str], users: Mapping[str, str], links: str) -> list[str]:
    """Our settings before the user's arguments, which win; a link to a task below ``links`` becomes its id."""
    settings = [
        'model_provider="openai"',
        f'chatgpt_base_url="{_BACKEND}"',
        f'openai_base_url="{_BACKEND}/codex"',
        *_NOWHERE,
        f'shell_environment_policy.set.{_TOKEN}=""',
    ]
    for name in (*_PROXIES, *_AROUND):
        value = users.get(name) or users.get(name.swapcase()) or ""
        settings.append(f"shell_environment_policy.set.{name}={_quoted('' if '@' in value else value)}")
    ids = [one.removeprefix(links) if one.startswith(links) else one for one in given]
    return [*(part for one in settings for part in ("-c", one)), *ids]


def _quoted(text: str) -> str:
    escaped = "".join(f"\\u{ord(one):04x}" if one in '"\\' or not one.isprintable() else one for one in text)
    return f'"{escaped}"'


def prints_links(given: Sequence[str]) -> bool:
    """Whether the arguments ask for a command that prints links to tasks and needs no terminal."""
    return len(given) > 1 and given[0] in {"cloud", "cloud-tasks"} and given[1] in PRINTS_LINKS


async def run_child(binary: str, arguments: Sequence[str], environment: Mapping[str, str], links: str | None) -> int:
    """Runs the CLI to its end and returns its exit code (128 + n when signal n ended it).

    ``links``: the address that takes the place of :data:`TASK_LINK`; None: standard output is the user's own.
    Raises OSError when the program cannot be started. Cancel ends the child.
    """
    process = await asyncio.create_subprocess_exec(
        binary,
        *arguments,
        env=dict(environment),
        stdout=None if links is None else asyncio.subprocess.PIPE,
    )
    with _signals(process.send_signal):
        try:
            if process.stdout is not None and links is not None:
                await _copy(process.stdout, links.encode())
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return code if code >= 0 else 128 - code


async def _copy(stdout: asyncio.StreamReader, links: bytes) -> None:
    """As it comes; only what may be half a link is held back."""
    held = b""
    while chunk := await stdout.read(_CHUNK_BYTES):
        whole = (held + chunk).replace(TASK_LINK, links)
        keep = _half_a_link(whole)
        held = whole[len(whole) - keep :]
        _write(whole[: len(whole) - keep])
    _write(held)


def _half_a_link(text: bytes) -> int:
    """How many bytes at the end are the beginning of a link."""
    return next((n for n in range(min(len(TASK_LINK) - 1, len(text)), 0, -1) if TASK_LINK.startswith(text[-n:])), 0)


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def _signals(send: Callable[[int], None]) -> Iterator[None]:
    """Hands signals on while the child runs.

    What the terminal sends (ctrl-C) reaches the child by itself, as it is of the same group; without a terminal it
    is handed on, too.
    """
    loop = asyncio.get_running_loop()
    terminal = os.isatty(0)

    def hand_on(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            send(number)

    for number in _FORWARDED:
        loop.add_signal_handler(number, hand_on, number)
    for number in _OF_THE_TERMINAL:
        loop.add_signal_handler(number, _nothing if terminal else hand_on, number)
    try:
        yield
    finally:
        for number in (*_FORWARDED, *_OF_THE_TERMINAL):
            loop.remove_signal_handler(number)


def _nothing(_number: int) -> None:
    """The child decides what a ctrl-C means."""
