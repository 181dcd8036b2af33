"""A SQLite store with at least one row in every sealed table."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from ops.clock import SystemClock
from store.base import Store
from store.keyfile import FileKeys
from store.records import AuditRecord, Document, Secret
from store.sealed import SealedRow, SealedRows
from store.sqlite import SqliteStore
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskRecord, TaskState
from store.vault import Vault
from tests.fakes.records import make_account, make_credential

ACCOUNTS = 5
DOCUMENTS = 4
FILLED = {
    "sealed_values": 2,
    "credentials": ACCOUNTS,
    "documents": DOCUMENTS,
    "tasks": 1,
    "attempts": 1,
    "task_log": 2,
    "audit_head": 1,
}


class QuickClock(SystemClock):
    """Sleeps in no time; its monotonic time goes on as if it had slept."""

    def __init__(self) -> None:
        self._slept_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self._slept_s

    async def sleep(self, seconds: float) -> None:
        self._slept_s += seconds
        await asyncio.sleep(0)


QUICK = QuickClock()


def key_file(folder: Path) -> FileKeys:
    keys = FileKeys(folder / "vault.key")
    keys.create()
    return keys


async def open_under(path: Path, keys: FileKeys) -> SqliteStore:
    return await SqliteStore.open(path, Vault(keys.load(), keys, QUICK), busy_timeout_s=5.0, verify=False)


async def fill(store: Store) -> None:
    """What FILLED counts."""
    for number in range(ACCOUNTS):
        refresh = Secret(f"refresh-{number}")
        await store.add_account(make_account(f"a{number}"), make_credential(f"a{number}", refresh_token=refresh))
    for number in range(DOCUMENTS):
        await store.add_document(Document(f"kind{number % 2}", f"id-{number}", f"body {number}".encode()))
    await store.sealed_value("pepper", b"p" * 32)
    await store.append_audit([AuditRecord(1.0, "test", "a.thing", "ok")])
    tasks = store.task_store()
    task = TaskRecord("task1", "t1", "e1", TaskState.QUEUED, b"{}")
    await tasks.add_task(task, [AttemptRecord("task1", 1, "t1", AttemptState.QUEUED, b"{}")])
    await tasks.append_log([LogLine("task1", 1, b"line one"), LogLine("task1", 1, b"line two")])


async def read_everything(store: Store) -> None:
    """Opens every sealed value by the calls that the gateway uses. Raises SealBroken."""
    for number in range(ACCOUNTS):
        found = await store.credential(f"a{number}")
        assert found is not None
        assert found.refresh_token == Secret(f"refresh-{number}")
    bodies = [one.body for kind in ("kind0", "kind1") for one in await store.documents(kind)]
    assert sorted(bodies) == [f"body {number}".encode() for number in range(DOCUMENTS)]
    assert await store.sealed_value("pepper", b"x" * 32) == b"p" * 32
    assert (await store.verify_audit())[1] is None
    tasks = store.task_store()
    task = await tasks.task("task1")
    assert task is not None
    assert task.body == b"{}"
    assert [one.body for one in await tasks.attempts("task1")] == [b"{}"]
    assert [one.body for one in await tasks.log("task1", 0, 10)] == [b"line one", b"line two"]


async def all_rows(source: SealedRows, limit: int = 200) -> list[SealedRow]:
    rows: list[SealedRow] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await source.page(cursor, limit)
        rows += page.rows
        cursor = page.cursor
    return rows


def execute(path: Path, statement: str, *values: object) -> None:
    """As somebody with the file and without the key would."""
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute(statement, values)
    db.close()
