"""What the rest of the system may ask of a store: one narrow Protocol per consumer.

Rules that hold for every implementation, proven by one contract suite:

* methods are coroutines that never block the event loop; a backend that does not answer within its own bound
  raises StoreUnavailable, and then nothing is known to have changed;
* cancelling a call never leaves half a change: a write that has begun is finished or undone by the backend;
* "absent" is None or an empty collection, never an exception, unless a method says NotFound;
* compare-and-put methods take the version that was read and return or raise without writing when it has moved on.

Secrets are sealed by the vault before they reach the backend and opened on the way out; the backend sees
ciphertext only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

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
from store.sealed import SealedRows
from store.task_records import AttemptRecord, LogLine, TaskFilter, TaskRecord, TaskState

HEALTHY_KEPT_S: Final = 86_400.0
"""A health record that no longer blocks is kept this long, as history for an operator's "why"."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What others wrote since a cursor.

    ``directory_revision`` rises with every change of accounts, credentials, tenants or keys (reload them when it
    differs); ``health`` and ``windows`` are the records written since the cursor, oldest first; ``cursor`` is for
    the next call.
    """

    directory_revision: int
    health: tuple[HealthRecord, ...]
    windows: tuple[WindowRecord, ...]
    cursor: int


class AccountStore(Protocol):
    """Accounts without secrets. Writes bump the directory revision."""

    async def accounts(self) -> tuple[Account, ...]:
        """All accounts, ordered by creation, then id."""

    async def account(self, account_id: str) -> Account | None: ...

    async def add_account(self, account: Account, credential: Credential) -> None:
        """Both records or neither. Raises Conflict when the id or the chatgpt_account_id is there already."""

    async def put_account(self, account: Account, expected_version: int) -> Account:
        """Compare-and-put; returns the record with its new version. Raises Conflict, NotFound."""

    async def remove_account(self, account_id: str) -> bool:
        """Removes the account, its credential, intent, health and windows together; False when absent."""


class CredentialStore(Protocol):
    """Tokens, and the claim protocol that keeps a single-use refresh token from being sent twice.

    The order is: ``claim`` the scope (issuer and client: one exchange in flight over all processes), re-read the
    credential, ``begin_refresh`` (durable intent), send, then ``finish_refresh`` or ``abandon_refresh``.
    """

    async def credential(self, account_id: str) -> Credential | None:
        """Raises SealBroken when the ciphertext does not open in its place."""

    async def put_credential(self, credential: Credential, expected_version: int) -> Credential:
        """Compare-and-put outside a refresh (re-import); clears any intent. Raises Conflict, NotFound."""

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        """Takes the scope for ``ttl_s`` by the store's clock; None while another holder's claim lives.

        Not re-entrant: the same holder does not get it twice.
        """

    async def release(self, claim: Claim) -> None:
        """Gives the claim back; nothing happens when it has been taken over."""

    async def intent(self, account_id: str) -> RefreshIntent | None:
        """The open intent, if the last refresh began and did not finish."""

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        """Writes the intent durably (fsync) and returns it.

        When an intent for the same digest is open already, its ``replays`` is raised by one instead, and it carries
        this claim's fence from then on. Raises NotFound without a credential, and Conflict when the claim is no
        longer held by its fence, or the stored refresh token's digest is another.
        """

    async def finish_refresh(self, credential: Credential, claim: Claim, expected_version: int) -> Credential:
        """Stores the new tokens and clears the intent in one durable transaction.

        The credential's version must still be ``expected_version``; the claim need not be alive any more (the
        exchange has happened, the tokens must not be lost), but no newer fence may have begun another exchange.
        Raises Conflict.
        """

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        """Clears the intent after an answer that did not rotate the token (``state`` None), or marks the
        credential ``spent`` / ``uncertain`` (RefreshState value) and clears or keeps the intent accordingly:
        ``uncertain`` keeps it.

        The credential's version stays. Nothing happens when there is no intent and no state; raises Conflict when
        the intent is another claim's, or is gone and there is a state: newer tokens are stored, which no mark may
        hit.
        """


class KeyStore(Protocol):
    """Tenants and client keys. Writes bump the directory revision."""

    async def tenants(self) -> tuple[Tenant, ...]: ...

    async def add_tenant(self, tenant: Tenant) -> None:
        """Raises Conflict when the id or the name is taken."""

    async def put_tenant(self, tenant: Tenant, expected_version: int) -> Tenant: ...

    async def remove_tenant(self, tenant_id: str) -> bool:
        """Removes the tenant and its keys together; False when absent."""

    async def keys(self) -> tuple[ClientKey, ...]: ...

    async def add_key(self, key: ClientKey) -> None:
        """Raises Conflict when the id is taken, NotFound when the tenant is absent."""

    async def put_key(self, key: ClientKey, expected_version: int) -> ClientKey: ...

    async def remove_key(self, key_id: str) -> bool:
        """For good; False when absent. People's keys are revoked and stay on the list; those of machines go."""

    async def sealed_value(self, name: str, make: bytes) -> bytes:
        """The sealed record ``name``; stores ``make`` when absent. All processes get the same bytes."""


class SharedState(Protocol):
    """Hot state that the workers of one gateway share. Losing it costs speed and history, never safety."""

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        """Upserts; an older ``updated_at_s`` (``seen_at_s``) than the stored one is ignored."""

    async def changes(self, cursor: int) -> Changes:
        """Everything since ``cursor`` (0: all that is stored). Cheap when nothing changed."""

    async def place(self, placements: Sequence[Placement]) -> None:
        """Upserts placements by (kind, digest)."""

    async def placements(self, kind: str, digests: Sequence[bytes]) -> dict[bytes, str]:
        """Account ids of the digests that are known and not expired."""

    async def purge(self) -> int:
        """Removes expired placements and documents and long-healthy health records; how many."""


class DocumentStore(Protocol):
    """Records of many small kinds, each by (kind, id). Sealed at rest; an expired one is absent for every method.

    Writes do not bump the directory revision.
    """

    async def document(self, kind: str, document_id: str) -> Document | None:
        """Raises SealBroken when the ciphertext does not open in its place."""

    async def documents(self, kind: str, *, after_id: str = "", limit: int = 1000) -> tuple[Document, ...]:
        """Those of the kind whose id is greater than ``after_id``, ordered by id, at most ``limit``."""

    async def add_document(self, document: Document) -> Document:
        """As stored, with version 1. Raises Conflict when (kind, id) is there."""

    async def put_document(self, document: Document, expected_version: int) -> Document:
        """Compare-and-put; the record with its new version. Raises Conflict, NotFound."""

    async def remove_document(self, kind: str, document_id: str) -> bool:
        """False when absent."""


class TaskStore(Protocol):
    """Tasks of the sandbox, their attempts as a queue, and their logs. Durable when a call returns, but for log
    lines, which a power cut may cut short at the end."""

    async def add_task(self, task: TaskRecord, attempts: Sequence[AttemptRecord]) -> TaskRecord:
        """All of it or nothing. When the tenant has a task with the same ``idempotency``, that one is returned and
        nothing is written. Raises Conflict when the id is taken."""

    async def task(self, task_id: str) -> TaskRecord | None: ...

    async def tasks(self, wanted: TaskFilter) -> tuple[TaskRecord, ...]: ...

    async def count_tasks(self, tenant_id: str, states: Sequence[TaskState]) -> int: ...

    async def put_task(self, task: TaskRecord, expected_version: int) -> TaskRecord:
        """Compare-and-put. Raises Conflict, NotFound."""

    async def remove_task(self, task_id: str) -> bool:
        """With its attempts and its log; False when absent."""

    async def attempts(self, task_id: str) -> tuple[AttemptRecord, ...]:
        """In order of their numbers."""

    async def add_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        """A further one, queued. Raises Conflict when the number is taken, NotFound without the task."""

    async def lease_attempt(self, worker: str, ttl_s: float, per_tenant: int) -> AttemptRecord | None:
        """The oldest attempt that is queued, or leased by a worker whose lease has run out, of a tenant that has
        fewer than ``per_tenant`` live leases; leased to ``worker`` with a new fence. None when there is none."""

    async def renew_lease(self, attempt: AttemptRecord, ttl_s: float) -> AttemptRecord | None:
        """As it stands now (``cancel`` may have been set); None when the lease is another's by its fence."""

    async def put_attempt(self, attempt: AttemptRecord) -> AttemptRecord:
        """Writes state and body under the fence of the lease. Raises Conflict when the fence is older."""

    async def cancel_attempts(self, task_id: str) -> int:
        """Asks all that have not ended to stop; queued ones end at once. How many were asked."""

    async def append_log(self, lines: Sequence[LogLine]) -> int:
        """Numbered in order; the last number. Lines of a task that is gone are dropped."""

    async def log(self, task_id: str, after: int, limit: int) -> tuple[LogLine, ...]: ...


class AuditStore(Protocol):
    """The append-only audit log."""

    async def append_audit(self, records: Sequence[AuditRecord]) -> int:
        """Appends in order, numbering and chaining in one durable transaction; the last sequence number."""

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
        """Matching records in order of ``seq``; ``action`` matches a whole name or a ``prefix.*``."""

    async def verify_audit(self) -> tuple[int, str | None]:
        """(records read, None) when the chain is whole, else (records up to the break, what is wrong)."""


class Store(AccountStore, CredentialStore, KeyStore, SharedState, DocumentStore, AuditStore, Protocol):
    """All of it, as the composition root builds it."""

    async def close(self) -> None: ...

    def task_store(self) -> TaskStore:
        """The tasks of the sandbox, which live and are closed with this store."""

    def sealed_rows(self) -> SealedRows:
        """Every sealed value of this store, for a change of keys."""

    async def check(self) -> None:
        """Raises StoreUnavailable unless a durable write would succeed now; changes nothing."""
