"""``backup`` and ``restore``: the whole store as one encrypted file, and back.

A backup needs its key to be of use: the key file is kept apart from it, and so is one that was retired as long as
backups under it are kept.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ops.cli.options import common
from ops.cli.output import data, fail, moment, say
from ops.cli.session import Session, actor, run, settings_of
from ops.clock import SystemClock
from ops.house_store import changer_of, keys_of, vault_values
from ops.settings import Settings
from store.backup import Restored, make_backup, restore_backup
from store.backup_copy import backup_through_file, restore_through_file
from store.backup_file import read_backup
from store.backup_note import remember_backup
from store.base import Store
from store.errors import StoreError
from store.open import StoreKind, open_store, sqlite_path, store_kind
from store.providers import key_provider
from store.vault import KeyRing, Vault

_key_file_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A further key file, for a backup under a key that is not in use any more.",
)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--verify", is_flag=True, help="Only read the backup FILE to its end.")
@_key_file_option
@common
def backup(config: Path | None, file: Path, key_file: Path | None, *, verify: bool, as_json: bool) -> None:
    """Copy the whole store to the new file FILE, encrypted, while the gateway serves; then read it back."""
    if verify:
        _verify(config, file, key_file, as_json=as_json)
        return

    async def body(session: Session) -> dict[str, Any]:
        keys = keys_of(session.settings)
        database = _database(session.settings)
        vault = Vault(keys.load(), keys)
        async with session.act("store.backup", file.name) as detail:
            if database is None:
                made = await backup_through_file(session.store, _folder(session.settings), file, vault, session.clock)
            else:
                made = await asyncio.to_thread(make_backup, database, file, vault, session.clock)
            detail |= {"id": made.header.id, "key": made.header.key_id, "size_bytes": made.size_bytes}
            await remember_backup(session.store, made.header)
        return {
            "file": str(file),
            "id": made.header.id,
            "key_id": made.header.key_id,
            "schema": made.header.schema,
            "created_at_s": made.header.created_at_s,
            "size_bytes": made.size_bytes,
            "sha256_of_content": made.digest,
        }

    shown = run(config, body)
    if as_json:
        data(shown)
    else:
        say(f"{file}: {shown['size_bytes']} bytes, verified; it opens with key {shown['key_id']}, kept apart from it")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace the database that is there; a copy of it is kept beside it.")
@_key_file_option
@common
def restore(config: Path | None, file: Path, key_file: Path | None, *, force: bool, as_json: bool) -> None:
    """Put the store back as it was in the backup FILE. The gateway must not run."""
    settings = settings_of(config)
    try:
        database = _database(settings)
        vault = Vault(_ring(settings, key_file))
        if database is None:
            done = asyncio.run(_restore_elsewhere(settings, file, vault))
        else:
            done = restore_backup(file, database, vault, SystemClock(), actor(), force=force)
    except StoreError as error:
        fail(str(error))
    if as_json:
        data(
            {
                "database": str(database or "store.url"),
                "backup": done.header.id,
                "of_s": done.header.created_at_s,
                "accounts": done.accounts,
                "uncertain": done.uncertain,
                "rewrapped": done.rewrapped,
                "kept": str(done.kept) if done.kept else None,
            }
        )
        return
    say(f"{database or 'the store'} is as it was on {moment(done.header.created_at_s)}, {done.accounts} accounts")
    if done.kept is not None:
        say(f"the database that was there is kept as {done.kept}")
    if done.uncertain:
        say(
            f"{done.uncertain} refresh tokens may have been used since: each is sent once at most, when its access "
            "token ends; sign in again where codex-relay accounts list asks for it"
        )


def _verify(config: Path | None, file: Path, key_file: Path | None, *, as_json: bool) -> None:
    try:
        made = read_backup(file, Vault(_ring(settings_of(config), key_file)), lambda _: None)
    except StoreError as error:
        fail(str(error))
    header = made.header
    if as_json:
        data({"file": str(file), "id": header.id, "key_id": header.key_id, "created_at_s": header.created_at_s})
    else:
        say(f"{file}: whole, of {moment(header.created_at_s)}, under key {header.key_id}")


async def _restore_elsewhere(settings: Settings, file: Path, vault: Vault) -> Restored:
    """Into an empty store that is no file."""
    values, keys = settings.store, keys_of(settings)

    async def target() -> Store:
        return await open_store(
            values.url, keys=keys, busy_timeout_s=values.busy_timeout_s, verify=False, prefix=values.redis_prefix
        )

    return await restore_through_file(file, target, _folder(settings), vault, SystemClock(), actor())


def _folder(settings: Settings) -> Path:
    """Where a file may lie for the length of a command: beside the key."""
    return settings.vault.key_file.parent


def _database(settings: Settings) -> Path | None:
    """The file of the store; None for a store in Redis."""
    kind = store_kind(settings.store.url)
    if kind is StoreKind.MEMORY:
        fail("a store of memory:// keeps nothing that could be backed up")
    return sqlite_path(settings.store.url)


def _ring(settings: Settings, key_file: Path | None) -> KeyRing:
    """The keys in use, and what may open an older backup: retired ones, and those of ``key_file``."""
    ring = keys_of(settings).load()
    changer = changer_of(settings)
    retired = changer.retired() if changer is not None else None
    if retired is not None:
        ring = ring.opening(retired)
    if key_file is not None:
        values = vault_values(settings)
        provider = values.provider if values.provider in {"transit", "aws", "gcp"} else "file"
        ring = ring.opening(key_provider(replace(values, provider=provider, key_file=key_file)).load())
    return ring
