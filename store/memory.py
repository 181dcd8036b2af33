"""The store of one process that keeps nothing: for tests, a demonstration, a first look.

The same promises as every store, but durability: what is "durable" here lasts as long as the process. Nothing is
sealed, as nothing leaves the process. No method awaits, so each is atomic on the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ops.clock import Clock, SystemClock
from store import chain, refresh_rules
from store.base import HEALTHY_KEPT_S, Changes
from store.errors import Conflict, NotFound, StoreUnavailable
from store.memory_tasks import MemoryTaskStore
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
    RefreshState,
    Tenant,
    WindowRecord,
)
from store.sealed import NothingSealed

Versioned = TypeVar("Versioned", Account, Credential, Tenant, ClientKey)


class MemoryStore:
    """Implements store.base.Store for one process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._closed = False
        self._revision = 1
        self._seq = 0
        self._fence = 0
        self._accounts: dict[str, Account] = {}
        self._credentials: dict[str, Credential] = {}
        self._intents: dict[str, RefreshIntent] = {}
        self._claims: dict[str, Claim] = {}
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, ClientKey] = {}
        self._values: dict[str, bytes] = {}
        self._health: dict[tuple[str, str, str], tuple[int, HealthRecord]] = {}
        self._windows: dict[tuple[str, str], tuple[int, WindowRecord]] = {}
        self._placements: dict[tuple[str, bytes], Placement] = {}
        self._documents: dict[tuple[str, str], Document] = {}
        self._audit: list[chain.Row] = []
        self._task_store = MemoryTaskStore(self._clock)

    async def close(self) -> None:
        self._closed = True

    def task_store(self) -> MemoryTaskStore:
        return self._task_store

    def sealed_rows(self) -> NothingSealed:
        return NothingSealed()

    async def check(self) -> None:
        self._must_be_open()

    def _must_be_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    def _touch(self) -> None:
        self._must_be_open()
        self._revision += 1

    # accounts and credentials

    async def accounts(self) -> tuple[Account, ...]:
        self._must_be_open()
        return tuple(sorted(self._accounts.values(), key=lambda found: (found.created_at_s, found.id)))

    async def account(self, account_id: str) -> Account | None:
        self._must_be_open()
        return self._accounts.get(account_id)

    async def add_account(self, account: Account, credential: Credential) -> None:
        if credential.account_id != account.id:
            raise Conflict("the credential belongs to another account")
        if account.id in self._accounts or self._has_twin(account):
            raise Conflict("an account with this id or this ChatGPT account id exists already")
        self._touch()
        self._accounts[account.id] = account
        self._credentials[account.id] = credential

    async def put_account(self, account: Account, expected_version: int) -> Account:
        _compare(self._accounts.get(account.id), f"account {account.id!r}", expected_version)
        if self._has_twin(account):
            raise Conflict("another account has this ChatGPT account id")
        self._touch()
        return _put(self._accounts, account.id, account, expected_version)

    async def remove_account(self, account_id: str) -> bool:
        self._must_be_open()
        if self._accounts.pop(account_id, None) is None:
            return False
        self._touch()
        self._credentials.pop(account_id, None)
        self._intents.pop(account_id, None)
        self._health = {key: kept for key, kept in self._health.items() if key[0] != account_id}
        self._windows = {key: kept for key, kept in self._windows.items() if key[0] != account_id}
        return True

    async def credential(self, account_id: str) -> Credential | None:
        self._must_be_open()
        return self._credentials.get(account_id)

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        account_id = credential.account_id
        _compare(self._credentials.get(account_id), f"the credential of account {account_id!r}", expected_version)
        self._touch()
        self._intents.pop(account_id, None)
        return _put(self._credentials, account_id, credential, expected_version)

    def _has_twin(self, account: Account) -> bool:
        return any(
            other.chatgpt_account_id == account.chatgpt_account_id and other.id != account.id
            for other in self._accounts.values()
        )

    # the claim on a refresh

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        self._must_be_open()
        now_s = self._clock.now_s()
        held = self._claims.get(scope)
        if held is not None and held.expires_at_s > now_s:
            return None
        self._fence += 1
        taken = self._claims[scope] = Claim(scope, holder, self._fence, now_s + ttl_s)
        return taken

    async def release(self, claim: Claim) -> None:
        self._must_be_open()
        held = self._claims.get(claim.scope)
        if held is not None and held.fence == claim.fence:
            del self._claims[claim.scope]

    async def intent(self, account_id: str) -> RefreshIntent | None:
        self._must_be_open()
        return self._intents.get(account_id)

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        self._must_be_open()
        held, stored = self._claims.get(claim.scope), self._credentials.get(account_id)
        new = refresh_rules.begun(held, claim, stored, self._intents.get(account_id), token_digest, self._clock.now_s())
        self._intents[account_id] = new
        return new

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        refresh_rules.check_finish(self._intents.get(credential.account_id), claim)
        return await self.put_credential(credential, expected_version)

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        mark = None if state is None else RefreshState(state)
        if not refresh_rules.check_abandon(self._intents.get(account_id), claim, state):
            return
        self._must_be_open()
        if not refresh_rules.keeps_intent(mark):
            del self._intents[account_id]
        if mark is not None:
            self._touch()
            self._credentials[account_id] = replace(self._credentials[account_id], refresh_state=mark)

    # tenants and client keys

    async def tenants(self) -> tuple[Tenant, ...]:
        self._must_be_open()
        return tuple(sorted(self._tenants.values(), key=lambda found: (found.created_at_s, found.id)))

    async def add_tenant(self, tenant: Tenant) -> None:
        if tenant.id in self._tenants or self._name_is_taken(tenant):
            raise Conflict(f"a tenant with this id or the name {tenant.name!r} exists already")
        self._touch()
        self._tenants[tenant.id] = tenant

    async def put_tenant(self, tenant: Tenant, expected_version: int) -> Tenant:
        _compare(self._tenants.get(tenant.id), f"tenant {tenant.id!r}", expected_version)
        if self._name_is_taken(tenant):
            raise Conflict(f"another tenant has the name {tenant.name!r}")
        self._touch()
        return _put(self._tenants, tenant.id, tenant, expected_version)

    async def remove_tenant(self, tenant_id: str) -> bool:
        self._must_be_open()
        if self._tenants.pop(tenant_id, None) is None:
            return False
        self._touch()
        self._keys = {name: key for name, key in self._keys.items() if key.tenant_id != tenant_id}
        return True

    async def keys(self) -> tuple[ClientKey, ...]:
        self._must_be_open()
        return tuple(sorted(self._keys.values(), key=lambda found: (found.created_at_s, found.id)))

    async def add_key(self, key: ClientKey) -> None:
        self._must_have_tenant(key.tenant_id)
        if key.id in self._keys:
            raise Conflict(f"a key with the id {key.id!r} exists already")
        self._touch()
        self._keys[key.id] = key

    async def put_key(self, key: ClientKey, expected_version: int) -> ClientKey:
        self._must_have_tenant(key.tenant_id)
        _compare(self._keys.get(key.id), f"key {key.id!r}", expected_version)
        self._touch()
        return _put(self._keys, key.id, key, expected_version)

    async def remove_key(self, key_id: str) -> bool:
        self._must_be_open()
        if self._keys.pop(key_id, None) is None:
            return False
        self._touch()
        return True

    async def sealed_value(self, name: str, make: bytes) -> bytes:
        self._must_be_open()
        return self._values.setdefault(name, make)

    def _name_is_taken(self, tenant: Tenant) -> bool:
        return any(other.name == tenant.name and other.id != tenant.id for other in self._tenants.values())

    def _must_have_tenant(self, tenant_id: str) -> None:
        if tenant_id not in self._tenants:
            raise NotFound(f"there is no tenant {tenant_id!r}")

    # hot state

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        self._must_be_open()
        for record in health:
            key = (record.account_id, record.scope, record.kind)
            known = self._health.get(key)
            if known is None or record.updated_at_s >= known[1].updated_at_s:
                self._seq += 1
                self._health[key] = (self._seq, record)
        for window in windows:
            place = (window.account_id, window.name)
            seen = self._windows.get(place)
            if seen is None or window.seen_at_s >= seen[1].seen_at_s:
                self._seq += 1
                self._windows[place] = (self._seq, window)

    async def changes(self, cursor: int) -> Changes:
        self._must_be_open()
        if cursor == self._seq:
            return Changes(self._revision, (), (), cursor)
        since = cursor if cursor <= self._seq else 0
        health = sorted((kept for kept in self._health.values() if kept[0] > since), key=lambda kept: kept[0])
        windows = sorted((kept for kept in self._windows.values() if kept[0] > since), key=lambda kept: kept[0])
        return Changes(
            self._revision, tuple(record for _, record in health), tuple(record for _, record in windows), self._seq
        )

    async def place(self, placements: Sequence[Placement]) -> None:
        self._must_be_open()
        self._placements.update({(placed.kind, placed.digest): placed for placed in placements})

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        self._must_be_open()
        now_s = self._clock.now_s()
        found = ((digest, self._placements.get((kind, digest))) for digest in digests)
        return {digest: placed.account_id for digest, placed in found if placed and placed.expires_at_s > now_s}

    async def purge(self) -> int:
        self._must_be_open()
        now_s = self._clock.now_s()
        aged_s = now_s - HEALTHY_KEPT_S
        before = len(self._placements) + len(self._health) + len(self._documents)
        self._placements = {key: kept for key, kept in self._placements.items() if kept.expires_at_s > now_s}
        self._health = {
            key: kept for key, kept in self._health.items() if kept[1].until_s > aged_s or kept[1].updated_at_s > aged_s
        }
        self._documents = {key: kept for key, kept in self._documents.items() if _lives(kept, now_s)}
        return before - len(self._placements) - len(self._health) - len(self._documents)

    # documents

    async def document(self, kind: str, document_id: str) -> Document | None:
        self._must_be_open()
        found = self._documents.get((kind, document_id))
        return found if found is not None and _lives(found, self._clock.now_s()) else None

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]:
        self._must_be_open()
        now_s = self._clock.now_s()
        found = [kept for kept in self._documents.values() if kept.kind == kind and kept.id > after_id]
        return tuple(sorted((kept for kept in found if _lives(kept, now_s)), key=lambda kept: kept.id)[:limit])

    async def add_document(self, document: Document) -> Document:
        if await self.document(document.kind, document.id) is not None:
            raise Conflict(f"a {document.kind} with this id exists already")
        stored = self._documents[document.kind, document.id] = replace(document, version=1)
        return stored

    async def put_document(self, document: Document, expected_version: int) -> Document:
        found = await self.document(document.kind, document.id)
        if found is None:
            raise NotFound(f"there is no such {document.kind}")
        if found.version != expected_version:
            raise Conflict(f"the {document.kind} has changed since it was read")
        stored = self._documents[document.kind, document.id] = replace(document, version=expected_version + 1)
        return stored

    async def remove_document(self, kind: str, document_id: str) -> bool:
        there = await self.document(kind, document_id) is not None
        self._documents.pop((kind, document_id), None)
        return there

    # audit

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        self._must_be_open()
        seq, last_hash = len(self._audit), self._audit[-1][14] if self._audit else chain.GENESIS
        rows: list[chain.Row] = []
        for number, record in enumerate(records, seq + 1):
            rows.append(chain.to_row(record, number, last_hash))
            last_hash = rows[-1][14]
        self._audit += rows
        return len(self._audit)

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
        self._must_be_open()
        found: list[AuditRecord] = []
        for record in map(chain.from_row, self._audit[after_seq:]):
            if len(found) == limit:
                break
            if (
                (since_s is None or record.at_s >= since_s)
                and (tenant_id is None or record.tenant_id == tenant_id)
                and (key_id is None or record.key_id == key_id)
                and (action is None or _matches(record.action, action))
            ):
                found.append(record)
        return tuple(found)

    async def verify_audit(self) -> tuple[int, str | None]:
        self._must_be_open()
        seq, _, fault = chain.broken_at(self._audit, 0, chain.GENESIS)
        return seq, fault


def _lives(document: Document, now_s: float) -> bool:
    return document.expires_at_s is None or document.expires_at_s > now_s


def _matches(action: str, wanted: str) -> bool:
    return action.startswith(wanted[:-1]) if wanted.endswith(".*") else action == wanted


def _compare(stored: Versioned | None, name: str, expected_version: int) -> None:
    if stored is None:
        raise NotFound(f"there is no {name}")
    if stored.version != expected_version:
        raise Conflict(f"{name} has changed since it was read")


def _put(table: dict[str, Versioned], key: str, changed: Versioned, expected_version: int) -> Versioned:
    table[key] = replace(changed, version=expected_version + 1)
    return table[key]
