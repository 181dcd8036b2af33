"""Are the keys in order: is every sealed row under a key that is here, is an old key still in use, is there a backup?

Nothing is changed. That the provider can be reached is a check of its own: loading the keys asks it
(ops.doctor.check_vault_key).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ops.findings import Finding, fail, ok, warn
from store.backup_note import LastBackup, last_backup
from store.base import Store
from store.errors import SealBroken
from store.rewrap import Census, census
from store.vault import KeyRing

_BACKUP_S: Final = 7 * 86_400.0


async def examine_keys(store: Store, ring: KeyRing, now_s: float) -> list[Finding]:
    """Reads every sealed row once. Raises StoreUnavailable."""
    try:
        last = await last_backup(store)
    except SealBroken:
        last = None
    return [*check_rows(await census([store.sealed_rows()]), ring), *check_backup(last, ring, now_s)]


def check_rows(found: Census, ring: KeyRing) -> Iterable[Finding]:
    """Every row names a key that is here; best, the one that seals."""
    name = "sealed rows"
    unknown = {one.hex() or "unreadable": found.under(one) for one in found.ids() if one not in ring}
    if unknown:
        keys = ", ".join(f"{count} under {key}" for key, count in sorted(unknown.items()))
        yield fail(name, f"rows that no key here opens: {keys}", "put that key behind the others in the key file")
    elif left := found.not_under(ring.current_id):
        yield warn(name, f"{left} are under an older key", "codex-relay vault rotate")
    else:
        yield ok(name, f"{sum(found.rows.values())} under key {ring.current_id.hex()}")


def check_backup(last: LastBackup | None, ring: KeyRing, now_s: float) -> Iterable[Finding]:
    """There is a young one, and its key is not forgotten."""
    name = "backup"
    if last is None:
        yield ok(name, "none was made yet; codex-relay backup FILE makes one")
    elif now_s - last.at_s > _BACKUP_S:
        yield warn(name, f"the last one is {int((now_s - last.at_s) // 86_400)} days old", "codex-relay backup FILE")
    elif bytes.fromhex(last.key_id) not in ring:
        yield warn(name, f"the last one is under the retired key {last.key_id}", "keep that key, or make a new backup")
    else:
        yield ok(name, f"the last one is under key {last.key_id}; keep the key apart from it")
