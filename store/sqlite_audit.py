"""The audit log in SQLite: numbered and chained (store.chain) in one transaction, guarded by triggers.

The head, the last record's number with its hash, is sealed beside the log. A person who edits the file without the
key can therefore neither cut the tail nor write the chain anew unseen; one who puts back an older copy of both can,
and only an export kept elsewhere tells.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from store import chain
from store.errors import SealBroken
from store.records import AuditRecord
from store.vault import Place, Vault

_SELECT: Final = """SELECT seq, at_s, actor, action, outcome, tenant_id, key_id, request_id, target, model,
    input_tokens, output_tokens, detail, prev_hash, hash FROM audit"""

_VALUES: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS: Final = 15
_ROWS_MAX: Final = 500
_INSERT: Final = f"INSERT INTO audit VALUES {_VALUES}"  # noqa: S608 - made of the constant above alone


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What a search asks for; None does not restrict. ``action`` is a whole name or ``prefix.*``."""

    since_s: float | None
    tenant_id: str | None
    key_id: str | None
    action: str | None
    after_seq: int
    limit: int


def append(db: sqlite3.Connection, vault: Vault, records: Sequence[AuditRecord]) -> int:
    head_seq, last_hash = head(db, vault)
    seq = max(head_seq, last_seq(db))  # never below a record that somebody slipped in: verifying names that one
    rows: list[chain.Row] = []
    for record in records:
        seq += 1
        row = chain.to_row(record, seq, last_hash)
        last_hash = row[14]
        rows.append(row)
    _insert(db, rows)
    if rows:
        sealed = vault.seal(last_hash.encode(), _place(seq))
        db.execute(
            """INSERT INTO audit_head (id, seq, sealed) VALUES (1, ?, ?)
            ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, sealed = excluded.sealed""",
            (seq, sealed),
        )
    return seq


def _insert(db: sqlite3.Connection, rows: Sequence[chain.Row]) -> None:
    """Many rows a statement: each step of SQLite lets go of the interpreter and has to get it back from the loop."""
    most = min(_ROWS_MAX, db.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // _COLUMNS)
    for at in range(0, len(rows), most):
        some = rows[at : at + most]
        db.execute(_insert_of(len(some)), tuple(itertools.chain.from_iterable(some)))


@lru_cache(maxsize=32)
def _insert_of(rows: int) -> str:
    return ", ".join([_INSERT, *[_VALUES] * (rows - 1)])


def head(db: sqlite3.Connection, vault: Vault) -> tuple[int, str]:
    """Number and hash of the last record as sealed; (0, genesis) before the first. Raises SealBroken."""
    row = db.execute("SELECT seq, sealed FROM audit_head").fetchone()
    if row is None:
        return 0, chain.GENESIS
    return row[0], vault.open(row[1], _place(row[0])).decode()


def last_seq(db: sqlite3.Connection) -> int:
    """The highest number in the log itself, whatever the head says."""
    return int(db.execute("SELECT coalesce(max(seq), 0) FROM audit").fetchone()[0])


def search(db: sqlite3.Connection, wanted: AuditFilter) -> tuple[AuditRecord, ...]:
    after = wanted.after_seq
    if wanted.since_s is not None:
        after = max(after, _first_since(db, wanted.since_s) - 1)
    prefix = None
    whole = wanted.action
    if whole is not None and whole.endswith(".*"):
        prefix, whole = whole[:-1], None
    values: dict[str, Any] = {
        "after": after,
        "since": wanted.since_s,
        "tenant": wanted.tenant_id,
        "key": wanted.key_id,
        "action": whole,
        "prefix": prefix,
        "limit": wanted.limit,
    }
    rows = db.execute(
        _SELECT
        + """ WHERE seq > :after
            AND (:since IS NULL OR at_s >= :since)
            AND (:tenant IS NULL OR tenant_id = :tenant)
            AND (:key IS NULL OR key_id = :key)
            AND (:action IS NULL OR action = :action)
            AND (:prefix IS NULL OR substr(action, 1, length(:prefix)) = :prefix)
        ORDER BY seq LIMIT :limit""",
        values,
    )
    return tuple(chain.from_row(row) for row in rows)


def _first_since(db: sqlite3.Connection, since_s: float) -> int:
    """The lowest number of the records from ``since_s`` on, by the index of times; 0 when there is none."""
    return int(db.execute("SELECT coalesce(min(seq), 0) FROM audit WHERE at_s >= ?", (since_s,)).fetchone()[0])


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a verification has come: the last good record, and what is wrong after it."""

    seq: int
    last_hash: str
    fault: str | None
    rows: int


def verify_some(db: sqlite3.Connection, seq: int, last_hash: str, up_to: int, limit: int) -> Progress:
    """Follows the chain for at most ``limit`` records from ``seq``, not beyond ``up_to``."""
    rows = db.execute(_SELECT + " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (seq, up_to, limit)).fetchall()
    seq, last_hash, fault = chain.broken_at(rows, seq, last_hash)
    return Progress(seq, last_hash, fault, len(rows))


def sealed_head(db: sqlite3.Connection, vault: Vault) -> tuple[int, str, str | None]:
    """As :func:`head`, and what is wrong with it; where the head does not serve, the log's own end."""
    end, seq, sealed = db.execute(
        """SELECT (SELECT coalesce(max(seq), 0) FROM audit), (SELECT seq FROM audit_head),
            (SELECT sealed FROM audit_head)"""
    ).fetchone()
    if seq is None:
        return end, chain.GENESIS, "the sealed head of the log is missing" if end else None
    try:
        last_hash = vault.open(sealed, _place(seq)).decode()
    except SealBroken:
        return end, "", "the sealed head of the log was altered"
    if end > seq:
        return end, "", f"the log has records beyond its sealed head, which is record {seq}"
    return seq, last_hash, None


def _place(seq: int) -> Place:
    return Place("audit_head", "1", "sealed", seq)
