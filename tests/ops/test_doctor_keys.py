"""The doctor names rows that no key opens, an old key in use, and a backup that is missing, old or under a lost key."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ops.doctor_keys import check_backup, check_rows, examine_keys
from ops.findings import Status
from store.backup_note import LastBackup
from store.rewrap import Census
from store.vault import KeyRing, key_id
from tests.store.sealed_rig import FILLED, fill, key_file, open_under

OLD, NEW, GONE = b"o" * 32, b"n" * 32, b"g" * 32
RING = KeyRing([NEW, OLD])
NOW_S = 1_795_000_000.0


def census(**rows: int) -> Census:
    ids = {"new": key_id(NEW), "old": key_id(OLD), "gone": key_id(GONE), "unreadable": b""}
    return Census(Counter({("credentials", ids[name]): count for name, count in rows.items()}))


@pytest.mark.parametrize(
    ("rows", "status", "words"),
    [
        ({"new": 3}, Status.OK, "3 under key"),
        ({}, Status.OK, "0 under key"),
        ({"new": 1, "old": 2}, Status.WARN, "2 are under an older key"),
        ({"new": 1, "old": 2, "gone": 4}, Status.FAIL, f"4 under {key_id(GONE).hex()}"),
        ({"unreadable": 1}, Status.FAIL, "1 under unreadable"),
    ],
)
def test_rows_are_judged_by_the_keys_that_are_here(rows: dict[str, int], status: Status, words: str) -> None:
    (finding,) = check_rows(census(**rows), RING)
    assert finding.status is status
    assert words in finding.message
    assert bool(finding.fix) is (status is not Status.OK)


@pytest.mark.parametrize(
    ("last", "status", "words"),
    [
        (None, Status.OK, "none was made"),
        (LastBackup(NOW_S - 86_400, key_id(NEW).hex(), "id"), Status.OK, "keep the key apart"),
        (LastBackup(NOW_S - 10 * 86_400, key_id(NEW).hex(), "id"), Status.WARN, "10 days old"),
        (LastBackup(NOW_S - 86_400, key_id(GONE).hex(), "id"), Status.WARN, "retired key"),
    ],
)
def test_the_last_backup_is_judged_by_age_and_key(last: LastBackup | None, status: Status, words: str) -> None:
    (finding,) = check_backup(last, RING, NOW_S)
    assert finding.status is status
    assert words in finding.message


async def test_a_real_store_is_counted_whole(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    store = await open_under(tmp_path / "relay.db", keys)
    await fill(store)
    rows, backup = await examine_keys(store, keys.load(), NOW_S)
    assert rows.message.startswith(f"{sum(FILLED.values())} under key")
    assert "none was made" in backup.message
    await store.close()
