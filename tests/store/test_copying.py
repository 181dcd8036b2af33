"""Everything that one store keeps, in another of another kind; and backups of a store that is no file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ops.clock import SystemClock
from store.backup_copy import backup_through_file, restore_through_file
from store.base import Store
from store.copying import copy_store
from store.errors import StoreUnusable
from store.memory import MemoryStore
from store.records import Document, RefreshState, Tenant
from store.sqlite import SqliteStore
from store.task_records import AttemptRecord, AttemptState, LogLine, TaskFilter, TaskRecord, TaskState
from tests.fakes.records import make_account, make_audit, make_credential, make_health, make_key, make_window
from tests.redis_server import RedisServer, redis_server
from tests.store.redis_rig import a_vault, opened


async def furnish(store: Store) -> None:
    for name in ("a1", "a2"):
        await store.add_account(make_account(name), make_credential(name))
    await store.add_tenant(Tenant("acme", "acme", pools=("green", "gold")))
    await store.add_key(replace(make_key("k1"), tenant_id="acme"))
    assert await store.sealed_value("pepper", b"p" * 32) == b"p" * 32
    await store.add_document(Document("admin", "one", b"{}"))
    second = await store.add_document(Document("login", "two", b"1"))
    await store.put_document(replace(second, body=b"2"), 1)
    await store.publish([make_health("a1")], [make_window("a2")])
    task = TaskRecord("t1", "acme", "env", TaskState.READY, b"body", "idem", 5.0, 6.0)
    await store.task_store().add_task(task, [AttemptRecord("t1", 1, "acme", AttemptState.ENDED, b"done")])
    await store.task_store().append_log([LogLine("t1", 1, b"a"), LogLine("t1", 1, b"b")])
    await store.append_audit([make_audit(action=f"act.{number}") for number in range(1203)])


async def must_be_the_same(copy: Store, source: Store) -> None:
    assert await copy.accounts() == await source.accounts()
    assert await copy.tenants() == await source.tenants()
    assert await copy.keys() == await source.keys()
    assert await copy.sealed_value("pepper", b"x" * 32) == b"p" * 32
    for kind, name, body in (("admin", "one", b"{}"), ("login", "two", b"2")):
        found = await copy.document(kind, name)
        assert found is not None
        assert found.body == body
    changes = await copy.changes(0)
    assert (changes.health, changes.windows) == ((make_health("a1"),), (make_window("a2"),))
    tasks = copy.task_store()
    (task,) = await tasks.tasks(TaskFilter(archived=None))
    assert (task.id, task.state, task.body, task.idempotency) == ("t1", TaskState.READY, b"body", "idem")
    assert [one.body for one in await tasks.attempts("t1")] == [b"done"]
    assert [line.body for line in await tasks.log("t1", 0, 9)] == [b"a", b"b"]
    assert await copy.verify_audit() == (await source.verify_audit())
    assert (await copy.search_audit(after_seq=1202))[0] == (await source.search_audit(after_seq=1202))[0]


async def sqlite(folder: Path, name: str) -> SqliteStore:
    return await SqliteStore.open(folder / f"{name}.db", a_vault(), busy_timeout_s=2.0)


async def test_a_copy_is_the_same_store_under_its_own_seals(tmp_path: Path) -> None:
    source, copy = await sqlite(tmp_path, "one"), await sqlite(tmp_path, "two")
    await furnish(source)
    done = await copy_store(source, copy)
    assert (done.accounts, done.keys, done.documents, done.tasks, done.audit_records) == (2, 1, 2, 1, 1203)
    await must_be_the_same(copy, source)
    assert await copy.credential("a1") == await source.credential("a1")
    await source.close()
    await copy.close()


async def test_nothing_is_copied_over_what_is_there(tmp_path: Path) -> None:
    source, copy = await sqlite(tmp_path, "one"), MemoryStore()
    await furnish(source)
    await copy.add_tenant(Tenant("other", "other"))
    with pytest.raises(StoreUnusable, match="not empty"):
        await copy_store(source, copy)
    await source.close()


@pytest.mark.slow
async def test_a_store_in_redis_is_backed_up_and_restored_into_another_server(tmp_path: Path) -> None:
    with redis_server() as first, redis_server() as second:
        source = await opened(first.url)
        await furnish(source)
        backup, folder = tmp_path / "out.backup", tmp_path / "keys"
        made = await backup_through_file(source, folder, backup, a_vault(), SystemClock())
        assert made.size_bytes > 0
        assert list(folder.iterdir()) == []

        async def target() -> Store:
            return await opened(second.url)

        done = await restore_through_file(backup, target, folder, a_vault(), SystemClock(), "cli:test")
        assert (done.accounts, done.uncertain) == (2, 2)
        assert list(folder.iterdir()) == []
        await _check(source, second)
        with pytest.raises(StoreUnusable, match="not empty"):
            await restore_through_file(backup, target, folder, a_vault(), SystemClock(), "cli:test")
        assert list(folder.iterdir()) == []
        await source.close()


async def _check(source: Store, server: RedisServer) -> None:
    copy = await opened(server.url)
    assert (await copy.accounts(), await copy.keys()) == (await source.accounts(), await source.keys())
    credential = await copy.credential("a1")
    assert credential is not None
    assert credential.refresh_state is RefreshState.UNCERTAIN
    count, fault = await copy.verify_audit()
    assert (count, fault) == (1204, None)
    assert [one.action for one in await copy.search_audit(after_seq=1203)] == ["store.restore"]
    await copy.close()
