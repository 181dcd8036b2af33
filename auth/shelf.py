"""How does an owner of documents read and change them as values, without losing what others write?

A shelf holds the documents of one kind as values of one frozen dataclass. Rules that hold:

* a change is a pure step from the value that is stored to the next one, tried again from a fresh read as long as
  others win the compare-and-put; a step that raises changes nothing;
* a value that this release cannot read is an error, never a default: it may have been written by a newer one.

It decides nothing: what a change may do is the step's matter, what is secret is sealed by the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from store.base import DocumentStore
from store.errors import Conflict, NotFound, StoreError
from store.records import Document

T = TypeVar("T")
PAGE: Final = 1000
_ATTEMPTS: Final = 64


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A value as it was read: under which id, in which version, until when."""

    id: str
    value: T
    version: int
    expires_at_s: float | None = None


class Shelf(Generic[T]):
    """The documents of ``kind`` as values of ``shape``."""

    def __init__(self, documents: DocumentStore, kind: str, shape: type[T]) -> None:
        self._documents = documents
        self._kind = kind
        self._decoder = msgspec.json.Decoder(shape)

    async def find(self, value_id: str) -> Kept[T] | None:
        found = await self._documents.document(self._kind, value_id)
        return None if found is None else self.read(found)

    async def get(self, value_id: str) -> T | None:
        found = await self.find(value_id)
        return None if found is None else found.value

    async def below(self, prefix: str) -> AsyncIterator[Kept[T]]:
        """Those whose id begins with ``prefix``, in order; read a page at a time."""
        last = prefix
        while True:
            page = await self._documents.documents(self._kind, after_id=last, limit=PAGE)
            for found in page:
                if not found.id.startswith(prefix):
                    return
                yield self.read(found)
            if len(page) < PAGE:
                return
            last = page[-1].id

    async def add(self, value_id: str, value: T, expires_at_s: float | None = None) -> bool:
        """False when there is one of this id; nothing is written then."""
        try:
            await self._documents.add_document(Document(self._kind, value_id, msgspec.json.encode(value), expires_at_s))
        except Conflict:
            return False
        return True

    async def put(self, old: Kept[T], value: T, expires_at_s: float | None = None) -> bool:
        """Replaces exactly what was read; False when it has changed or gone since. ``expires_at_s`` as given."""
        body = msgspec.json.encode(value)
        try:
            await self._documents.put_document(Document(self._kind, old.id, body, expires_at_s), old.version)
        except (Conflict, NotFound):
            return False
        return True

    async def change(self, value_id: str, step: Callable[[T | None], tuple[T, float | None]]) -> T:
        """The stored value becomes ``step(value)``, a value and its expiry; what was written.

        ``step`` is pure and may be called several times; what it raises goes through, and nothing is changed.
        Raises Conflict when others change the document without end.
        """
        for _ in range(_ATTEMPTS):
            old = await self.find(value_id)
            value, expires_at_s = step(None if old is None else old.value)
            if old is not None and old.value == value and old.expires_at_s == expires_at_s:
                return value
            done = self.add(value_id, value, expires_at_s) if old is None else self.put(old, value, expires_at_s)
            if await done:
                return value
        raise Conflict(f"the {self._kind} is changed by others all the time; try again")

    async def remove(self, value_id: str) -> bool:
        return await self._documents.remove_document(self._kind, value_id)

    def read(self, found: Document) -> Kept[T]:
        """The value of a document of this kind. Raises StoreError for one that this release cannot read."""
        try:
            value = self._decoder.decode(found.body)
        except msgspec.MsgspecError:
            raise StoreError(f"a {self._kind} cannot be read; was it written by a newer release?") from None
        return Kept(found.id, value, found.version, found.expires_at_s)
