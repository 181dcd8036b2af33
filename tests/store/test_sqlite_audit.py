"""Whoever edits the log in the file, without the key, is found out."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest

from store import chain
from store.errors import SealBroken
from store.sqlite import SqliteStore
from tests.fakes.records import make_audit
from tests.store.conftest import Opener

pytestmark = pytest.mark.fault("C42")

UNGUARD = """
    DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted;
    DROP TRIGGER audit_head_stays; DROP TRIGGER audit_head_rises;
"""


@pytest.fixture
async def log(store: SqliteStore) -> SqliteStore:
    await store.append_audit([make_audit(f"action.{number}") for number in range(1, 11)])
    return store


def edit(path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(UNGUARD + script)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET outcome = 'ok' WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 10",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET seq = 3",
    ],
)
def test_the_database_itself_refuses_to_change_the_log(log: SqliteStore, path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)


@pytest.mark.parametrize(
    ("script", "good", "what"),
    [
        ("UPDATE audit SET outcome = 'refused' WHERE seq = 4", 3, "record 4 was changed"),
        ("UPDATE audit SET at_s = at_s + 1 WHERE seq = 1", 0, "record 1 was changed"),
        ("UPDATE audit SET detail = '[]' WHERE seq = 10", 9, "record 10 was changed"),
        ("UPDATE audit SET hash = prev_hash WHERE seq = 4", 3, "record 4 was changed"),
        ("DELETE FROM audit WHERE seq = 4", 3, "record 4 is missing"),
        ("DELETE FROM audit WHERE seq = 1", 0, "record 1 is missing"),
        ("DELETE FROM audit WHERE seq > 7", 7, "the log ends at record 7, its sealed head is record 10"),
        ("DELETE FROM audit", 0, "the log ends at record 0, its sealed head is record 10"),
        ("DELETE FROM audit WHERE seq > 7; UPDATE audit_head SET seq = 7", 7, "sealed head of the log was altered"),
        ("DELETE FROM audit WHERE seq > 7; DELETE FROM audit_head", 7, "sealed head of the log is missing"),
        ("UPDATE audit SET seq = seq + 1 WHERE seq = 10", 9, "record 10 is missing"),
        (
            """INSERT INTO audit SELECT 11, at_s, actor, 'forged', outcome, tenant_id, key_id, request_id, target,
                model, input_tokens, output_tokens, detail, hash, hash FROM audit WHERE seq = 10""",
            10,
            "record 11 was changed",
        ),
        (
            """UPDATE audit SET prev_hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 4""",
            3,
            "record 4 does not follow",
        ),
    ],
)
async def test_an_edit_is_found_at_its_place(log: SqliteStore, path: Path, script: str, good: int, what: str) -> None:
    assert await log.verify_audit() == (10, None)
    edit(path, script)
    seq, fault = await log.verify_audit()
    assert seq == good
    assert fault is not None
    assert what in fault


async def test_a_chain_that_was_written_anew_does_not_match_its_head(log: SqliteStore, path: Path) -> None:
    records = await log.search_audit()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(UNGUARD + "DELETE FROM audit")
        last_hash = chain.GENESIS
        for record in records:
            outcome = "forged" if record.seq == 3 else record.outcome
            row = chain.to_row(make_audit(record.action, outcome=outcome), record.seq, last_hash)
            last_hash = row[14]
            db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.commit()
    assert await log.verify_audit() == (10, "the log was written anew: its end does not match its sealed head")


async def test_writing_goes_on_after_a_tail_was_cut_and_the_gap_stays_visible(log: SqliteStore, path: Path) -> None:
    edit(path, "DELETE FROM audit WHERE seq > 7")
    assert await log.append_audit([make_audit()]) == 11
    assert await log.verify_audit() == (7, "record 8 is missing: record 11 follows record 7")


async def test_writing_goes_on_behind_a_record_that_was_slipped_in(log: SqliteStore, path: Path) -> None:
    edit(
        path,
        """INSERT INTO audit SELECT 11, at_s, actor, 'forged', outcome, tenant_id, key_id, request_id, target,
            model, input_tokens, output_tokens, detail, hash, hash FROM audit WHERE seq = 10""",
    )
    assert await log.append_audit([make_audit()]) == 12
    assert await log.verify_audit() == (10, "record 11 was changed")


async def test_an_altered_head_is_not_papered_over(log: SqliteStore, path: Path) -> None:
    edit(path, "UPDATE audit_head SET seq = 5")
    with pytest.raises(SealBroken):
        await log.append_audit([make_audit()])
    assert len(await log.search_audit()) == 10


async def test_the_head_is_sealed_for_its_number(log: SqliteStore, path: Path, opener: Opener) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        (earlier,) = db.execute("SELECT sealed FROM audit_head").fetchone()
        await log.append_audit([make_audit()])
        db.executescript(UNGUARD)
        db.execute("UPDATE audit_head SET sealed = ?", (earlier,))
        db.commit()
    assert await log.verify_audit() == (11, "the sealed head of the log was altered")


async def test_a_batch_costs_little(store: SqliteStore) -> None:
    """A guard against a change of order, not a benchmark: a record costs some 6 us of CPU here."""
    records = [make_audit() for _ in range(200)]
    started_s = time.process_time()
    for _ in range(10):
        await store.append_audit(records)
    assert (time.process_time() - started_s) / 2000 < 60e-6
