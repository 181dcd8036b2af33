"""``tenants``: groups of client keys with limits of their own."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ops.cli.options import common, confirm, yes_option
from ops.cli.output import Names, card, data, moment, say, table
from ops.cli.session import Session, run
from store.records import Limits, Tenant


@click.group()
def tenants() -> None:
    """Groups of client keys with limits of their own."""


def view(tenant: Tenant, keys: int | None = None) -> dict[str, Any]:
    """What is shown of a tenant."""
    shown: dict[str, Any] = {
        "id": tenant.id,
        "name": tenant.name,
        "enabled": tenant.enabled,
        "pools": tenant.pools,
        "requests_per_minute": tenant.limits.requests_per_minute,
        "concurrent_streams": tenant.limits.concurrent_streams,
        "created_at_s": tenant.created_at_s,
    }
    return shown if keys is None else {**shown, "keys": keys}


def new_tenant(name: str, now_s: float, limits: Limits, pools: tuple[str, ...]) -> Tenant:
    return Tenant(id=f"ten_{secrets.token_hex(8)}", name=name, limits=limits, pools=pools, created_at_s=now_s)


@tenants.command("create")
@click.argument("name")
@click.option("--rpm", type=click.IntRange(1), help="Requests per minute of the whole tenant.")
@click.option("--streams", type=click.IntRange(1), help="Requests in work at once.")
@click.option("--pools", type=Names(), default=(), help="Pools it may use; default: every pool.")
@common
def create(
    config: Path | None, name: str, rpm: int | None, streams: int | None, pools: tuple[str, ...], *, as_json: bool
) -> None:
    """Make a tenant."""

    async def body(session: Session) -> Tenant:
        tenant = new_tenant(name, session.clock.now_s(), Limits(rpm, streams), pools)
        async with session.act("tenant.create", tenant.id, tenant_id=tenant.id):
            await session.store.add_tenant(tenant)
        return tenant

    _show(run(config, body), as_json=as_json)


@tenants.command("list")
@common
def list_(config: Path | None, *, as_json: bool) -> None:
    """All tenants."""

    async def body(session: Session) -> list[dict[str, Any]]:
        every = await session.store.keys()
        return [
            view(tenant, sum(key.tenant_id == tenant.id and key.revoked_at_s is None for key in every))
            for tenant in await session.store.tenants()
        ]

    views = run(config, body)
    if as_json:
        data(views)
        return
    columns = ("id", "name", "enabled", "keys", "requests_per_minute", "concurrent_streams", "pools")
    table(columns, [[one[column] for column in columns] for one in views])


@tenants.command("show")
@click.argument("tenant")
@common
def show(config: Path | None, tenant: str, *, as_json: bool) -> None:
    """One tenant, by id or name."""
    _show(run(config, lambda session: session.tenant(tenant)), as_json=as_json)


@tenants.command("set")
@click.argument("tenant")
@click.option("--name")
@click.option("--rpm", type=click.IntRange(0), help="Requests per minute; 0 takes the limit away.")
@click.option("--streams", type=click.IntRange(0), help="Requests in work at once; 0 takes the limit away.")
@click.option("--pools", type=Names(), help="Pools it may use; an empty text: every pool.")
@click.option("--enable/--disable", "enabled", default=None, help="Let its keys in, or keep them out.")
@common
def set_(
    config: Path | None, tenant: str, name: str | None, rpm: int | None, streams: int | None,
    pools: tuple[str, ...] | None, *, enabled: bool | None, as_json: bool,
) -> None:  # fmt: skip
    """Change a tenant; what is not given stays."""

    async def body(session: Session) -> Tenant:
        old = await session.tenant(tenant)
        limits = Limits(
            old.limits.requests_per_minute if rpm is None else rpm or None,
            old.limits.concurrent_streams if streams is None else streams or None,
        )
        new = replace(
            old,
            name=old.name if name is None else name,
            limits=limits,
            pools=old.pools if pools is None else pools,
            enabled=old.enabled if enabled is None else enabled,
        )
        async with session.act("tenant.set", old.id, tenant_id=old.id):
            return await session.store.put_tenant(new, old.version)

    _show(run(config, body), as_json=as_json)


@tenants.command("remove")
@click.argument("tenant")
@yes_option
@common
def remove(config: Path | None, tenant: str, *, yes: bool, as_json: bool) -> None:
    """Remove a tenant and its keys."""

    async def body(session: Session) -> str:
        old = await session.tenant(tenant)
        confirm(f"Remove tenant {old.name!r} and all its keys?", yes=yes)
        async with session.act("tenant.remove", old.id, tenant_id=old.id):
            await session.store.remove_tenant(old.id)
        return old.id

    removed = run(config, body)
    if as_json:
        data({"id": removed, "removed": True})
    else:
        say(f"removed {removed}")


def _show(tenant: Tenant, *, as_json: bool) -> None:
    shown = view(tenant)
    if as_json:
        data(shown)
        return
    card({**shown, "created_at_s": moment(tenant.created_at_s)})
