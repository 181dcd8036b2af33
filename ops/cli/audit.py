"""``audit``: who did what, and whether the record is whole."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import structs

from ops.cli.options import common, config_option
from ops.cli.output import Duration, data, fail, moment, say, table
from ops.cli.session import Session, run
from store.records import AuditRecord

_PAGE = 1000


@click.group()
def audit() -> None:
    """Who did what, without content."""


def view(record: AuditRecord) -> dict[str, Any]:
    """One record, as it is exported."""
    return {**structs.asdict(record), "detail": dict(record.detail)}


@audit.command("search")
@click.option("--since", type=Duration(), help="Only the last 1h, 7d, ...")
@click.option("--tenant", help="Id or name.")
@click.option("--key", help="Id of a key.")
@click.option("--action", help="A whole name, or a prefix like account.*")
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True, help="The latest so many.")
@common
def search(
    config: Path | None, since: float | None, tenant: str | None, key: str | None, action: str | None, limit: int,
    *, as_json: bool,
) -> None:  # fmt: skip
    """Matching records, oldest first."""

    async def body(session: Session) -> list[AuditRecord]:
        found: list[AuditRecord] = []
        tenant_id = (await session.tenant(tenant)).id if tenant else None
        async for record in _records(session, since, tenant_id, key, action):
            found.append(record)
            if len(found) >= 2 * limit:
                del found[:-limit]
        return found[-limit:]

    records = run(config, body)
    if as_json:
        data([view(record) for record in records])
        return
    table(
        ("seq", "time", "actor", "action", "outcome", "tenant", "target", "request", "detail"),
        [
            (one.seq, moment(one.at_s), one.actor, one.action, one.outcome, one.tenant_id, one.target or one.key_id,
             one.request_id, " ".join(f"{name}={value}" for name, value in one.detail))
            for one in records
        ],
    )  # fmt: skip


@audit.command("verify")
@common
def verify(config: Path | None, *, as_json: bool) -> None:
    """Check the chain from the first record to the last."""
    count, broken = run(config, lambda session: session.store.verify_audit())
    if as_json:
        data({"records": count, "whole": broken is None, "problem": broken})
    elif broken is None:
        say(f"{count} records, the chain is whole")
    if broken is not None:
        fail(f"the audit log is broken after {count} records: {broken}; keep this file and restore a backup")


@audit.command("export")
@click.option("--since", type=Duration(), help="Only the last 1h, 7d, ...")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@config_option
def export(config: Path | None, since: float | None, output: Path) -> None:
    """Every record with its place in the chain, one JSON object a line."""

    async def body(session: Session) -> int:
        count = 0
        with click.open_file(str(output), "w", encoding="utf-8") as file:
            async with session.act("audit.export") as detail:
                async for record in _records(session, since, None, None, None):
                    file.write(msgspec.json.encode(view(record)).decode() + "\n")
                    count += 1
                detail["records"] = count
        return count

    try:
        count = run(config, body)
    except OSError as error:
        fail(f"{output}: {error.strerror}; name a writable file")
    say(f"{count} records")
    sys.stdout.flush()


async def _records(
    session: Session, since: float | None, tenant_id: str | None, key_id: str | None, action: str | None
) -> AsyncIterator[AuditRecord]:
    since_s = None if since is None else session.clock.now_s() - since
    after = 0
    while True:
        page = await session.store.search_audit(
            since_s=since_s, tenant_id=tenant_id, key_id=key_id, action=action, after_seq=after, limit=_PAGE
        )
        for record in page:
            yield record
        if len(page) < _PAGE:
            return
        after = page[-1].seq
