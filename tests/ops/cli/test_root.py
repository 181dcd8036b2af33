"""The tree of commands: help everywhere, and nothing heavy before it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ops.cli.root import root
from ops.version import VERSION


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


LEAVES = [(path, command) for path, command in commands(root) if not isinstance(command, click.Group)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_and_every_option_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    result = CliRunner().invoke(root, [*path, "--help"])
    assert result.exit_code == 0
    names = {parameter.name for parameter in command.params}
    if path[0] not in {"demo", "simulator"} and path != ("config", "example"):
        assert "config" in names


def test_the_commands_that_users_know_are_there() -> None:
    known = {" ".join(path) for path, _ in LEAVES}
    assert known >= {
        "serve", "demo", "simulator", "doctor", "config check", "config example", "accounts import", "accounts list",
        "accounts show", "accounts why", "accounts set", "accounts enable", "accounts disable", "accounts remove",
        "accounts refresh", "accounts probe", "tenants create", "tenants list", "tenants show", "tenants set",
        "tenants remove", "keys create", "keys list", "keys revoke", "audit search", "audit verify", "audit export",
    }  # fmt: skip


def test_wrong_use_ends_with_2() -> None:
    for arguments in (["nope"], ["accounts", "nope"], ["serve", "--port", "99999"], ["accounts", "import"]):
        assert CliRunner().invoke(root, arguments).exit_code == 2


def test_the_version_is_the_release() -> None:
    assert VERSION in CliRunner().invoke(root, ["--version"]).output


def test_help_loads_neither_server_nor_client() -> None:
    script = (
        "import sys; import ops.cli; "
        "print([name for name in ('uvicorn', 'starlette', 'httpx', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
