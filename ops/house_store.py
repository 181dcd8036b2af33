"""Where records rest and where limits are counted: what of the house stands on the stores.

Local counters for one process; a small shared file for the workers of one machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from auth.limits import CallerLimits
from auth.spool import FileSpool, NoSpool, Spool
from auth.spool_rows import SpoolRows
from gateway.idempotency import IdempotencyGate
from ops.clock import Clock
from ops.seat import Seat
from ops.settings import Settings
from store.counters import CounterFile, LocalCounters, LocalStreams, SharedCounters, SharedStreams
from store.keyfile import KeyChanger, KeyProvider
from store.open import StoreKind, sqlite_path, store_kind
from store.providers import VaultValues, key_changer, key_provider
from store.records import Secret
from store.sealed import SealedRows
from store.vault import Place, Vault


def keys_of(settings: Settings) -> KeyProvider:
    """The source of the key-encrypting key that ``[vault]`` names."""
    return key_provider(vault_values(settings))


def changer_of(settings: Settings) -> KeyChanger | None:
    """The same source, when its keys are ours to change; None when the operator changes them."""
    return key_changer(vault_values(settings))


def vault_values(settings: Settings) -> VaultValues:
    """``[vault]`` as store.providers takes it."""
    vault = settings.vault
    return VaultValues(
        provider=vault.provider,
        key=Secret(vault.key.get_secret_value()) if vault.key is not None else None,
        key_file=vault.key_file,
        command=vault.command,
        command_environment=vault.command_environment,
        kms_key=vault.kms_key,
        address=vault.address,
        transit_mount=vault.transit_mount,
        token_file=vault.token_file,
        namespace=vault.namespace,
        ca_file=vault.ca_file,
        region=vault.region,
        kms_endpoint=vault.kms_endpoint,
        timeout_s=vault.timeout_s,
    )


def spool_of(settings: Settings, keys: KeyProvider) -> Spool:
    """Beside the database, or the key file for a store in Redis, sealed by the vault; none when nothing is kept."""
    folder = _spool_folder(settings)
    if folder is None:
        return NoSpool()
    vault = Vault(keys.load(), keys)
    place = spool_place
    return FileSpool(
        folder,
        lambda account_id, data: vault.seal(data, place(account_id)),
        lambda account_id, data: vault.open(data, place(account_id)),
    )


def spool_rows_of(settings: Settings, account_ids: Iterable[str]) -> tuple[SealedRows, ...]:
    """What is sealed beside the store, for a change of keys."""
    folder = _spool_folder(settings)
    return () if folder is None else (SpoolRows(folder, spool_place, account_ids),)


def _spool_folder(settings: Settings) -> Path | None:
    """A store in Redis has no place on this host: what waits for it waits beside the key, on a disk that is kept."""
    if store_kind(settings.store.url) is StoreKind.REDIS:
        return settings.vault.key_file.with_name("redis.spool")
    path = sqlite_path(settings.store.url)
    return None if path is None else path.with_name(path.name + ".spool")


def spool_place(account_id: str) -> Place:
    """Where a spooled credential belongs."""
    return Place("spool", account_id, "credential", 1)


def counting(seat: Seat, clock: Clock, stack: contextlib.AsyncExitStack) -> tuple[CallerLimits, IdempotencyGate]:
    """Who counts requests and streams, alone or together with the other workers; closed with ``stack``."""
    if seat.counters is None:
        return CallerLimits(LocalCounters(clock), LocalStreams(seat.name), clock), IdempotencyGate(clock)
    file = CounterFile(seat.counters)
    stack.callback(file.close)
    streams = SharedStreams(file, seat.name)
    streams.clear_owner(seat.name)
    counters = SharedCounters(file, clock)
    return CallerLimits(counters, streams, clock), IdempotencyGate(clock, counters)
