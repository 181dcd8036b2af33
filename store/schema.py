"""What does the database look like, and how does an older file become today's?

Numbered migrations, forward only. Each runs once, in order, inside one transaction with its number; a file that has a
higher number than the last one here was written by a newer release and is not touched.

Habits for the next migration: add, do not rename or drop (an older worker may still run beside a newer one during an
upgrade); every statement is a literal; the last one sets ``user_version``.

What a table holds follows store.records. Sealed columns are store.vault's; places are named after table and column.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

APPLICATION_ID: Final = 0x43524C59
"""``CRLY``: what tells our database from any other SQLite file."""

SET_APPLICATION_ID: Final = "PRAGMA application_id = 1129466969"


@dataclass(frozen=True, slots=True)
class Migration:
    """``statements`` bring a database from ``version`` - 1 to ``version``; the last one sets ``user_version``."""

    version: int
    statements: tuple[str, ...]


_FIRST: Final = Migration(
    1,
    (
        "CREATE TABLE counters (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO counters (name, value) VALUES ('directory', 1), ('shared', 0), ('fence', 0), ('probe', 0)",
        "CREATE TABLE sealed_values (name TEXT NOT NULL PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE accounts (
            id TEXT NOT NULL PRIMARY KEY,
            chatgpt_account_id TEXT NOT NULL UNIQUE,
            label TEXT NOT NULL,
            email TEXT,
            plan TEXT,
            pool TEXT NOT NULL,
            weight INTEGER NOT NULL,
            enabled INTEGER NOT NULL,
            status TEXT NOT NULL,
            status_reason TEXT,
            workspace_origin TEXT,
            routing_override TEXT,
            fedramp INTEGER NOT NULL,
            installation_id TEXT NOT NULL,
            created_at_s REAL NOT NULL,
            version INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE credentials (
            account_id TEXT NOT NULL PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
            tokens BLOB NOT NULL,
            expires_at_s REAL NOT NULL,
            refreshed_at_s REAL NOT NULL,
            refresh_state TEXT NOT NULL,
            version INTEGER NOT NULL
        )""",
        """CREATE TABLE intents (
            account_id TEXT NOT NULL PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
            token_digest TEXT NOT NULL,
            fence INTEGER NOT NULL,
            started_at_s REAL NOT NULL,
            replays INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE claims (
            scope TEXT NOT NULL PRIMARY KEY,
            holder TEXT NOT NULL,
            fence INTEGER NOT NULL,
            expires_at_s REAL NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE tenants (
            id TEXT NOT NULL PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            requests_per_minute INTEGER,
            concurrent_streams INTEGER,
            pools TEXT NOT NULL,
            enabled INTEGER NOT NULL,
            created_at_s REAL NOT NULL,
            version INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE client_keys (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            digest BLOB NOT NULL,
            scopes TEXT NOT NULL,
            models TEXT NOT NULL,
            requests_per_minute INTEGER,
            concurrent_streams INTEGER,
            expires_at_s REAL,
            revoked_at_s REAL,
            created_at_s REAL NOT NULL,
            version INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX client_keys_tenant ON client_keys (tenant_id)",
        """CREATE TABLE health (
            account_id TEXT NOT NULL,
            scope TEXT NOT NULL,
            kind TEXT NOT NULL,
            cause TEXT NOT NULL,
            evidence TEXT NOT NULL,
            since_s REAL NOT NULL,
            until_s REAL NOT NULL,
            next_probe_s REAL,
            level INTEGER NOT NULL,
            state TEXT NOT NULL,
            owner TEXT NOT NULL,
            updated_at_s REAL NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (account_id, scope, kind)
        ) WITHOUT ROWID""",
        "CREATE INDEX health_seq ON health (seq)",
        """CREATE TABLE windows (
            account_id TEXT NOT NULL,
            name TEXT NOT NULL,
            used_percent REAL NOT NULL,
            window_minutes INTEGER,
            resets_at_s REAL,
            seen_at_s REAL NOT NULL,
            seq INTEGER NOT NULL,
            PRIMARY KEY (account_id, name)
        ) WITHOUT ROWID""",
        "CREATE INDEX windows_seq ON windows (seq)",
        """CREATE TABLE placements (
            kind TEXT NOT NULL,
            digest BLOB NOT NULL,
            account_id TEXT NOT NULL,
            expires_at_s REAL NOT NULL,
            PRIMARY KEY (kind, digest)
        ) WITHOUT ROWID""",
        "CREATE INDEX placements_expiry ON placements (expires_at_s)",
        """CREATE TABLE audit (
            seq INTEGER PRIMARY KEY,
            at_s REAL NOT NULL,
            actor TEXT NOT NULL,
            action TEXT NOT NULL,
            outcome TEXT NOT NULL,
            tenant_id TEXT,
            key_id TEXT,
            request_id TEXT,
            target TEXT,
            model TEXT,
            input_tokens INTEGER,
            output_tokens INTEGER,
            detail TEXT NOT NULL,
            prev_hash TEXT NOT NULL,
            hash TEXT NOT NULL
        )""",
        "CREATE INDEX audit_at ON audit (at_s)",
        """CREATE TABLE audit_head (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            seq INTEGER NOT NULL,
            sealed BLOB NOT NULL
        )""",
        """CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        """CREATE TRIGGER audit_head_rises BEFORE UPDATE ON audit_head WHEN NEW.seq <= OLD.seq
            BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END""",
        "PRAGMA user_version = 1",
    ),
)

_DOCUMENTS: Final = Migration(
    2,
    (
        """CREATE TABLE documents (
            kind TEXT NOT NULL,
            id TEXT NOT NULL,
            sealed BLOB NOT NULL,
            expires_at_s REAL,
            version INTEGER NOT NULL,
            PRIMARY KEY (kind, id)
        ) WITHOUT ROWID""",
        "CREATE INDEX documents_expiry ON documents (expires_at_s) WHERE expires_at_s IS NOT NULL",
        "PRAGMA user_version = 2",
    ),
)

_TASKS: Final = Migration(
    3,
    (
        """CREATE TABLE tasks (
            id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL,
            environment_id TEXT NOT NULL,
            state TEXT NOT NULL,
            body BLOB NOT NULL,
            idempotency TEXT,
            created_at_s REAL NOT NULL,
            updated_at_s REAL NOT NULL,
            archived INTEGER NOT NULL,
            version INTEGER NOT NULL,
            last_line INTEGER NOT NULL DEFAULT 0
        )""",
        "CREATE UNIQUE INDEX tasks_idempotency ON tasks (tenant_id, idempotency) WHERE idempotency IS NOT NULL",
        "CREATE INDEX tasks_tenant ON tasks (tenant_id, id)",
        """CREATE TABLE attempts (
            task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            tenant_id TEXT NOT NULL,
            state TEXT NOT NULL,
            body BLOB NOT NULL,
            worker TEXT,
            fence INTEGER NOT NULL,
            lease_until_s REAL NOT NULL,
            leases INTEGER NOT NULL,
            cancel INTEGER NOT NULL,
            created_at_s REAL NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (task_id, number)
        )""",
        "CREATE INDEX attempts_open ON attempts (state, created_at_s) WHERE state <> 'ended'",
        """CREATE TABLE task_log (
            task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            attempt INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (task_id, number)
        ) WITHOUT ROWID""",
        "PRAGMA user_version = 3",
    ),
)

MIGRATIONS: Final[tuple[Migration, ...]] = (_FIRST, _DOCUMENTS, _TASKS)


def version_of(db: sqlite3.Connection) -> int:
    """The number of the last migration that this database has seen."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Runs what is missing in one transaction: all of it or nothing. Returns the version it ends at.

    The version is read again under the write lock, so two processes that start together migrate once.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        current = version_of(db)
        for migration in migrations:
            if migration.version > current:
                for statement in migration.statements:
                    db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return version_of(db)
