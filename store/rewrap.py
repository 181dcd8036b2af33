"""How do all sealed values come under another key while everybody reads and writes them?

A sweep goes over the rows (store.sealed), wraps the data key of each anew under the key that seals now, and puts it
back by compare-and-swap; the ciphertext stays. It needs no record of how far it came: every row says itself under
which key it is. So a sweep that was killed is begun again, and two at once are slow, not wrong.

Rules that hold:

* a row that somebody wrote meanwhile is left to the next round: it may have been sealed by a worker that had not
  looked at its key source yet. Rounds follow until one finds nothing to do, or ROUNDS_MAX of them did not help;
* a row that does not open in its place is never touched and never given up silently: it is counted as broken and
  named;
* the head of the audit log cannot be swapped: it counts until a record is appended, which the caller sees to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ops.clock import Clock
from store.errors import SealBroken
from store.sealed import AUDIT_HEAD, SealedRow, SealedRows, Swap
from store.vault import Vault, sealing_key_id

ROUNDS_MAX: Final = 20
PAGE_ROWS: Final = 200
SWAP_ROWS: Final = 20
ROUND_PAUSE_S: Final = 0.5
BROKEN_NAMED: Final = 20


@dataclass(slots=True)
class Census:
    """How many rows stand under which key. ``rows``: (table, key id) -> how many; the id b"" is unreadable."""

    rows: Counter[tuple[str, bytes]] = field(default_factory=Counter)

    def under(self, wanted: bytes) -> int:
        return sum(count for (_, name), count in self.rows.items() if name == wanted)

    def not_under(self, wanted: bytes) -> int:
        return sum(count for (_, name), count in self.rows.items() if name != wanted)

    def ids(self) -> tuple[bytes, ...]:
        return tuple(sorted({name for _, name in self.rows}))


@dataclass(slots=True)
class Sweep:
    """What a sweep came to. ``left``: rows under other keys after the last round, the head of the audit log and
    broken ones included; ``broken``: the first few rows that do not open, by place, without content."""

    rewrapped: int = 0
    left: int = 0
    rounds: int = 0
    broken: tuple[str, ...] = ()


async def census(sources: Sequence[SealedRows]) -> Census:
    """Counts every row of every source. Raises StoreUnavailable."""
    found = Census()

    async def count(_: SealedRows, rows: Sequence[SealedRow]) -> None:
        found.rows.update((row.place.table, sealing_key_id(row.sealed)) for row in rows)

    await _each(sources, count)
    return found


async def sweep(
    sources: Sequence[SealedRows], vault: Vault, clock: Clock, renew_head: Callable[[], Awaitable[None]]
) -> Sweep:
    """Brings every row under the key that seals in ``vault``; ``renew_head`` appends to the audit log.

    May be cancelled or killed at any moment, and begun again. Raises StoreUnavailable.
    """
    result = Sweep()
    for number in range(ROUNDS_MAX):
        result.rounds = number + 1
        round_ = await _round(sources, vault)
        result.rewrapped += round_.swapped
        if round_.head:
            await renew_head()
        result.broken = tuple(round_.broken[:BROKEN_NAMED])
        if not round_.head and round_.lost == 0:
            break
        await clock.sleep(ROUND_PAUSE_S if number else 0.0)
    result.left = (await census(sources)).not_under(vault.ring.current_id)
    return result


@dataclass(slots=True)
class _Round:
    swapped: int = 0
    lost: int = 0
    head: bool = False
    broken: list[str] = field(default_factory=list)


async def _round(sources: Sequence[SealedRows], vault: Vault) -> _Round:
    done = _Round()

    async def renew(source: SealedRows, rows: Sequence[SealedRow]) -> None:
        swaps: list[Swap] = []
        for row in rows:
            if sealing_key_id(row.sealed) == vault.ring.current_id:
                continue
            if row.place.table == AUDIT_HEAD:
                done.head = True
                continue
            try:
                swaps.append(Swap(row, vault.rewrap(row.sealed, row.place)))
            except SealBroken:
                done.broken.append(f"{row.place.table} {row.place.row_id}")
        for at in range(0, len(swaps), SWAP_ROWS):
            some = swaps[at : at + SWAP_ROWS]
            swapped = await source.swap(some)
            done.swapped += swapped
            done.lost += len(some) - swapped

    await _each(sources, renew)
    return done


async def _each(
    sources: Sequence[SealedRows], visit: Callable[[SealedRows, Sequence[SealedRow]], Awaitable[None]]
) -> None:
    for source in sources:
        cursor: str | None = ""
        while cursor is not None:
            page = await source.page(cursor, PAGE_ROWS)
            await visit(source, page.rows)
            cursor = page.cursor
