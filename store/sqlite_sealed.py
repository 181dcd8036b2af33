"""Every sealed value in the SQLite file, and how one is swapped (store.sealed).

One entry per sealed column, with statements that are whole literals. A new sealed column needs an entry here, and
tests/store/test_sqlite_sealed.py fails until it has one. Swaps of one call are one transaction; callers keep them
small, so that the lock is held for milliseconds.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from store.sealed import AUDIT_HEAD, SealedPage, SealedRow, Swap
from store.sqlite_threads import SqliteThreads
from store.vault import Place

Key = tuple[Any, Any]
_FIRST: Final[Key] = ("", "")


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """``page`` gives (key, second key, sealed, version) after :k1, :k2; ``swap`` compares :version and :old."""

    table: str
    column: str
    page: str
    swap: str | None
    row_id: Callable[[Key], str]


def _first(key: Key) -> str:
    return str(key[0])


def _both(key: Key) -> str:
    return f"{key[0]}/{key[1]}"


COLUMNS: Final = (
    SealedColumn(
        "sealed_values",
        "sealed",
        "SELECT name, '', sealed, 1 FROM sealed_values WHERE name > :k1 ORDER BY name LIMIT :limit",
        "UPDATE sealed_values SET sealed = :new WHERE name = :k1 AND :version = 1 AND sealed = :old",
        _first,
    ),
    SealedColumn(
        "credentials",
        "tokens",
        """SELECT account_id, '', tokens, version FROM credentials WHERE account_id > :k1
        ORDER BY account_id LIMIT :limit""",
        "UPDATE credentials SET tokens = :new WHERE account_id = :k1 AND version = :version AND tokens = :old",
        _first,
    ),
    SealedColumn(
        "documents",
        "sealed",
        """SELECT kind, id, sealed, version FROM documents WHERE (kind, id) > (:k1, :k2)
        ORDER BY kind, id LIMIT :limit""",
        """UPDATE documents SET sealed = :new
        WHERE kind = :k1 AND id = :k2 AND version = :version AND sealed = :old""",
        _both,
    ),
    SealedColumn(
        "tasks",
        "body",
        "SELECT id, '', body, version FROM tasks WHERE id > :k1 ORDER BY id LIMIT :limit",
        "UPDATE tasks SET body = :new WHERE id = :k1 AND version = :version AND body = :old",
        _first,
    ),
    SealedColumn(
        "attempts",
        "body",
        """SELECT task_id, number, body, version FROM attempts WHERE (task_id, number) > (:k1, :k2)
        ORDER BY task_id, number LIMIT :limit""",
        """UPDATE attempts SET body = :new
        WHERE task_id = :k1 AND number = :k2 AND version = :version AND body = :old""",
        _both,
    ),
    SealedColumn(
        "task_log",
        "body",
        """SELECT task_id, number, body, 1 FROM task_log WHERE (task_id, number) > (:k1, :k2)
        ORDER BY task_id, number LIMIT :limit""",
        """UPDATE task_log SET body = :new
        WHERE task_id = :k1 AND number = :k2 AND :version = 1 AND body = :old""",
        _both,
    ),
    SealedColumn(
        AUDIT_HEAD,
        "sealed",
        "SELECT CAST(id AS TEXT), '', sealed, seq FROM audit_head WHERE :k1 = '' LIMIT :limit",
        None,
        _first,
    ),
)
_BY_TABLE: Final = {column.table: column for column in COLUMNS}


class SqliteSealedRows:
    """Implements store.sealed.SealedRows on the threads of a SqliteStore, which closes them."""

    def __init__(self, threads: SqliteThreads) -> None:
        self._threads = threads

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        return await self._threads.read(lambda db: page(db, cursor, limit))

    async def swap(self, swaps: Sequence[Swap]) -> int:
        return await self._threads.write(lambda db: swap(db, swaps)) if swaps else 0


def page(db: sqlite3.Connection, cursor: str, limit: int) -> SealedPage:
    """The rows of one column at a time; its end leads to the next one."""
    index, k1, k2 = json.loads(cursor) if cursor else (0, *_FIRST)
    column = COLUMNS[index]
    found = db.execute(column.page, {"k1": k1, "k2": k2, "limit": limit}).fetchall()
    rows = tuple(_row(column, (one[0], one[1]), one[2], one[3]) for one in found)
    if len(found) == limit:
        return SealedPage(rows, json.dumps((index, found[-1][0], found[-1][1])))
    return SealedPage(rows, json.dumps((index + 1, *_FIRST)) if index + 1 < len(COLUMNS) else None)


def swap(db: sqlite3.Connection, swaps: Sequence[Swap]) -> int:
    """To be run in a transaction."""
    done = 0
    for one in swaps:
        statement = _BY_TABLE[one.row.place.table].swap
        if statement is None:
            continue
        k1, k2 = json.loads(one.row.handle)
        done += db.execute(
            statement,
            {"k1": k1, "k2": k2, "version": one.row.place.version, "old": one.row.sealed, "new": one.sealed},
        ).rowcount
    return done


def _row(column: SealedColumn, key: Key, sealed: bytes, version: int) -> SealedRow:
    place = Place(column.table, column.row_id(key), column.column, version)
    return SealedRow(place, sealed, json.dumps(key))
