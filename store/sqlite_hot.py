"""Hot state that the workers share, in SQLite: health, windows, placements, and the cursor over them.

Every record that is written gets the next number of one counter, in the order of commits (writers are serial), so
"everything after number n" misses nothing, whichever process wrote it. A poll that finds the counter where it left
it costs one statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from store.base import HEALTHY_KEPT_S, Changes
from store.records import HealthRecord, Placement, WindowRecord

_COUNTERS: Final = """SELECT (SELECT value FROM counters WHERE name = 'directory'),
    (SELECT value FROM counters WHERE name = 'shared')"""


def publish(db: sqlite3.Connection, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
    seq = _take_numbers(db, len(health) + len(windows))
    db.executemany(
        """INSERT INTO health (account_id, scope, kind, cause, evidence, since_s, until_s, next_probe_s, level, state,
            owner, updated_at_s, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (account_id, scope, kind) DO UPDATE SET cause = excluded.cause, evidence = excluded.evidence,
            since_s = excluded.since_s, until_s = excluded.until_s, next_probe_s = excluded.next_probe_s,
            level = excluded.level, state = excluded.state, owner = excluded.owner,
            updated_at_s = excluded.updated_at_s, seq = excluded.seq
        WHERE excluded.updated_at_s >= health.updated_at_s""",
        [_health_values(record, seq + place) for place, record in enumerate(health, 1)],
    )
    seq += len(health)
    db.executemany(
        """INSERT INTO windows (account_id, name, used_percent, window_minutes, resets_at_s, seen_at_s, seq)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (account_id, name) DO UPDATE SET used_percent = excluded.used_percent,
            window_minutes = excluded.window_minutes, resets_at_s = excluded.resets_at_s,
            seen_at_s = excluded.seen_at_s, seq = excluded.seq
        WHERE excluded.seen_at_s >= windows.seen_at_s""",
        [
            (r.account_id, r.name, r.used_percent, r.window_minutes, r.resets_at_s, r.seen_at_s, seq + place)
            for place, r in enumerate(windows, 1)
        ],
    )


def changes(db: sqlite3.Connection, cursor: int) -> Changes:
    revision, last = db.execute(_COUNTERS).fetchone()
    if last == cursor:
        return Changes(revision, (), (), cursor)
    db.execute("BEGIN")
    try:
        revision, last = db.execute(_COUNTERS).fetchone()
        since = cursor if cursor <= last else 0  # the store was replaced by an older one
        health = db.execute(
            """SELECT account_id, scope, kind, cause, evidence, since_s, until_s, next_probe_s, level, state, owner,
                updated_at_s FROM health WHERE seq > ? ORDER BY seq""",
            (since,),
        ).fetchall()
        windows = db.execute(
            """SELECT account_id, name, used_percent, window_minutes, resets_at_s, seen_at_s FROM windows
            WHERE seq > ? ORDER BY seq""",
            (since,),
        ).fetchall()
    finally:
        db.execute("ROLLBACK")
    return Changes(
        revision, tuple(HealthRecord(*row) for row in health), tuple(WindowRecord(*row) for row in windows), last
    )


def place(db: sqlite3.Connection, placements: Iterable[Placement]) -> None:
    db.executemany(
        """INSERT OR REPLACE INTO placements (kind, digest, account_id, expires_at_s) VALUES (?, ?, ?, ?)""",
        [(p.kind, p.digest, p.account_id, p.expires_at_s) for p in placements],
    )


def placements(db: sqlite3.Connection, kind: str, digests: Iterable[bytes], now_s: float) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for digest in digests:
        row = db.execute(
            "SELECT account_id FROM placements WHERE kind = ? AND digest = ? AND expires_at_s > ?",
            (kind, digest, now_s),
        ).fetchone()
        if row is not None:
            found[digest] = row[0]
    return found


def purge(db: sqlite3.Connection, now_s: float) -> int:
    expired = db.execute("DELETE FROM placements WHERE expires_at_s <= ?", (now_s,)).rowcount
    aged_s = now_s - HEALTHY_KEPT_S
    healthy = db.execute("DELETE FROM health WHERE until_s <= ? AND updated_at_s <= ?", (aged_s, aged_s)).rowcount
    return expired + healthy


def _take_numbers(db: sqlite3.Connection, count: int) -> int:
    """Reserves ``count`` numbers; the one before the first of them."""
    db.execute("UPDATE counters SET value = value + ? WHERE name = 'shared'", (count,))
    return int(db.execute("SELECT value FROM counters WHERE name = 'shared'").fetchone()[0]) - count


def _health_values(record: HealthRecord, seq: int) -> tuple[Any, ...]:
    return (
        record.account_id,
        record.scope,
        record.kind,
        record.cause,
        record.evidence,
        record.since_s,
        record.until_s,
        record.next_probe_s,
        record.level,
        record.state,
        record.owner,
        record.updated_at_s,
        seq,
    )
