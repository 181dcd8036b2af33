"""Documents in SQLite: plain jobs on a connection, one transaction each (store.sqlite_threads).

The body is sealed in its place, which is kind, id and version: an older body put back in its row, or another's, does
not open. An expired row is treated as absent and taken away by the next purge, or by whoever wants its id.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

from store.errors import Conflict, NotFound
from store.records import Document
from store.vault import Place, Vault


def document(db: sqlite3.Connection, vault: Vault, kind: str, document_id: str, now_s: float) -> Document | None:
    row = db.execute(
        """SELECT kind, id, sealed, expires_at_s, version FROM documents
        WHERE kind = ? AND id = ? AND (expires_at_s IS NULL OR expires_at_s > ?)""",
        (kind, document_id, now_s),
    ).fetchone()
    return None if row is None else _opened(vault, row)


def documents(
    db: sqlite3.Connection, vault: Vault, kind: str, after_id: str, limit: int, now_s: float
) -> tuple[Document, ...]:
    rows = db.execute(
        """SELECT kind, id, sealed, expires_at_s, version FROM documents
        WHERE kind = ? AND id > ? AND (expires_at_s IS NULL OR expires_at_s > ?) ORDER BY id LIMIT ?""",
        (kind, after_id, now_s, limit),
    )
    return tuple(_opened(vault, row) for row in rows)


def add_document(db: sqlite3.Connection, vault: Vault, new: Document, now_s: float) -> Document:
    db.execute("DELETE FROM documents WHERE kind = ? AND id = ? AND expires_at_s <= ?", (new.kind, new.id, now_s))
    stored = replace(new, version=1)
    try:
        db.execute(
            "INSERT INTO documents (kind, id, sealed, expires_at_s, version) VALUES (?, ?, ?, ?, 1)",
            (new.kind, new.id, vault.seal(new.body, _place(stored)), new.expires_at_s),
        )
    except sqlite3.IntegrityError:
        raise Conflict(f"a {new.kind} with this id exists already") from None
    return stored


def put_document(
    db: sqlite3.Connection, vault: Vault, changed: Document, expected_version: int, now_s: float
) -> Document:
    stored = replace(changed, version=expected_version + 1)
    done = db.execute(
        """UPDATE documents SET sealed = ?, expires_at_s = ?, version = ?
        WHERE kind = ? AND id = ? AND version = ? AND (expires_at_s IS NULL OR expires_at_s > ?)""",
        (
            vault.seal(stored.body, _place(stored)),
            stored.expires_at_s,
            stored.version,
            stored.kind,
            stored.id,
            expected_version,
            now_s,
        ),
    )
    if done.rowcount:
        return stored
    there = db.execute(
        "SELECT 1 FROM documents WHERE kind = ? AND id = ? AND (expires_at_s IS NULL OR expires_at_s > ?)",
        (stored.kind, stored.id, now_s),
    ).fetchone()
    if there is None:
        raise NotFound(f"there is no such {stored.kind}")
    raise Conflict(f"the {stored.kind} has changed since it was read")


def remove_document(db: sqlite3.Connection, kind: str, document_id: str, now_s: float) -> bool:
    alive = db.execute(
        "SELECT 1 FROM documents WHERE kind = ? AND id = ? AND (expires_at_s IS NULL OR expires_at_s > ?)",
        (kind, document_id, now_s),
    ).fetchone()
    db.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, document_id))
    return alive is not None


def purge(db: sqlite3.Connection, now_s: float) -> int:
    return db.execute("DELETE FROM documents WHERE expires_at_s <= ?", (now_s,)).rowcount


def _opened(vault: Vault, row: tuple[Any, ...]) -> Document:
    kind, document_id, sealed, expires_at_s, version = row
    found = Document(kind, document_id, b"", expires_at_s, version)
    return replace(found, body=vault.open(sealed, _place(found)))


def _place(source: Document) -> Place:
    return Place("documents", f"{source.kind}/{source.id}", "sealed", source.version)
