"""Claims and refresh intents in SQLite; who may do what is decided in store.refresh_rules.

A claim that ran out stays in its row until it is taken over or released; its fence is worthless by then, as the
counter behind the fences only rises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from store import refresh_rules, sqlite_accounts
from store.records import Claim, Credential, RefreshIntent, RefreshState
from store.vault import Vault

Now = Callable[[sqlite3.Connection], float]
"""Unix seconds as this store counts them."""


def database_now(db: sqlite3.Connection) -> float:
    """The clock of the machine under the database, to the millisecond."""
    return float(db.execute("SELECT (julianday('now') - 2440587.5) * 86400.0").fetchone()[0])


def claim(db: sqlite3.Connection, scope: str, holder: str, ttl_s: float, now_s: float) -> Claim | None:
    held = _held(db, scope)
    if held is not None and held.expires_at_s > now_s:
        return None
    db.execute("UPDATE counters SET value = value + 1 WHERE name = 'fence'")
    fence = int(db.execute("SELECT value FROM counters WHERE name = 'fence'").fetchone()[0])
    taken = Claim(scope, holder, fence, now_s + ttl_s)
    db.execute(
        "INSERT OR REPLACE INTO claims (scope, holder, fence, expires_at_s) VALUES (?, ?, ?, ?)",
        (taken.scope, taken.holder, taken.fence, taken.expires_at_s),
    )
    return taken


def release(db: sqlite3.Connection, given: Claim) -> None:
    db.execute("DELETE FROM claims WHERE scope = ? AND fence = ?", (given.scope, given.fence))


def intent(db: sqlite3.Connection, account_id: str) -> RefreshIntent | None:
    row = db.execute(
        "SELECT account_id, token_digest, fence, started_at_s, replays FROM intents WHERE account_id = ?",
        (account_id,),
    ).fetchone()
    return None if row is None else RefreshIntent(*row)


def begin_refresh(
    db: sqlite3.Connection, vault: Vault, account_id: str, given: Claim, digest: str, now_s: float
) -> RefreshIntent:
    stored = sqlite_accounts.credential(db, vault, account_id)
    held = _held(db, given.scope)
    new = refresh_rules.begun(held, given, stored, intent(db, account_id), digest, now_s)
    db.execute(
        """INSERT OR REPLACE INTO intents (account_id, token_digest, fence, started_at_s, replays)
        VALUES (?, ?, ?, ?, ?)""",
        (new.account_id, new.token_digest, new.fence, new.started_at_s, new.replays),
    )
    return new


def finish_refresh(
    db: sqlite3.Connection, vault: Vault, fresh: Credential, given: Claim, expected_version: int
) -> Credential:
    refresh_rules.check_finish(intent(db, fresh.account_id), given)
    return sqlite_accounts.put_credential(db, vault, fresh, expected_version)


def abandon_refresh(db: sqlite3.Connection, account_id: str, given: Claim, state: str | None) -> None:
    mark = None if state is None else RefreshState(state)
    if not refresh_rules.check_abandon(intent(db, account_id), given, state):
        return
    if not refresh_rules.keeps_intent(mark):
        db.execute("DELETE FROM intents WHERE account_id = ?", (account_id,))
    if mark is not None:
        sqlite_accounts.set_refresh_state(db, account_id, mark)


def _held(db: sqlite3.Connection, scope: str) -> Claim | None:
    row = db.execute("SELECT scope, holder, fence, expires_at_s FROM claims WHERE scope = ?", (scope,)).fetchone()
    return None if row is None else Claim(*row)
