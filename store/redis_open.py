"""Is what lies under this prefix a store of ours that we may use, how does it begin, and will the server keep it?

Rules that hold:

* nothing is written before what is there has proved to be ours, of a schema that we know and under our key; a refusal
  changes nothing;
* a store begins with one script that writes only if none of its keys exists: of two processes that begin together one
  wins, and the other finds the first one's store;
* the epoch is a random name, sealed by the vault at the beginning: a store under another key, and one that was made up
  by hand, do not pass for this one;
* what the server's own settings may cost is found by asking it, and told; it is not corrected.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from store.errors import FutureSchema, SealBroken, StoreCorrupt, StoreUnavailable, StoreUnusable, WrongKey
from store.redis_link import RedisLink, lua_script
from store.redis_records import Table, keys_under, redis_type
from store.vault import Place, Vault, sealing_key_id

SCHEMA: Final = 1
_FORMAT: Final = b"codex-relay"
CHECK_PLACE: Final = Place("meta", "epoch", "sealed", 1)
_CREATE: Final = lua_script("create")


@dataclass(frozen=True, slots=True)
class Keeping:
    """What the server says about keeping data; None is "could not be asked"."""

    append_only: bool | None
    fsync: str | None
    evicts: bool | None
    version: tuple[int, ...]

    @property
    def can_confirm(self) -> bool:
        """Whether WAITAOF tells when a write is on the disk."""
        return self.version >= (7, 2) and self.append_only is True

    def warnings(self) -> tuple[str, ...]:
        """One line for each thing that may lose records, with the fix."""
        found: list[str] = []
        if self.append_only is None:
            found.append("it could not be asked whether it keeps an append-only file; see to it that it does")
        elif not self.append_only:
            found.append("it keeps no append-only file, so a restart loses records; set appendonly yes")
        elif self.fsync == "no":
            found.append("appendfsync is no, so a crash loses many seconds; set appendfsync always or everysec")
        elif self.fsync is None and not self.can_confirm:
            found.append("appendfsync could not be asked; see to it that it is always or everysec")
        elif self.fsync == "everysec" and not self.can_confirm:
            found.append("appendfsync is everysec, so a crash loses up to a second; set appendfsync always")
        if self.evicts is None:
            found.append("maxmemory-policy could not be asked; see to it that it is noeviction")
        elif self.evicts:
            found.append("it evicts keys when its memory is full; set maxmemory-policy noeviction")
        return tuple(found)


async def prepare(link: RedisLink, prefix: str, vault: Vault, *, create: bool = True) -> str:
    """The epoch of the store under ``prefix``, which begins now if nothing is there and ``create`` allows it.

    Raises StoreCorrupt, FutureSchema or WrongKey with nothing changed, StoreUnavailable.
    """
    keys = keys_under(prefix)
    while True:
        types = await link.batch([("TYPE", key) for key in keys], again=True)
        for table, key, found in zip(Table, keys, types, strict=True):
            if found not in (b"none", redis_type(table)):
                raise StoreCorrupt(
                    f"{link.where} holds {key!r} of another program (a {found.decode()}); choose another "
                    "store.redis_prefix"
                )
        if any(found != b"none" for found in types):
            flat = await link.call("HGETALL", keys[0], again=True)
            return _inspect(link.where, dict(zip(flat[::2], flat[1::2], strict=True)), vault)
        if not create:
            raise StoreUnavailable(f"{link.where} has no store under {prefix!r}; the supervisor begins it at its start")
        epoch = os.urandom(16).hex()
        sealed = vault.seal(epoch.encode(), CHECK_PLACE)
        meta: tuple[bytes | str | int, ...] = ("format", _FORMAT, "schema", SCHEMA, "epoch", epoch, "seal", sealed)
        if await link.run(_CREATE, keys, meta):
            return epoch


def _inspect(where: str, meta: dict[bytes, bytes], vault: Vault) -> str:
    if meta.get(b"format") != _FORMAT:
        raise StoreCorrupt(f"{where} holds records under our prefix without their head; restore its data from a backup")
    schema = meta.get(b"schema", b"")
    if not schema.isdigit():
        raise StoreCorrupt(f"{where} has no schema; restore its data from a backup")
    if int(schema) > SCHEMA:
        raise FutureSchema(f"{where} has schema {int(schema)}, this release knows {SCHEMA}; run the newer release")
    sealed = meta.get(b"seal", b"")
    named = sealing_key_id(sealed)
    if not named:
        raise StoreCorrupt(f"{where} has lost its key check; restore its data from a backup")
    try:
        epoch = vault.open(sealed, CHECK_PLACE)
    except SealBroken:
        if named not in vault.ring:
            raise WrongKey(
                f"{where} is sealed under key id {named.hex()}, the configured key has id "
                f"{vault.ring.current_id.hex()}; restore the right key"
            ) from None
        raise StoreCorrupt(f"{where} has a damaged key check; restore its data from a backup") from None
    if epoch != meta.get(b"epoch"):
        raise StoreCorrupt(f"{where} has an epoch that was not sealed; restore its data from a backup")
    return epoch.decode()


def nothing_there(url: str, prefix: str, timeout_s: float) -> bool:
    """Whether nothing rests under our keys, ours or not. Blocking, also where an event loop runs.

    Raises StoreUnavailable, StoreUnusable.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _nothing_there(url, prefix, timeout_s)).result()


async def _nothing_there(url: str, prefix: str, timeout_s: float) -> bool:
    link = RedisLink(url, name=f"codex-relay:{prefix}", timeout_s=timeout_s, retries=3)
    try:
        return await is_empty(link, prefix)
    finally:
        await link.close()


async def is_empty(link: RedisLink, prefix: str) -> bool:
    """Whether nothing rests under our keys. Raises StoreUnavailable, StoreUnusable."""
    return not await link.call("EXISTS", *keys_under(prefix), again=True)


async def ask_keeping(link: RedisLink) -> Keeping:
    """What the server says about keeping data. Where CONFIG is not allowed, INFO says some of it.

    Raises StoreUnavailable; a command that is not allowed is no error.
    """
    server = await _info(link, "server")
    memory = await _info(link, "memory")
    persistence = await _info(link, "persistence")
    settings = await _settings(link)
    append_only = settings.get("appendonly") or {"1": "yes", "0": "no"}.get(persistence.get("aof_enabled", ""))
    policy = settings.get("maxmemory-policy") or memory.get("maxmemory_policy")
    version = tuple(int(part) for part in server.get("redis_version", "0").split(".") if part.isdigit())
    return Keeping(
        append_only=None if append_only is None else append_only == "yes",
        fsync=settings.get("appendfsync"),
        evicts=None if policy is None else policy != "noeviction",
        version=version,
    )


async def _info(link: RedisLink, section: str) -> dict[str, str]:
    try:
        text: Any = await link.call("INFO", section, again=True)
    except StoreUnusable:  # not allowed
        return {}
    lines = bytes(text).decode("utf-8", "replace").splitlines()
    return {name: value for name, found, value in (line.partition(":") for line in lines) if found}


async def _settings(link: RedisLink) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("appendonly", "appendfsync", "maxmemory-policy"):
        try:
            answer = await link.call("CONFIG", "GET", name, again=True)
        except (StoreUnusable, StoreUnavailable):  # not allowed, or renamed away; INFO answered just now
            return found
        if answer:
            found[name] = bytes(answer[1]).decode()
    return found
