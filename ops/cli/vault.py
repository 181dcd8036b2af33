"""``vault``: the keys that seal what is kept. Which there are, what is under them, a new one, the end of an old one.

No command prints key material. Keys are named by their ids, which are public.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ops.cli.options import common, confirm, yes_option
from ops.cli.output import data, fail, say, table
from ops.cli.session import Session, run
from ops.house_store import changer_of, keys_of, spool_rows_of
from store.keyfile import KeyChanger
from store.rotation import Rotator


@click.group()
def vault() -> None:
    """The keys that seal tokens and other secrets at rest."""


async def rotator_of(session: Session) -> Rotator:
    """Over the store and the spool beside it."""
    accounts = [account.id for account in await session.store.accounts()]
    spool = spool_rows_of(session.settings, accounts)
    return Rotator(session.store, keys_of(session.settings), session.clock, session.actor, spool)


@vault.command("status")
@common
def status(config: Path | None, *, as_json: bool) -> None:
    """Count the sealed rows per key and table; say whether an old key may be retired."""

    async def body(session: Session) -> dict[str, Any]:
        rotator = await rotator_of(session)
        keys = keys_of(session.settings)
        ring, found, note = keys.load(), await rotator.census(), await rotator.note()
        roles = {name.hex(): "opens" for name in ring.ids} | {ring.current_id.hex(): "seals"}
        named = [*roles, *(one.hex() for one in found.ids() if one.hex() not in roles)]
        rows = {
            name: {t: count for (t, one), count in sorted(found.rows.items()) if one.hex() == name} for name in named
        }
        return {
            "source": keys.source,
            "rotation": None if note is None else {"from": note.old, "to": note.new, "started_at_s": note.started_at_s},
            "left": found.not_under(ring.current_id),
            "keys": [
                {
                    "id": name or "unreadable",
                    "role": roles.get(name, "missing"),
                    "rows": sum(rows[name].values()),
                    "tables": rows[name],
                    "may_retire": roles.get(name) == "opens" and note is None and not rows[name],
                }
                for name in named
            ],
        }

    shown = run(config, body)
    if as_json:
        data(shown)
        return
    say(shown["source"])
    rows = [
        (one["id"], one["role"], table_name, count, one["may_retire"])
        for one in shown["keys"]
        for table_name, count in (one["tables"] or {"-": 0}).items()
    ]
    table(("key", "role", "table", "rows", "may retire"), rows)
    if shown["rotation"] is not None:
        say(f"a rotation to {shown['rotation']['to']} is under way: codex-relay vault rotate goes on with it")
    elif shown["left"]:
        say(f"{shown['left']} rows are under other keys than the one that seals: codex-relay vault rotate")


@vault.command("rotate")
@click.option("--add", "add_only", is_flag=True, help="Only put the new key behind the others: to copy the file first.")
@common
def rotate(config: Path | None, *, add_only: bool, as_json: bool) -> None:
    """Bring everything under a new key while the gateway serves; goes on with a rotation that was cut off.

    With provider env or command the new key is the one that the provider names first now.
    """

    async def body(session: Session) -> dict[str, Any]:
        changer = changer_of(session.settings)
        if changer is None and add_only:
            fail("--add is for keys in vault.key_file; let the provider name the new key second, then first")
        rotator = await rotator_of(session)
        async with session.act("vault.rotate") as detail:
            done = await rotator.rotate(changer, add_only=add_only)
            detail |= {"from": done.old.hex(), "to": done.new.hex(), "resumed": done.resumed, "added_only": add_only}
            if done.sweep is not None:
                detail |= {"rewrapped": done.sweep.rewrapped, "left": done.sweep.left}
        swept = done.sweep
        return {
            "from": done.old.hex(),
            "to": done.new.hex(),
            "resumed": done.resumed,
            "rewrapped": 0 if swept is None else swept.rewrapped,
            "left": None if swept is None else swept.left,
            "broken": () if swept is None else swept.broken,
        }

    shown = run(config, body)
    if as_json:
        data(shown)
    elif shown["left"] is None:
        say(f"key {shown['to']} opens, {shown['from']} seals; copy the key file to every host, then: vault rotate")
    else:
        say(f"key {shown['to']} seals; {shown['rewrapped']} rows were wrapped anew, {shown['left']} are left")
        if shown["from"] != shown["to"] and not shown["left"]:
            say(f"back up the key file; when every host has it: codex-relay vault retire {shown['from']}")
    if shown["broken"]:
        fail(f"{len(shown['broken'])} rows do not open, the first is {shown['broken'][0]}; restore them or remove them")
    if shown["left"]:
        fail(f"{shown['left']} rows are under other keys still; run codex-relay vault rotate again")


@vault.command("retire")
@click.argument("key_id", metavar="KEYID")
@yes_option
@common
def retire(config: Path | None, key_id: str, *, yes: bool, as_json: bool) -> None:
    """Take a key that no row names out of use; it is kept beside the key file, for old backups."""
    try:
        wanted = bytes.fromhex(key_id)
    except ValueError:
        raise click.UsageError(f"{key_id!r} is not a key id; codex-relay vault status shows them") from None

    async def body(session: Session) -> Path:
        changer: KeyChanger | None = changer_of(session.settings)
        if changer is None:
            fail("this provider's keys are not ours to change; take the key out there")
        rotator = await rotator_of(session)
        confirm(f"Take key {key_id} out of use?", yes=yes)
        async with session.act("vault.retire", key_id):
            return await rotator.retire(changer, wanted)

    path = run(config, body)
    if as_json:
        data({"id": key_id, "kept_in": str(path)})
    else:
        say(f"retired {key_id}; it is kept in {path}: backups under it need it, nothing else does")
