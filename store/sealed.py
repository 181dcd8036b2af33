"""Which sealed values does a store hold, and how is one of them replaced while others write?

SealedRows is the narrow door that a change of keys goes through (store.rewrap): it lists every value that names a
key-encrypting key, wherever it rests, and swaps one for another only if nobody wrote in between.

Rules that hold for every implementation:

* ``sealed_page`` shows what is stored, bytes as they are: nothing is opened, nothing is left out (an expired document
  and the store's own key check count too). What was there before the first page and is there after the last one was
  on one of them; what is written meanwhile may be missed or come twice. Callers go round until nothing is left;
* ``swap_sealed`` is one atomic compare-and-put over bytes and version. The record's version stays, since the content
  does: whoever read it before and writes after finds what he expects. The directory revision stays too;
* the head of the audit log (table ``audit_head``) is listed, but never swapped: every append seals it anew.

A Redis store keeps its sealed values under keys of its own; its cursor may be that of SCAN. A store that seals
nothing has no pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from store.vault import Place

AUDIT_HEAD: Final = "audit_head"
"""The table whose one row only an append renews."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One sealed value as it rests, with the place that it opens in."""

    place: Place
    sealed: bytes


@dataclass(frozen=True, slots=True)
class SealedPage:
    """Some rows, and the ``cursor`` for the next page: None after the last. A page may be empty before the end."""

    rows: tuple[SealedRow, ...]
    cursor: str | None


class SealedRows(Protocol):
    """Every sealed value of a store."""

    async def sealed_page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        """About ``limit`` rows after ``cursor`` ("" begins). Raises StoreUnavailable."""

    async def swap_sealed(self, row: SealedRow, sealed: bytes) -> bool:
        """Puts ``sealed`` where ``row`` was read, durably. False, with nothing written, when the bytes or the version
        there are others by now, the row is gone, or it is the head of the audit log. Raises StoreUnavailable."""
