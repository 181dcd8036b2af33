"""Migrations are numbered without gaps, run once, and are undone whole when they fail."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from store.schema import APPLICATION_ID, MIGRATIONS, SET_APPLICATION_ID, Migration, migrate, version_of


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        yield made


def schema(db: sqlite3.Connection) -> list[tuple[str, str]]:
    return db.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_each_migration_ends_by_setting_its_own_number() -> None:
    assert [migration.version for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    for migration in MIGRATIONS:
        assert migration.statements[-1] == f"PRAGMA user_version = {migration.version}"


def test_the_application_id_is_what_is_looked_for(db: sqlite3.Connection) -> None:
    db.execute(SET_APPLICATION_ID)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert APPLICATION_ID.to_bytes(4, "big") == b"CRLY"


LAST = len(MIGRATIONS)


def later(steps: int, statement: str) -> Migration:
    """A migration that a later release may bring."""
    return Migration(LAST + steps, (statement, f"PRAGMA user_version = {LAST + steps}"))


def test_an_empty_database_is_brought_up_and_a_second_run_changes_nothing(db: sqlite3.Connection) -> None:
    assert migrate(db) == len(MIGRATIONS)
    before = schema(db)
    assert migrate(db) == len(MIGRATIONS)
    assert schema(db) == before


def test_only_what_is_missing_runs(db: sqlite3.Connection) -> None:
    migrate(db)
    second = later(1, "CREATE TABLE second (id TEXT)")
    third = later(2, "INSERT INTO second VALUES ('once')")
    assert migrate(db, (*MIGRATIONS, second)) == LAST + 1
    for _ in range(2):
        assert migrate(db, (*MIGRATIONS, second, third)) == LAST + 2
    assert db.execute("SELECT id FROM second").fetchall() == [("once",)]


def test_a_failure_undoes_every_migration_of_the_run(db: sqlite3.Connection) -> None:
    second = later(1, "CREATE TABLE second (id TEXT)")
    third = later(2, "CREATE TABLE second (id TEXT)")
    migrate(db)
    before = schema(db)
    with pytest.raises(sqlite3.OperationalError):
        migrate(db, (*MIGRATIONS, second, third))
    assert schema(db) == before
    assert version_of(db) == LAST
    assert not db.in_transaction
