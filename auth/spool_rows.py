"""Spooled credentials as sealed rows: what a change of keys finds in the spool (store.sealed).

Rules that hold:

* a file is replaced only while its bytes are the ones that were read, under the lock of the folder that a worker's
  own write takes too: newer tokens are never written over by older ones;
* a reader needs no lock: he finds the old file or the new one, whole. A file that is taken away meanwhile may come
  back; it is stale then, and the spool never uses a stale one;
* a name that is no account's is listed all the same: it names a key, so it counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from auth.spool import MAX_FILE_BYTES, SUFFIX
from store.errors import StoreUnavailable, StoreUnusable
from store.private_file import locked_folder, replace_private
from store.sealed import SealedPage, SealedRow, Swap
from store.vault import Place


class SpoolRows:
    """Implements store.sealed.SealedRows over the folder of a FileSpool."""

    def __init__(self, folder: Path, place: Callable[[str], Place], account_ids: Iterable[str]) -> None:
        """``account_ids``: all that may have a file; a file's name may be the digest of its account's id."""
        self._folder = folder
        self._place = place
        self._ids = {hashlib.sha256(one.encode()).hexdigest(): one for one in account_ids}

    async def page(self, cursor: str = "", limit: int = 200) -> SealedPage:
        return await asyncio.to_thread(self._page, cursor, limit)

    async def swap(self, swaps: Sequence[Swap]) -> int:
        return await asyncio.to_thread(self._swap, swaps)

    def _page(self, cursor: str, limit: int) -> SealedPage:
        names = sorted(path.name for path in self._folder.glob("*" + SUFFIX) if path.name > cursor)[:limit]
        rows = []
        for name in names:
            content = _read(self._folder / name)
            if content is not None:
                stem = name.removesuffix(SUFFIX)
                rows.append(SealedRow(self._place(self._ids.get(stem, stem)), content, name))
        return SealedPage(tuple(rows), names[-1] if len(names) == limit else None)

    def _swap(self, swaps: Sequence[Swap]) -> int:
        done = 0
        for one in swaps:
            path = self._folder / one.row.handle
            try:
                with locked_folder(self._folder):
                    if _read(path) == one.row.sealed:
                        replace_private(path, f"spool file {path}", one.sealed)
                        done += 1
            except (OSError, StoreUnusable) as error:
                raise StoreUnavailable(f"spool file {path} cannot be replaced now: {error}") from None
        return done


def _read(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return None
    return content if len(content) <= MAX_FILE_BYTES else None
