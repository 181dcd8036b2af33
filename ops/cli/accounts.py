"""``accounts``: the Codex accounts behind the gateway, as records. What talks to the outside is in account_acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ops.cli import account_views
from ops.cli.account_acts import import_, probe, refresh
from ops.cli.login import login
from ops.cli.options import common, confirm, yes_option
from ops.cli.output import card, data, moment, say, table
from ops.cli.session import Session, run
from store.records import Account


@click.group()
def accounts() -> None:
    """The Codex accounts behind the gateway. ID may be an id, a label or an e-mail address."""


accounts.add_command(import_)
accounts.add_command(login)
accounts.add_command(refresh)
accounts.add_command(probe)


async def view(session: Session, account: Account) -> dict[str, Any]:
    """What is shown of the account, from the records as they are now."""
    known = await session.store.changes(0)
    credential = await session.store.credential(account.id)
    return account_views.view(account, credential, known.health, known.windows, session.clock.now_s())


@accounts.command("list")
@common
def list_(config: Path | None, *, as_json: bool) -> None:
    """All accounts and their state."""

    async def body(session: Session) -> tuple[list[dict[str, Any]], float]:
        known = await session.store.changes(0)
        now_s = session.clock.now_s()
        views = [
            account_views.view(
                account, await session.store.credential(account.id), known.health, known.windows, now_s
            )
            for account in await session.store.accounts()
        ]  # fmt: skip
        return views, now_s

    views, now_s = run(config, body)
    if as_json:
        data(views)
        return
    table(account_views.columns(), [account_views.row(one, now_s) for one in views])
    if not views:
        say("no accounts yet; codex-relay accounts import ~/.codex/auth.json")


@accounts.command("show")
@click.argument("account", metavar="ID")
@common
def show(config: Path | None, account: str, *, as_json: bool) -> None:
    """One account, without its tokens."""

    async def body(session: Session) -> dict[str, Any]:
        return await view(session, await session.account(account))

    _show(run(config, body), as_json=as_json)


@accounts.command("why")
@click.argument("account", metavar="ID")
@common
def why(config: Path | None, account: str, *, as_json: bool) -> None:
    """What keeps an account out, on what evidence, until when."""

    async def body(session: Session) -> tuple[dict[str, Any], float]:
        return await view(session, await session.account(account)), session.clock.now_s()

    shown, now_s = run(config, body)
    lines = account_views.reasons(shown, now_s)
    if as_json:
        data({"id": shown["id"], "state": shown["state"], "reasons": lines, "blocks": shown["blocks"]})
        return
    click.echo(f"{shown['label']} ({shown['id']}) is {shown['state']}")
    for line in lines:
        click.echo(f"  {line}")


@accounts.command("set")
@click.argument("account", metavar="ID")
@click.option("--label")
@click.option("--pool")
@click.option("--weight", type=click.IntRange(1, 1000), help="Its share among the accounts of its pool.")
@common
def set_(
    config: Path | None, account: str, label: str | None, pool: str | None, weight: int | None, *, as_json: bool
) -> None:
    """Change label, pool or weight; what is not given stays."""
    given = {"label": label, "pool": pool, "weight": weight}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("nothing to change; give --label, --pool or --weight")
    _change(config, account, "account.set", lambda old: replace(old, **changes), as_json=as_json, **changes)


@accounts.command("enable")
@click.argument("account", metavar="ID")
@common
def enable(config: Path | None, account: str, *, as_json: bool) -> None:
    """Let an account serve."""
    _change(config, account, "account.enable", lambda old: replace(old, enabled=True), as_json=as_json)


@accounts.command("disable")
@click.argument("account", metavar="ID")
@common
def disable(config: Path | None, account: str, *, as_json: bool) -> None:
    """Keep an account from new requests; running streams end by themselves."""
    _change(config, account, "account.disable", lambda old: replace(old, enabled=False), as_json=as_json)


@accounts.command("remove")
@click.argument("account", metavar="ID")
@yes_option
@common
def remove(config: Path | None, account: str, *, yes: bool, as_json: bool) -> None:
    """Remove an account and its tokens for good, and end its login at the issuer."""

    async def body(session: Session) -> tuple[str, bool]:
        from auth.leaving import leave
        from ops.cli.outside import outside

        old = await session.account(account)
        confirm(f"Remove account {old.label!r} ({old.id}) and its tokens?", yes=yes)
        async with outside(session) as parts, session.act("account.remove", old.id) as detail:
            left = await leave(session.store, parts.entrance.oauth, old.id)
            detail["revoked"] = left.revoked
        return old.id, left.revoked

    removed, revoked = run(config, body)
    if as_json:
        data({"id": removed, "removed": True, "revoked": revoked})
        return
    say(f"removed {removed}")
    if not revoked:
        say("its login was not ended at the issuer; its owner can end the session in the account's settings")


def _change(
    config: Path | None, given: str, action: str, change: Callable[[Account], Account], *, as_json: bool, **detail: Any
) -> None:
    async def body(session: Session) -> dict[str, Any]:
        old = await session.account(given)
        async with session.act(action, old.id, **detail):
            new = await session.store.put_account(change(old), old.version)
        return await view(session, new)

    _show(run(config, body), as_json=as_json)


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        data(shown)
        return
    times = {name: moment(shown[name]) for name in shown if name.endswith("_s")}
    flat = {name: value for name, value in {**shown, **times}.items() if name not in {"blocks", "windows"}}
    for window in shown["windows"]:
        flat[f"window {window['name']}"] = (
            f"{window['used_percent']:.0f} % used, resets {moment(window['resets_at_s'])}"
        )
    card({name.removesuffix("_s"): value for name, value in flat.items()})
