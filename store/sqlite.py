"""The store of one SQLite file, shared by the processes of one machine.

SqliteStore answers for the promises of store.base: which calls write durably, on which thread, judged by which clock.
What a call does to the tables stands in the modules beside it: sqlite_accounts, sqlite_refresh, sqlite_keys,
sqlite_hot, sqlite_documents, sqlite_audit; how the file is opened in sqlite_file; how threads and transactions work in
sqlite_threads.

Rules that hold:

* accounts, credentials, claims, intents, keys and audit are durable when a call returns; hot state is not (fsync is
  left out), and never damages the rest;
* times are judged by the clock of the database's machine, inside the transaction. A clock that is given instead is
  for tests: real processes of one file share one machine;
* reads that must see the latest credential go where the others go: after a commit every connection sees it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ops.clock import Clock, SystemClock
from store import chain, sqlite_accounts, sqlite_audit, sqlite_documents, sqlite_hot, sqlite_keys, sqlite_refresh
from store.base import Changes
from store.records import (
    Account,
    AuditRecord,
    Claim,
    ClientKey,
    Credential,
    Document,
    HealthRecord,
    Placement,
    RefreshIntent,
    Tenant,
    WindowRecord,
)
from store.schema import MIGRATIONS, Migration
from store.sqlite_file import prepare
from store.sqlite_sealed import SqliteSealedRows
from store.sqlite_tasks import SqliteTaskStore
from store.sqlite_threads import SqliteThreads
from store.vault import Vault

_VERIFY_STEP: Final = 2000


class SqliteStore:
    """Implements store.base.Store. Build it with :meth:`open`; close it with :meth:`close`."""

    def __init__(self, threads: SqliteThreads, vault: Vault, clock: Clock | None) -> None:
        self._threads = threads
        self._vault = vault
        self._clock = clock

    @classmethod
    async def open(
        cls,
        path: Path,
        vault: Vault,
        *,
        busy_timeout_s: float,
        clock: Clock | None = None,
        verify: bool = True,
        migrations: Sequence[Migration] = MIGRATIONS,
    ) -> SqliteStore:
        """Opens the file, or makes it; migrates an older one after a copy of it.

        ``verify`` reads the whole file once before use. Raises StoreCorrupt, FutureSchema, WrongKey with the file
        untouched; StoreUnavailable when it is locked or the disk refuses.
        """
        threads = SqliteThreads(path, busy_timeout_s, clock or SystemClock())
        await threads.open(lambda: prepare(path, vault, busy_timeout_s, verify=verify, migrations=migrations))
        return cls(threads, vault, clock)

    async def close(self) -> None:
        """Finishes the writes that were asked for, then closes; a call after it raises StoreUnavailable."""
        await self._threads.close()

    async def check(self) -> None:
        await self._threads.write(_probe)

    def _now_s(self, db: sqlite3.Connection) -> float:
        return sqlite_refresh.database_now(db) if self._clock is None else self._clock.now_s()

    def task_store(self) -> SqliteTaskStore:
        """The tasks of the sandbox, on the same threads; closed with this store."""
        return SqliteTaskStore(self._threads, self._vault, self._now_s)

    def sealed_rows(self) -> SqliteSealedRows:
        """Every sealed value, for a change of keys; on the same threads, closed with this store."""
        return SqliteSealedRows(self._threads)

    # accounts and credentials

    async def accounts(self) -> tuple[Account, ...]:
        return await self._threads.read(sqlite_accounts.accounts)

    async def account(self, account_id: str) -> Account | None:
        return await self._threads.read(lambda db: sqlite_accounts.account(db, account_id))

    async def add_account(self, account: Account, credential: Credential) -> None:
        await self._threads.write(lambda db: sqlite_accounts.add_account(db, self._vault, account, credential))

    async def put_account(self, account: Account, expected_version: int) -> Account:
        return await self._threads.write(lambda db: sqlite_accounts.put_account(db, account, expected_version))

    async def remove_account(self, account_id: str) -> bool:
        return await self._threads.write(lambda db: sqlite_accounts.remove_account(db, account_id))

    async def credential(self, account_id: str) -> Credential | None:
        return await self._threads.read(lambda db: sqlite_accounts.credential(db, self._vault, account_id))

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        return await self._threads.write(
            lambda db: sqlite_accounts.put_credential(db, self._vault, credential, expected_version)
        )

    # the claim on a refresh

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        return await self._threads.write(lambda db: sqlite_refresh.claim(db, scope, holder, ttl_s, self._now_s(db)))

    async def release(self, claim: Claim) -> None:
        await self._threads.write(lambda db: sqlite_refresh.release(db, claim))

    async def intent(self, account_id: str) -> RefreshIntent | None:
        return await self._threads.read(lambda db: sqlite_refresh.intent(db, account_id))

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        return await self._threads.write(
            lambda db: sqlite_refresh.begin_refresh(db, self._vault, account_id, claim, token_digest, self._now_s(db))
        )

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        return await self._threads.write(
            lambda db: sqlite_refresh.finish_refresh(db, self._vault, credential, claim, expected_version)
        )

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        await self._threads.write(lambda db: sqlite_refresh.abandon_refresh(db, account_id, claim, state))

    # tenants and client keys

    async def tenants(self) -> tuple[Tenant, ...]:
        return await self._threads.read(sqlite_keys.tenants)

    async def add_tenant(self, tenant: Tenant) -> None:
        await self._threads.write(lambda db: sqlite_keys.add_tenant(db, tenant))

    async def put_tenant(self, tenant: Tenant, expected_version: int) -> Tenant:
        return await self._threads.write(lambda db: sqlite_keys.put_tenant(db, tenant, expected_version))

    async def remove_tenant(self, tenant_id: str) -> bool:
        return await self._threads.write(lambda db: sqlite_keys.remove_tenant(db, tenant_id))

    async def keys(self) -> tuple[ClientKey, ...]:
        return await self._threads.read(sqlite_keys.keys)

    async def add_key(self, key: ClientKey) -> None:
        await self._threads.write(lambda db: sqlite_keys.add_key(db, key))

    async def put_key(self, key: ClientKey, expected_version: int) -> ClientKey:
        return await self._threads.write(lambda db: sqlite_keys.put_key(db, key, expected_version))

    async def remove_key(self, key_id: str) -> bool:
        return await self._threads.write(lambda db: sqlite_keys.remove_key(db, key_id))

    async def sealed_value(self, name: str, make: bytes) -> bytes:
        found = await self._threads.read(lambda db: sqlite_keys.find_sealed(db, self._vault, name))
        if found is not None:
            return found
        return await self._threads.write(lambda db: sqlite_keys.sealed_value(db, self._vault, name, make))

    # hot state

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        if health or windows:
            await self._threads.write(lambda db: sqlite_hot.publish(db, health, windows), durable=False)

    async def changes(self, cursor: int) -> Changes:
        def job(db: sqlite3.Connection) -> Changes:
            self._vault.look()  # this poll is how a worker that seals nothing learns of other keys
            return sqlite_hot.changes(db, cursor)

        return await self._threads.read(job)

    async def place(self, placements: Sequence[Placement]) -> None:
        if placements:
            await self._threads.write(lambda db: sqlite_hot.place(db, placements), durable=False)

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        return await self._threads.read(lambda db: sqlite_hot.placements(db, kind, digests, self._now_s(db)))

    async def purge(self) -> int:
        return await self._threads.write(self._purge, durable=False)

    def _purge(self, db: sqlite3.Connection) -> int:
        now_s = self._now_s(db)
        return sqlite_hot.purge(db, now_s) + sqlite_documents.purge(db, now_s)

    # documents

    async def document(self, kind: str, document_id: str) -> Document | None:
        return await self._threads.read(
            lambda db: sqlite_documents.document(db, self._vault, kind, document_id, self._now_s(db))
        )

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]:
        return await self._threads.read(
            lambda db: sqlite_documents.documents(db, self._vault, kind, after_id, limit, self._now_s(db))
        )

    async def add_document(self, document: Document) -> Document:
        return await self._threads.write(
            lambda db: sqlite_documents.add_document(db, self._vault, document, self._now_s(db))
        )

    async def put_document(self, document: Document, expected_version: int) -> Document:
        return await self._threads.write(
            lambda db: sqlite_documents.put_document(db, self._vault, document, expected_version, self._now_s(db))
        )

    async def remove_document(self, kind: str, document_id: str) -> bool:
        return await self._threads.write(
            lambda db: sqlite_documents.remove_document(db, kind, document_id, self._now_s(db))
        )

    # audit

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        return await self._threads.write(lambda db: sqlite_audit.append(db, self._vault, records))

    async def search_audit(
        self,
        *,
        since_s: float | None = None,
        tenant_id: str | None = None,
        key_id: str | None = None,
        action: str | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> tuple[AuditRecord, ...]:
        wanted = sqlite_audit.AuditFilter(since_s, tenant_id, key_id, action, after_seq, limit)
        return await self._threads.read(lambda db: sqlite_audit.search(db, wanted))

    async def verify_audit(self) -> tuple[int, str | None]:
        """Reads in steps, so that other reads are served between them; records that are added meanwhile are left
        for the next time."""
        end, end_hash, fault = await self._threads.read(lambda db: sqlite_audit.sealed_head(db, self._vault))
        seq, last_hash = 0, chain.GENESIS
        while True:
            step = await self._threads.read(
                partial(sqlite_audit.verify_some, seq=seq, last_hash=last_hash, up_to=end, limit=_VERIFY_STEP)
            )
            seq, last_hash = step.seq, step.last_hash
            if step.fault is not None:
                return seq, step.fault
            if step.rows < _VERIFY_STEP:
                break
        if fault is not None:
            return seq, fault
        if seq < end:
            return seq, f"the log ends at record {seq}, its sealed head is record {end}"
        if last_hash != end_hash:
            return seq, "the log was written anew: its end does not match its sealed head"
        return seq, None


def _probe(db: sqlite3.Connection) -> None:
    """A write that nobody reads: it takes the lock, a page of the log and an fsync, as any other does.

    The value must change: SQLite leaves a page alone when it would stay the same.
    """
    db.execute("UPDATE counters SET value = value + 1 WHERE name = 'probe'")
