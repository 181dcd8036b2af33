"""``keys``: what clients call the gateway with. The key itself is shown once, when it is made."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from auth.keys import PEPPER_BYTES, PEPPER_NAME, SCOPES, KeyRing
from ops.cli.options import common, confirm, yes_option
from ops.cli.output import Duration, Names, data, fail, moment, say, table
from ops.cli.session import Session, run
from ops.cli.tenants import new_tenant
from store.records import ClientKey, Limits, Secret, Tenant


@click.group()
def keys() -> None:
    """Client keys."""


def view(key: ClientKey, tenant_name: str, now_s: float) -> dict[str, Any]:
    """What is shown of a stored key."""
    return {
        "id": key.id,
        "tenant": tenant_name,
        "name": key.name,
        "state": _state(key, now_s),
        "scopes": sorted(key.scopes),
        "models": key.models,
        "requests_per_minute": key.limits.requests_per_minute,
        "concurrent_streams": key.limits.concurrent_streams,
        "created_at_s": key.created_at_s,
        "expires_at_s": key.expires_at_s,
        "revoked_at_s": key.revoked_at_s,
    }


@keys.command("create")
@click.option("--tenant", required=True, help="Id or name; a tenant that is new is made.")
@click.option("--name", default="", help="What people call it.")
@click.option("--models", type=Names(), default=(), help="Models it may use; default: every model.")
@click.option("--expires", type=Duration(), help="Ends after 90d, 12h, ...; default: never.")
@click.option("--rpm", type=click.IntRange(1), help="Requests per minute.")
@click.option("--streams", type=click.IntRange(1), help="Requests in work at once.")
@click.option("--scopes", type=Names(), default=("relay",), show_default="relay", help=", ".join(sorted(SCOPES)))
@common
def create(
    config: Path | None, tenant: str, name: str, models: tuple[str, ...], expires: float | None, rpm: int | None,
    streams: int | None, scopes: tuple[str, ...], *, as_json: bool,
) -> None:  # fmt: skip
    """Make a key and print it; it is never shown again."""
    if unknown := set(scopes) - SCOPES:
        raise click.UsageError(f"unknown scope {min(unknown)!r}; there are {', '.join(sorted(SCOPES))}")

    async def body(session: Session) -> tuple[Secret, dict[str, Any]]:
        owner = await _owner(session, tenant)
        now_s = session.clock.now_s()
        pepper = await session.store.sealed_value(PEPPER_NAME, secrets.token_bytes(PEPPER_BYTES))
        plain, record = KeyRing(pepper).mint(
            owner.id,
            now_s=now_s,
            name=name,
            scopes=frozenset(scopes),
            models=models,
            limits=Limits(rpm, streams),
            expires_at_s=None if expires is None else now_s + expires,
        )
        async with session.act("key.create", record.id, tenant_id=owner.id, scopes=",".join(sorted(scopes))):
            await session.store.add_key(record)
        return plain, view(record, owner.name, now_s)

    plain, shown = run(config, body)
    if as_json:
        data({"id": shown["id"], "key": plain.reveal(), **shown})
        return
    say(f"key {shown['id']} of tenant {shown['tenant']}; it is shown this once:")
    click.echo(plain.reveal())


@keys.command("list")
@click.option("--tenant", help="Only of this tenant, by id or name.")
@common
def list_(config: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """All keys, without the keys themselves."""

    async def body(session: Session) -> list[dict[str, Any]]:
        names = {one.id: one.name for one in await session.store.tenants()}
        only = None if tenant is None else (await session.tenant(tenant)).id
        now_s = session.clock.now_s()
        return [
            view(key, names.get(key.tenant_id, key.tenant_id), now_s)
            for key in await session.store.keys()
            if only in {None, key.tenant_id}
        ]

    views = run(config, body)
    if as_json:
        data(views)
        return
    columns = ("id", "tenant", "name", "state", "scopes", "models", "requests_per_minute", "concurrent_streams")
    table((*columns, "expires"), [[*(one[name] for name in columns), moment(one["expires_at_s"])] for one in views])


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@yes_option
@common
def revoke(config: Path | None, key_id: str, *, yes: bool, as_json: bool) -> None:
    """End a key for good; streams that it runs are closed within seconds."""

    async def body(session: Session) -> str:
        old = next((key for key in await session.store.keys() if key.id == key_id), None)
        if old is None:
            fail(f"no key {key_id!r}; codex-relay keys list shows the ids")
        if old.revoked_at_s is None:
            confirm(f"Revoke key {old.id} ({old.name or 'no name'})?", yes=yes)
            async with session.act("key.revoke", old.id, tenant_id=old.tenant_id):
                await session.store.put_key(replace(old, revoked_at_s=session.clock.now_s()), old.version)
        return old.id

    revoked = run(config, body)
    if as_json:
        data({"id": revoked, "revoked": True})
    else:
        say(f"revoked {revoked}")


async def _owner(session: Session, given: str) -> Tenant:
    found = await session.find_tenant(given)
    if found is not None:
        return found
    tenant = new_tenant(given, session.clock.now_s(), Limits(), ())
    async with session.act("tenant.create", tenant.id, tenant_id=tenant.id):
        await session.store.add_tenant(tenant)
    say(f"made tenant {tenant.name}")
    return tenant


def _state(key: ClientKey, now_s: float) -> str:
    if key.revoked_at_s is not None:
        return "revoked"
    return "expired" if key.expires_at_s is not None and key.expires_at_s <= now_s else "live"
