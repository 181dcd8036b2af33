"""The store on one Redis server, shared by the replicas of several hosts.

RedisStore answers for the promises of store.base: which calls write durably, judged by which clock. What a call does
to the tables stands in the modules beside it: redis_accounts, redis_refresh, redis_keys, redis_documents, redis_tasks,
redis_shared, redis_audit, redis_sealed; how a store is opened in redis_open; how one atomic step works in
redis_records.

Rules that hold:

* a call that returned has been written by the server. That it is on the server's disk by then takes ``appendfsync
  always``, or WAITAOF (asked for by itself from Redis 7.2 on); docs/redis.md says what is at stake otherwise;
* times are judged by the server's clock. A clock that is given instead is for tests;
* a call that raises StoreUnavailable has happened whole or not at all, and it is not known which. Every write compares
  versions or fences, so a second try cannot do it twice unnoticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ops.clock import Clock
from ops.log import get_logger
from store import redis_accounts, redis_documents, redis_keys, redis_refresh, redis_shared
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
from store.redis_audit import RedisAudit
from store.redis_link import RedisLink
from store.redis_open import ask_keeping, prepare
from store.redis_records import RedisRecords, Table
from store.redis_sealed import RedisSealedRows
from store.redis_tasks import RedisTaskStore
from store.vault import Vault


class RedisStore:
    """Implements store.base.Store. Build it with :meth:`open`; close it with :meth:`close`."""

    def __init__(self, records: RedisRecords, vault: Vault) -> None:
        self._records = records
        self._vault = vault
        self._audit = RedisAudit(records, vault)

    @classmethod
    async def open(
        cls,
        url: str,
        vault: Vault,
        *,
        prefix: str,
        timeout_s: float,
        clock: Clock | None = None,
        create: bool = True,
        warn: bool = False,
        replicas: int = 0,
    ) -> RedisStore:
        """Opens the store under ``prefix``, or begins it when nothing is there and ``create`` allows it.

        ``timeout_s`` bounds every step. ``warn`` logs what the server's settings may cost. ``replicas``: how many
        replicas must have a durable write. Raises StoreCorrupt, FutureSchema, WrongKey with nothing changed;
        StoreUnusable for the URL or the password, StoreUnavailable. Nothing stays open then.
        """
        link = RedisLink(url, name=f"codex-relay:{prefix}", timeout_s=timeout_s, retries=3)
        try:
            epoch = await prepare(link, prefix, vault, create=create)
            keeping = await ask_keeping(link)
            if warn:
                for line in keeping.warnings():
                    get_logger().warning("store_may_lose_records", server=link.where, cause=line)
            records = RedisRecords(link, prefix, epoch, clock, wait_for_disk=keeping.can_confirm, replicas=replicas)
            await records.look()
        except BaseException:
            await link.close()
            raise
        return cls(records, vault)

    @property
    def where(self) -> str:
        """The server for messages, without the password."""
        return self._records.link.where

    async def close(self) -> None:
        """A call after it raises StoreUnavailable."""
        await self._records.link.close()

    async def check(self) -> None:
        await self._records.write([("HINCRBY", Table.COUNTERS, "probe", 1)])

    def task_store(self) -> RedisTaskStore:
        """The tasks of the sandbox, over the same connections; closed with this store."""
        return RedisTaskStore(self._records, self._vault)

    def sealed_rows(self) -> RedisSealedRows:
        """Every sealed value, for a change of keys; over the same connections, closed with this store."""
        return RedisSealedRows(self._records)

    async def _sealing(self) -> Vault:
        """The vault with its keys up to date: asking their source may block, so it is done on a thread."""
        await asyncio.to_thread(self._vault.look)
        return self._vault

    # accounts and credentials

    async def accounts(self) -> tuple[Account, ...]:
        return await redis_accounts.accounts(self._records)

    async def account(self, account_id: str) -> Account | None:
        return await redis_accounts.account(self._records, account_id)

    async def add_account(self, account: Account, credential: Credential) -> None:
        await redis_accounts.add_account(self._records, await self._sealing(), account, credential)

    async def put_account(self, account: Account, expected_version: int) -> Account:
        return await redis_accounts.put_account(self._records, account, expected_version)

    async def remove_account(self, account_id: str) -> bool:
        return await redis_accounts.remove_account(self._records, account_id)

    async def credential(self, account_id: str) -> Credential | None:
        return await redis_accounts.credential(self._records, self._vault, account_id)

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        return await redis_accounts.put_credential(self._records, await self._sealing(), credential, expected_version)

    # the claim on a refresh

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        return await redis_refresh.claim(self._records, scope, holder, ttl_s)

    async def release(self, claim: Claim) -> None:
        await redis_refresh.release(self._records, claim)

    async def intent(self, account_id: str) -> RefreshIntent | None:
        return await redis_refresh.intent(self._records, account_id)

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        return await redis_refresh.begin_refresh(self._records, self._vault, account_id, claim, token_digest)

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        return await redis_refresh.finish_refresh(
            self._records, await self._sealing(), credential, claim, expected_version
        )

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        await redis_refresh.abandon_refresh(self._records, account_id, claim, state)

    # tenants and client keys

    async def tenants(self) -> tuple[Tenant, ...]:
        return await redis_keys.tenants(self._records)

    async def add_tenant(self, tenant: Tenant) -> None:
        await redis_keys.add_tenant(self._records, tenant)

    async def put_tenant(self, tenant: Tenant, expected_version: int) -> Tenant:
        return await redis_keys.put_tenant(self._records, tenant, expected_version)

    async def remove_tenant(self, tenant_id: str) -> bool:
        return await redis_keys.remove_tenant(self._records, tenant_id)

    async def keys(self) -> tuple[ClientKey, ...]:
        return await redis_keys.keys(self._records)

    async def add_key(self, key: ClientKey) -> None:
        await redis_keys.add_key(self._records, key)

    async def put_key(self, key: ClientKey, expected_version: int) -> ClientKey:
        return await redis_keys.put_key(self._records, key, expected_version)

    async def remove_key(self, key_id: str) -> bool:
        return await redis_keys.remove_key(self._records, key_id)

    async def sealed_value(self, name: str, make: bytes) -> bytes:
        return await redis_keys.sealed_value(self._records, await self._sealing(), name, make)

    # hot state

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        if health or windows:
            await redis_shared.publish(self._records, health, windows)

    async def changes(self, cursor: int) -> Changes:
        return await redis_shared.changes(self._records, cursor)

    async def place(self, placements: Sequence[Placement]) -> None:
        if placements:
            await redis_shared.place(self._records, placements)

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        return await redis_shared.placements(self._records, kind, digests)

    async def purge(self) -> int:
        return await redis_shared.purge(self._records)

    # documents

    async def document(self, kind: str, document_id: str) -> Document | None:
        return await redis_documents.document(self._records, self._vault, kind, document_id)

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]:
        return await redis_documents.documents(self._records, self._vault, kind, after_id, limit)

    async def add_document(self, document: Document) -> Document:
        return await redis_documents.add_document(self._records, await self._sealing(), document)

    async def put_document(self, document: Document, expected_version: int) -> Document:
        return await redis_documents.put_document(self._records, await self._sealing(), document, expected_version)

    async def remove_document(self, kind: str, document_id: str) -> bool:
        return await redis_documents.remove_document(self._records, kind, document_id)

    # audit

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        await self._sealing()
        return await self._audit.append(records)

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
        def matches(record: AuditRecord) -> bool:
            return (
                (since_s is None or record.at_s >= since_s)
                and (tenant_id is None or record.tenant_id == tenant_id)
                and (key_id is None or record.key_id == key_id)
                and (action is None or _is_action(record.action, action))
            )

        return await self._audit.search(since_s, after_seq, limit, matches)

    async def verify_audit(self) -> tuple[int, str | None]:
        return await self._audit.verify()


def _is_action(action: str, wanted: str) -> bool:
    return action.startswith(wanted[:-1]) if wanted.endswith(".*") else action == wanted
