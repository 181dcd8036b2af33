"""How does everything that one store keeps get into another, of whatever kind?

Through the front door of both: records are read, opened and written as their owners would, so that each store seals
them under its own key in its own places. The audit log is appended in order from its first record; the same records
make the same chain, and the copy is verified at the end.

Rules that hold:

* the target must be empty, and nobody may write to it meanwhile;
* a source that is written meanwhile gives records of different moments, each of them whole: what belongs together
  (an account and its tokens, a task and its attempts) is read together;
* what is only warm is left behind: placements, claims, open intents. Whoever restores treats refresh tokens as
  possibly used.

What it costs: every record passes through this process, opened. Nothing of it is written anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from store.base import Store
from store.errors import StoreUnusable
from store.records import Document
from store.task_records import TaskFilter

_PAGE: Final = 500
_VALUE: Final = "value:"


@dataclass(frozen=True, slots=True)
class Copied:
    """How many of each."""

    accounts: int = 0
    keys: int = 0
    documents: int = 0
    tasks: int = 0
    audit_records: int = 0


async def copy_store(source: Store, target: Store) -> Copied:
    """Copies all of it. Raises StoreUnusable when the target is not empty or the copy does not verify, StoreError."""
    if await target.accounts() or await target.tenants() or await target.search_audit(limit=1):
        raise StoreUnusable("the target store is not empty; name an empty one")
    documents = await _sealed(source, target)
    accounts = await _directory(source, target)
    tasks = await _tasks(source, target)
    known = await source.changes(0)
    await target.publish(known.health, known.windows)
    records = await _audit(source, target)
    return Copied(accounts, len(await source.keys()), documents, tasks, records)


async def _sealed(source: Store, target: Store) -> int:
    """Sealed values and documents, by the names that the list of sealed rows gives."""
    rows = source.sealed_rows()
    cursor: str | None = ""
    seen: set[tuple[str, str]] = set()
    count = 0
    while cursor is not None:
        page = await rows.page(cursor)
        cursor = page.cursor
        for row in page.rows:
            name = (row.place.table, row.place.row_id)
            if name in seen:
                continue
            seen.add(name)
            if name[0] == "sealed_values" and name[1].startswith(_VALUE):
                value = name[1].removeprefix(_VALUE)
                await target.sealed_value(value, await source.sealed_value(value, b""))
            elif name[0] == "documents":
                kind, _, document_id = name[1].partition("/")
                found = await source.document(kind, document_id)
                if found is not None:
                    await target.add_document(Document(kind, document_id, found.body, found.expires_at_s))
                    count += 1
    return count


async def _directory(source: Store, target: Store) -> int:
    count = 0
    for account in await source.accounts():
        credential = await source.credential(account.id)
        if credential is not None:
            await target.add_account(account, credential)
            count += 1
    for tenant in await source.tenants():
        await target.add_tenant(tenant)
    for key in await source.keys():
        await target.add_key(key)
    return count


async def _tasks(source: Store, target: Store) -> int:
    here, there = source.task_store(), target.task_store()
    count, before = 0, None
    while page := await here.tasks(TaskFilter(archived=None, before_id=before, limit=_PAGE)):
        before = page[-1].id
        for task in page:
            await there.add_task(task, await here.attempts(task.id))
            count += 1
            after = 0
            while lines := await here.log(task.id, after, _PAGE):
                after = lines[-1].number
                await there.append_log(lines)
    return count


async def _audit(source: Store, target: Store) -> int:
    after = 0
    while records := await source.search_audit(after_seq=after, limit=_PAGE):
        after = records[-1].seq
        await target.append_audit(records)
    count, fault = await target.verify_audit()
    if fault is not None or count != after:
        raise StoreUnusable(f"the copied audit log has {count} of {after} records ({fault}); do not use this copy")
    return count
