"""Where records rest and where limits are counted: what of the house stands on the stores.

Local counters for one process; a small shared file for the workers of one machine.
"""

from __future__ import annotations

import contextlib

from auth.limits import CallerLimits
from auth.spool import FileSpool, NoSpool, Spool
from gateway.idempotency import IdempotencyGate
from ops.clock import Clock
from ops.seat import Seat
from ops.settings import Settings
from store.counters import CounterFile, LocalCounters, LocalStreams, SharedCounters, SharedStreams
from store.keyfile import KeyProvider
from store.open import key_provider, sqlite_path
from store.records import Secret
from store.vault import Place, Vault


def keys_of(settings: Settings) -> KeyProvider:
    """The source of the key-encrypting key that ``[vault]`` names."""
    value = settings.vault.key
    secret = Secret(value.get_secret_value()) if value is not None else None
    return key_provider(settings.vault.provider, secret, settings.vault.key_file)


def spool_of(settings: Settings, keys: KeyProvider) -> Spool:
    """Beside the database, sealed by the vault; none for a store that keeps nothing."""
    path = sqlite_path(settings.store.url)
    if path is None:
        return NoSpool()
    vault = Vault(keys.load())

    def place(account_id: str) -> Place:
        return Place("spool", account_id, "credential", 1)

    return FileSpool(
        path.with_name(path.name + ".spool"),
        lambda account_id, data: vault.seal(data, place(account_id)),
        lambda account_id, data: vault.open(data, place(account_id)),
    )


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
