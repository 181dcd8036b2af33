"""Values in documents: changes that lose nothing, and values that cannot be read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from auth.shelf import PAGE, Shelf
from store.errors import Conflict, StoreError
from store.memory import MemoryStore
from store.records import Document
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock


@dataclass(frozen=True, slots=True)
class Tally:
    count: int = 0


def one_more(old: Tally | None) -> tuple[Tally, float | None]:
    return Tally((old or Tally()).count + 1), None


@pytest.mark.parametrize("kind", KINDS)
async def test_no_change_is_lost_between_two_processes(kind: str, tmp_path: Path) -> None:
    async with opened(kind, FakeClock(), tmp_path) as (one, two):
        shelves = [Shelf(one, "tally", Tally), Shelf(two, "tally", Tally)]
        await asyncio.gather(*(shelves[n % 2].change("t", one_more) for n in range(20)))
        assert await shelves[0].get("t") == Tally(20)


async def test_what_a_step_raises_changes_nothing() -> None:
    shelf = Shelf(MemoryStore(), "tally", Tally)
    await shelf.change("t", one_more)

    def refuse(_: Tally | None) -> tuple[Tally, None]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await shelf.change("t", refuse)
    assert await shelf.get("t") == Tally(1)


async def test_a_step_that_changes_nothing_writes_nothing() -> None:
    shelf = Shelf(MemoryStore(), "tally", Tally)
    await shelf.add("t", Tally(3))
    await shelf.change("t", lambda old: (old or Tally(), None))
    kept = await shelf.find("t")
    assert kept is not None
    assert kept.version == 1


async def test_who_never_wins_gives_up() -> None:
    class Busy(MemoryStore):
        async def put_document(self, document: Document, expected_version: int) -> Document:
            raise Conflict("somebody was faster")

    shelf = Shelf(Busy(), "tally", Tally)
    await shelf.add("t", Tally())
    with pytest.raises(Conflict, match="all the time"):
        await shelf.change("t", one_more)


async def test_a_value_of_another_shape_is_an_error_and_not_a_default() -> None:
    store = MemoryStore()
    await store.add_document(Document("tally", "t", b'{"count":"many"}'))
    with pytest.raises(StoreError, match="newer release"):
        await Shelf(store, "tally", Tally).get("t")


async def test_a_prefix_is_read_over_all_pages_and_no_further() -> None:
    store = MemoryStore()
    shelf = Shelf(store, "tally", Tally)
    for name in ["a.1", *(f"b.{n:05}" for n in range(PAGE + 5)), "c.1"]:
        await shelf.add(name, Tally())
    assert len([kept async for kept in shelf.below("b.")]) == PAGE + 5
    assert len([kept async for kept in shelf.below("")]) == PAGE + 7
