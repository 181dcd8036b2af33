"""``/admin/api/audit``: who did what, a page at a time, and whether the record is whole.

A principal that is bound to a tenant reads that tenant's records; whatever it asks for, the tenant is part of the
question to the store. Pages are in order of ``seq``; ``next_after_seq`` is what to ask with for the next one.
"""

from __future__ import annotations

from msgspec import structs

from gateway.admin.answers import AuditItem, AuditPage, AuditVerdict
from gateway.admin.bodies import AuditQuery
from gateway.admin.types import Call, Handlers, Reply
from store.base import AuditStore
from store.records import AuditRecord


class Audit:
    def __init__(self, store: AuditStore) -> None:
        self._store = store

    def handlers(self) -> Handlers:
        return {"audit.search": self.search, "audit.verify": self.verify}

    async def search(self, call: Call) -> Reply:
        query: AuditQuery = call.query
        own = call.principal.tenant_id
        if own is not None and query.tenant not in (None, own):
            return Reply(AuditPage(items=[], next_after_seq=None))
        found = await self._store.search_audit(
            since_s=query.since_at_s,
            tenant_id=query.tenant if own is None else own,
            key_id=query.key,
            action=query.action,
            after_seq=query.after_seq,
            limit=query.limit,
        )
        following = found[-1].seq if len(found) == query.limit else None
        return Reply(AuditPage(items=[view(one) for one in found], next_after_seq=following))

    async def verify(self, _call: Call) -> Reply:
        records, fault = await self._store.verify_audit()
        return Reply(AuditVerdict(records=records, fault=fault))


def view(record: AuditRecord) -> AuditItem:
    return AuditItem(**{**structs.asdict(record), "detail": dict(record.detail)})
