"""Which sealed values does a store hold, and how is one of them replaced while others write?

SealedRows is the narrow door that a change of keys goes through (store.rewrap): it lists every value that names a
key-encrypting key, wherever it rests, and swaps one for another only if nobody wrote in between.

Rules that hold for every implementation:

* ``page`` shows what is stored, bytes as they are: nothing is opened, nothing is left out (an expired document and
  the store's own key check count too). What was there before the first page and is there after the last one was on
  one of them; what is written meanwhile may be missed or come twice. Callers go round until nothing is left;
* ``swap`` is an atomic compare-and-put for each row, over bytes and version. The record's version stays, since the
  content does: whoever read it before and writes after finds what he expects. The directory revision stays too;
* the head of the audit log (table ``audit_head``) is listed, but never swapped: every append seals it anew.

A Redis store's cursor may be that of SCAN. A store that seals nothing has no rows (NothingSealed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from store.vault import Place

AUDIT_HEAD: Final = "audit_head"
"""The table whose one row only an append renews."""


@dataclass(frozen=True, slots=True)
class SealedRow:
    """One sealed value as it rests, with the place that it opens in. ``handle`` is the store's own word for where."""

    place: Place
    sealed: bytes
    handle: str


@dataclass(frozen=True, slots=True)
class SealedPage:
    """Some rows, and the ``cursor`` for the next page: None after the last. A page may be empty before the end."""

    rows: tuple[SealedRow, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Swap:
    """``sealed`` is to take the place of ``row``."""

    row: SealedRow
    sealed: bytes


class SealedRows(Protocol):
    """Every sealed value of a store."""

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        """About ``limit`` rows after ``cursor`` ("" begins). Raises StoreUnavailable."""

    async def swap(self, swaps: Sequence[Swap]) -> int:
        """Does each swap whose row still has the bytes and the version that were read; how many were done.

        The others are left as they are: somebody wrote, or removed the row, or it is the head of the audit log.
        Durable when it returns. Raises StoreUnavailable; then some may have been done.
        """


class NothingSealed:
    """The sealed rows of a store that keeps everything in memory."""

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        return SealedPage((), None)

    async def swap(self, swaps: Sequence[Swap]) -> int:
        return 0 * len(swaps)
