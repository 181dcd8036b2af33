"""Every sealed value in Redis is listed, opens in the place that is told, and is swapped only if nobody wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from store.records import Document, Secret
from store.redis_store import RedisStore
from store.sealed import AUDIT_HEAD, SealedRow, Swap
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskRecord, TaskState
from store.vault import KeyRing, Vault
from tests.fakes.records import make_account, make_audit, make_credential
from tests.redis_server import RedisServer, redis_server
from tests.store.redis_rig import KEY, a_vault, opened, store_on

pytestmark = pytest.mark.slow
NEW = b"n" * 32


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def fill(store: RedisStore) -> None:
    for name in ("a", "b"):
        await store.add_account(make_account(name), make_credential(name))
    await store.sealed_value("pepper", b"value")
    await store.add_document(Document("thing", "x/y", b"{}"))
    tasks = store.task_store()
    await tasks.add_task(
        TaskRecord("t/1", "acme", "env", TaskState.QUEUED, b"body"),
        [AttemptRecord("t/1", 1, "acme", AttemptState.QUEUED, b"attempt")],
    )
    await tasks.append_log([LogLine("t/1", 1, b"line")])
    await store.append_audit([make_audit()])


async def rows(store: RedisStore) -> list[SealedRow]:
    found: list[SealedRow] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await store.sealed_rows().page(cursor, 10)
        found += page.rows
        cursor = page.cursor
    return found


async def test_all_are_listed_and_open_where_they_say(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        await fill(store)
        found = await rows(store)
        assert sorted(row.place.table for row in found) == [
            "attempts", "audit_head", "credentials", "credentials", "documents", "meta", "sealed_values", "task_log",
            "tasks",
        ]  # fmt: skip
        for row in found:
            a_vault().open(row.sealed, row.place)


async def test_rewrapped_values_open_under_the_new_key_alone(server: RedisServer) -> None:
    both = Vault(KeyRing([NEW, KEY]))
    async with store_on(server.url) as store:
        await fill(store)
        revision = (await store.changes(0)).directory_revision
        found = await rows(store)
        swaps = [Swap(row, both.rewrap(row.sealed, row.place)) for row in found]
        assert await store.sealed_rows().swap(swaps) == len(found) - 1
        assert await store.sealed_rows().swap(swaps) == 0
        assert (await store.changes(0)).directory_revision == revision
        head = [row.place.table for row in await rows(store) if row in found]
        assert head == [AUDIT_HEAD]
    renewed = await RedisStore.open(server.url, both, prefix="test", timeout_s=2.0)
    await renewed.append_audit([make_audit()])
    await renewed.close()
    only = await opened(server.url, NEW)
    assert await only.credential("a") == make_credential("a")
    assert await only.sealed_value("pepper", b"") == b"value"
    document = await only.document("thing", "x/y")
    task = await only.task_store().task("t/1")
    assert document is not None
    assert task is not None
    assert (document.body, task.body) == (b"{}", b"body")
    assert [line.body for line in await only.task_store().log("t/1", 0, 9)] == [b"line"]
    assert [one.body for one in await only.task_store().attempts("t/1")] == [b"attempt"]
    assert await only.verify_audit() == (2, None)
    await only.close()


async def test_a_value_that_was_written_meanwhile_is_left(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        await fill(store)
        (old,) = [row for row in await rows(store) if row.place.row_id == "a"]
        stored = await store.put_credential(make_credential("a", access_token=Secret("new")), 1)
        assert await store.sealed_rows().swap([Swap(old, old.sealed)]) == 0
        assert await store.sealed_rows().swap([Swap(replace(old, handle="nobody"), old.sealed)]) == 0
        assert await store.sealed_rows().swap([]) == 0
        assert await store.credential("a") == stored
