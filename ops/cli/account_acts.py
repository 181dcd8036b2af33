"""``accounts import``, ``refresh`` and ``probe``: what brings accounts in and what asks the outside about them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from auth.errors import CredentialError
from ops.cli.options import common
from ops.cli.output import data, fail, moment, say
from ops.cli.session import Session, run
from store.records import Account, HealthRecord
from upstream.errors import UpstreamError
from upstream.types import AccountUsage


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE... | -")
@click.option("--label", help="What people call the account; default: its e-mail address.")
@click.option("--pool", help="The pool that it joins; default: default.")
@click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")
@click.option("--force", is_flag=True, help="Take a login that looks older than the stored one.")
@click.option("--no-check", is_flag=True, help="Do not ask the backend about the account.")
@common
def import_(
    config: Path | None, files: tuple[str, ...], label: str | None, pool: str | None, *, dry_run: bool, force: bool,
    no_check: bool, as_json: bool,
) -> None:  # fmt: skip
    """Import auth.json files, folders of them, or standard input."""
    from auth.authfile import read_sources
    from auth.importer import ImportOptions, ImportResult

    sources = read_sources(files, sys.stdin.buffer)
    options = ImportOptions(label=label, pool=pool, dry_run=dry_run, force=force)

    async def body(session: Session) -> list[ImportResult]:
        from ops.cli.outside import importer, outside

        if not dry_run:
            await session.store.check()
        async with outside(session) as parts:
            results = await importer(session, None if no_check else parts.codex).take(sources, options)
        for one in [] if dry_run else results:
            await session.record("account.import", one.outcome.value, one.account_id, code=one.code)
        return results

    results = run(config, body)
    if as_json:
        data([{**asdict(one), "outcome": one.outcome.value} for one in results])
    for one in results:
        for text in () if as_json else one.warnings:
            say(f"{one.source}: warning: {text}")
        if not as_json:
            say(f"{one.source}: {one.message}" + (f" ({one.label}, {one.account_id or 'new'})" if one.label else ""))
    refused = sum(one.outcome == "refused" for one in results)
    if refused:
        fail(f"{refused} of {len(results)} refused; the lines above say why")


@click.command("refresh")
@click.argument("account", metavar="ID")
@common
def refresh(config: Path | None, account: str, *, as_json: bool) -> None:
    """Renew the access token now, by the same claim that the gateway takes."""

    async def body(session: Session) -> dict[str, Any]:
        from ops.cli.outside import outside

        found = await session.account(account)
        async with session.act("account.refresh", found.id), outside(session) as parts:
            fresh = await parts.tokens.force(found)
        return {
            "id": found.id,
            "access_token_expires_at_s": fresh.expires_at_s,
            "refresh_state": fresh.refresh_state.value,
        }

    shown = run(config, body)
    if as_json:
        data(shown)
    else:
        say(f"{shown['id']}: the access token serves until {moment(shown['access_token_expires_at_s'])}")


@click.command("probe")
@click.argument("account", metavar="ID")
@common
def probe(config: Path | None, account: str, *, as_json: bool) -> None:
    """Ask the upstream how the account stands; a rest that has no ground any more is ended."""

    async def body(session: Session) -> dict[str, Any]:
        from gateway.admin.probing import probe as ask
        from ops.cli.outside import outside

        found = await session.account(account)
        try:
            async with session.act("account.probe", found.id) as detail, outside(session) as parts:
                asked = await ask(session.store, parts.tokens, parts.codex, found, session.clock)
                detail.update(allowed=asked.report.allowed, ended=len(asked.ended))
        except (UpstreamError, CredentialError) as error:
            fail(f"{error}; codex-relay accounts why {account}")
        return _report(found, asked.report, asked.ended)

    shown = run(config, body)
    if as_json:
        data(shown)
        return
    words = "may be used" if shown["allowed"] else "may not be used now"
    click.echo(f"{shown['id']} {words}; plan {shown['plan'] or 'unknown'}")
    for window in shown["windows"]:
        click.echo(f"  {window['name']}: {window['used_percent']:.0f} % used, resets {moment(window['resets_at_s'])}")
    for cause in shown["ended_rests"]:
        click.echo(f"  ended a rest: {cause}")


def _report(account: Account, report: AccountUsage, ended: Sequence[HealthRecord]) -> dict[str, Any]:
    return {
        "id": account.id,
        "allowed": report.allowed,
        "limit_reached": report.limit_reached,
        "plan": report.plan,
        "windows": [
            {"name": one.name, "used_percent": one.used_percent, "window_minutes": one.window_minutes,
             "resets_at_s": one.resets_at_s}
            for one in report.windows
        ],
        "ended_rests": [one.cause for one in ended],
    }  # fmt: skip
