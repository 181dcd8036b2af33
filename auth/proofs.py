"""What does a person prove himself with? One document of kind ``admin`` for each, sealed by the store.

It holds the password's hash, the secret of one-time codes and the last step that was taken, a one-time link's
digest, and when the person came last. All of it changes by compare-and-put, so a code or a link that two requests
bring at once is taken once. A proof without a line in the roster (auth.admins) opens nothing. Nothing of it leaves
this package; the digest of a link does not open it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from auth.shelf import Shelf
from store.base import DocumentStore

PROOF_KIND: Final = "admin"


@dataclass(frozen=True, slots=True)
class Totp:
    """A secret of one-time codes (base32) and the newest step that was taken; 0: none yet."""

    secret: str = field(repr=False)
    last_step: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """The one-time link that is out: the hex SHA-256 of its token, and its end."""

    digest: str
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class Proof:
    """``offered`` is a secret that was shown and not confirmed yet: it proves nothing."""

    password: str | None = field(default=None, repr=False)
    totp: Totp | None = None
    offered: Totp | None = None
    link: Link | None = None
    last_login_at_s: float | None = None


class ProofShelf:
    """The proofs by the id of the person."""

    def __init__(self, documents: DocumentStore) -> None:
        self._shelf = Shelf(documents, PROOF_KIND, Proof)

    async def get(self, admin_id: str) -> Proof | None:
        return await self._shelf.get(admin_id)

    async def all(self) -> dict[str, Proof]:
        return {kept.id: kept.value async for kept in self._shelf.below("")}

    async def change(self, admin_id: str, step: Callable[[Proof], Proof]) -> Proof:
        """The proof becomes ``step(proof)``, an empty one when there is none. What ``step`` raises goes through."""
        return await self._shelf.change(admin_id, lambda old: (step(old or Proof()), None))

    async def remove(self, admin_id: str) -> None:
        await self._shelf.remove(admin_id)
