"""When was the last backup made, and under which key? One small document, for doctor and for whoever retires keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from store.backup_file import Header
from store.base import DocumentStore
from store.errors import Conflict
from store.records import Document

KIND: Final = "backup"
_ID: Final = "last"


@dataclass(frozen=True, slots=True)
class LastBackup:
    """``at_s``: Unix seconds; ``key_id``: in hex."""

    at_s: float
    key_id: str
    id: str


async def remember_backup(store: DocumentStore, header: Header) -> None:
    """Of two that end together, either may stay. Raises StoreUnavailable."""
    body = msgspec.json.encode(LastBackup(header.created_at_s, header.key_id, header.id))
    found = await store.document(KIND, _ID)
    try:
        if found is None:
            await store.add_document(Document(KIND, _ID, body))
        else:
            await store.put_document(Document(KIND, _ID, body), found.version)
    except Conflict:
        return


async def last_backup(store: DocumentStore) -> LastBackup | None:
    """None when there was none. Raises SealBroken, StoreUnavailable."""
    found = await store.document(KIND, _ID)
    return None if found is None else msgspec.json.decode(found.body, type=LastBackup)
