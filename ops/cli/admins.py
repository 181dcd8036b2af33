"""``admins``: who may sign in to the console. For the operator of the machine, who needs no sign-in himself.

A one-time link lets a person set his password. ``bootstrap`` writes the first owner's into a file that only the
operator can read, and prints the file's name; ``create`` and ``reset`` print theirs once, to be handed over.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Final

import click

from auth.admins import Admin, AdminDirectory
from auth.passwords import Passwords
from auth.roles import Role
from auth.signin import SignIn, link_url
from auth.throttle import LoginThrottle
from ops.cli.options import common, confirm, yes_option
from ops.cli.output import data, fail, moment, say, span, table
from ops.cli.session import Session, run
from ops.settings import Settings
from store.open import sqlite_path
from store.records import Secret

_FILE: Final = "first-sign-in"


@click.group()
def admins() -> None:
    """Who may sign in to the console. NAME is 1 to 64 of a-z, 0-9 and . _ @ -."""


def view(admin: Admin) -> dict[str, Any]:
    """What is shown of a person."""
    return {
        "id": admin.id,
        "name": admin.name,
        "role": admin.role.value,
        "tenant_id": admin.tenant_id,
        "enabled": admin.enabled,
        "totp_enabled": admin.totp_enabled,
        "sso": admin.sso,
        "created_at_s": admin.created_at_s,
        "last_login_at_s": admin.last_login_at_s,
    }


@admins.command("bootstrap")
@common
def bootstrap(config: Path | None, *, as_json: bool) -> None:
    """Write a one-time link for the first owner into a file, and print where it is."""

    async def body(session: Session) -> tuple[Path, float]:
        async with session.act("admin.bootstrap"):
            token = await _sign_in(session).bootstrap()
            path = _file(session.settings)
            _write(path, link_url(base_url(session.settings), token))
        return path, session.settings.admin.bootstrap_ttl_s

    path, ttl_s = run(config, body)
    if as_json:
        data({"file": str(path), "expires_in_s": ttl_s})
        return
    say(f"the link of the first owner works once, for {span(ttl_s).removeprefix('in ')}; open what is in")
    click.echo(str(path))


@admins.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True)
@click.option("--tenant", help="Id or name: the only tenant whose things he sees. A member without one sees none.")
@common
def create(config: Path | None, name: str, role: str, tenant: str | None, *, as_json: bool) -> None:
    """Make a person and print his one-time link; it is never shown again."""

    async def body(session: Session) -> tuple[Admin, Secret]:
        tenant_id = None if tenant is None else (await session.tenant(tenant)).id
        async with session.act("admin.create", name.casefold(), role=role) as detail:
            admin = await _directory(session).create(name, Role(role), tenant_id)
            detail["admin_id"] = admin.id
            token = await _sign_in(session).invite(admin)
        return admin, link_url(base_url(session.settings), token)

    _show_link(*run(config, body), as_json=as_json)


@admins.command("list")
@common
def list_(config: Path | None, *, as_json: bool) -> None:
    """Everybody who may sign in."""

    async def body(session: Session) -> list[dict[str, Any]]:
        return [view(one) for one in await _directory(session).all()]

    views = run(config, body)
    if as_json:
        data(views)
        return
    columns = ("id", "name", "role", "tenant_id", "enabled", "totp_enabled", "sso")
    rows = [[*(one[column] for column in columns), moment(one["last_login_at_s"])] for one in views]
    table((*columns, "last_login"), rows)
    if not views:
        say("nobody yet; codex-relay admins bootstrap")


@admins.command("reset")
@click.argument("name")
@yes_option
@common
def reset(config: Path | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Take a person's password and codes away, end his sessions, and print a one-time link for new ones."""

    async def body(session: Session) -> tuple[Admin, Secret]:
        admin = await _found(session, name)
        confirm(f"Take the password of {admin.name} away and end his sessions?", yes=yes)
        async with session.act("admin.reset", admin.name, admin_id=admin.id):
            token = await _sign_in(session).invite(admin)
        return admin, link_url(base_url(session.settings), token)

    _show_link(*run(config, body), as_json=as_json)


@admins.command("remove")
@click.argument("name")
@yes_option
@common
def remove(config: Path | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Remove a person for good; his sessions end. The last enabled owner stays."""

    async def body(session: Session) -> Admin:
        admin = await _found(session, name)
        confirm(f"Remove {admin.name} ({admin.role.value})?", yes=yes)
        async with session.act("admin.remove", admin.name, admin_id=admin.id):
            await _directory(session).remove(admin.id)
        return admin

    removed = run(config, body)
    if as_json:
        data({"id": removed.id, "removed": True})
    else:
        say(f"removed {removed.name}")


def base_url(settings: Settings) -> str:
    """Where a browser finds the console: the public URL, else where the gateway listens."""
    server = settings.server
    if server.public_url is not None:
        return server.public_url
    scheme = "http" if server.tls_cert_file is None else "https"
    everywhere = server.host in {"0.0.0.0", "::", ""}  # noqa: S104 - compared, not bound
    host = "127.0.0.1" if everywhere else server.host
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}"


def _directory(session: Session) -> AdminDirectory:
    return AdminDirectory(session.store, session.clock)


def _sign_in(session: Session) -> SignIn:
    admin = session.settings.admin
    throttle = LoginThrottle(session.store, session.clock, failures=admin.login_failures, wait_s=admin.login_wait_s)
    return SignIn(
        session.store,
        _directory(session),
        Passwords(),
        throttle,
        session.clock,
        require_totp=admin.require_totp,
        link_ttl_s=admin.bootstrap_ttl_s,
    )


async def _found(session: Session, given: str) -> Admin:
    directory = _directory(session)
    admin = await directory.by_name(given) or await directory.get(given)
    if admin is None:
        fail(f"no administrator {given!r}; codex-relay admins list shows the names")
    return admin


def _file(settings: Settings) -> Path:
    """Beside the database; in the working folder for a store that is no file of ours."""
    path = sqlite_path(settings.store.url) if settings.store.url.startswith("sqlite:") else None
    return (Path.cwd() / f"codex-relay.{_FILE}") if path is None else path.absolute().with_name(f"{path.name}.{_FILE}")


def _write(path: Path, link: Secret) -> None:
    """A new file of mode 0600, never one that somebody else put there; an older link's file makes room."""
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        fail(f"{path} cannot be replaced ({error.strerror}); remove it, and run the command again")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        fail(f"{path} cannot be made ({error.strerror}); clear the way, and run the command again")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(handle, 0o600)
        file.write(f"{link.reveal()}\n")


def _show_link(admin: Admin, link: Secret, *, as_json: bool) -> None:
    if as_json:
        data({**view(admin), "link": link.reveal()})
        return
    say(f"the link by which {admin.name} ({admin.role.value}) sets a password works once; it is shown this once:")
    click.echo(link.reveal())
