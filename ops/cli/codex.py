"""``codex``: the real Codex CLI against this gateway, for as long as it runs. Nothing is installed, nothing changed.

The gateway is asked first whether it takes the key, so that a wrong key is one line and not a retry loop. The key
stays in this process: the child holds a token that the proxy beside it knows, and that is worth nothing afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ops.cli.output import fail, say
from ops.cli.remote import Remote, Target, http_to, reaching, target_of
from ops.cli.session import Surroundings

if TYPE_CHECKING:
    from ops.codex_authority import Authority
    from ops.codex_proxy import Seen

_INSTALL: Final = "install it (npm install -g @openai/codex), or name the program with --codex"
_PASSED_ON: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}
TASKS_PAGE: Final = "/console/tasks/"
codex_option = click.option("--codex", "program", metavar="PROGRAM", default="codex", help="The Codex CLI.")
arguments = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@click.command("codex", context_settings=_PASSED_ON)
@arguments
@codex_option
@reaching
def codex(
    config: Path | None, url: str | None, key_file: Path | None, program: str, arguments: tuple[str, ...]
) -> None:
    """Run the Codex CLI against this gateway: codex-relay codex -- ARGS..."""
    _run(target_of(config, url, key_file), program, arguments)


@click.command("cloud", context_settings=_PASSED_ON)
@arguments
@codex_option
@reaching
def cloud(
    config: Path | None, url: str | None, key_file: Path | None, program: str, arguments: tuple[str, ...]
) -> None:
    """Run codex cloud against this gateway: codex-relay cloud -- ARGS..."""
    _run(target_of(config, url, key_file), program, ("cloud", *arguments))


def _run(target: Target, program: str, given: Sequence[str]) -> None:
    binary = shutil.which(program)
    if binary is None:
        fail(f"there is no program {program!r}; {_INSTALL}")
    sys.exit(asyncio.run(_session(target, binary, given)))


async def _session(target: Target, binary: str, given: Sequence[str]) -> int:
    from ops.codex_authority import new_authority
    from ops.codex_child import Ways, child_arguments, child_environment, prints_links, run_child
    from ops.codex_proxy import HOSTS, WHOAMI, running_proxy
    from store.records import Secret

    surroundings = click.get_current_context().find_object(Surroundings) or Surroundings()
    links = target.url + TASKS_PAGE
    token = Secret(f"at-{secrets.token_urlsafe(32)}")
    authority = new_authority(HOSTS, surroundings.clock.now_s())
    async with http_to(target) as http:
        await Remote(target, http, surroundings.clock).json("GET", WHOAMI)
        async with running_proxy(http, target.url, target.key, token, authority) as proxy:
            with _trusted(authority) as ca_file:
                ways = Ways(proxy.url, token, ca_file)
                code = await run_child(
                    binary,
                    child_arguments(given, os.environ, links),
                    child_environment(os.environ, ways),
                    links if prints_links(given) else None,
                )
            _explain(target, proxy.seen, code)
    return code


@contextlib.contextmanager
def _trusted(authority: Authority) -> Iterator[Path]:
    """The authority's certificate in a file of the user's alone, with what the user trusts already."""
    users = os.environ.get("CODEX_CA_CERTIFICATE") or os.environ.get("SSL_CERT_FILE")
    more = b""
    if users:
        try:
            more = Path(users).read_bytes()
        except OSError as error:
            fail(f"{users}: cannot be read ({error.strerror}); CODEX_CA_CERTIFICATE or SSL_CERT_FILE names it")
    with tempfile.NamedTemporaryFile(prefix="codex-relay-", suffix=".pem") as file:  # made with mode 0600
        file.write(authority.certificate_pem + b"\n" + more)
        file.flush()
        yield Path(file.name)


def _explain(target: Target, seen: Seen, code: int) -> None:
    if code != 0 and seen.unreachable is not None:
        say(f"codex-relay: the gateway at {target.url} was lost meanwhile ({seen.unreachable})")
