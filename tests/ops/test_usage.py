"""Who has used how much: nothing counted twice, nothing lost but the last seconds of a killed process."""

from __future__ import annotations

import pytest

from ops.usage import HOUR_S, KEPT_S, OTHER, ROWS_MAX, UsageBook, UsageTotal, sum_of, usage_by
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from store.records import Document
from tests.fakes.clock import FakeClock


class Flaky(MemoryStore):
    """Fails when told to, after the write or before it."""

    fail_before = fail_after = 0

    async def add_document(self, document: Document) -> Document:
        if self.fail_before:
            self.fail_before -= 1
            raise StoreUnavailable("locked")
        stored = await super().add_document(document)
        if self.fail_after:
            self.fail_after -= 1
            raise StoreUnavailable("no answer")
        return stored


def count(book: UsageBook, account: str = "a1", model: str = "m", *, failed: bool = False, tokens: int = 10) -> None:
    book.count((account, "acme", "k1", model), failed=failed, input_tokens=tokens, output_tokens=1)


async def test_workers_add_up_by_whatever_is_asked_for() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    first, second = UsageBook(store, "w0:1", clock), UsageBook(store, "w1:2", clock)
    count(first)
    count(first, "a2", failed=True)
    await first.flush()
    count(first)
    count(second, model="n")
    await first.flush()
    await second.flush()
    since_s = clock.now_s() - 60
    assert await usage_by(store, "account", since_s) == {
        "a1": UsageTotal(3, 0, 30, 3),
        "a2": UsageTotal(1, 1, 10, 1),
    }
    assert await usage_by(store, "model", since_s) == {"m": UsageTotal(3, 1, 30, 3), "n": UsageTotal(1, 0, 10, 1)}
    assert sum_of(await usage_by(store, "tenant", since_s)) == UsageTotal(4, 1, 40, 4)
    assert await usage_by(store, "key", since_s + 2 * HOUR_S) == {}


async def test_hours_are_apart_and_old_ones_are_forgotten() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    book = UsageBook(store, "w", clock)
    count(book)
    clock.advance(HOUR_S)
    count(book)
    await book.flush()
    assert len(await store.documents("usage")) == 2
    assert (await usage_by(store, "account", clock.now_s()))["a1"].requests == 1
    assert (await usage_by(store, "account", clock.now_s() - HOUR_S))["a1"].requests == 2
    await book.flush()
    assert len(await store.documents("usage")) == 2
    clock.advance(KEPT_S)
    assert await usage_by(store, "account", 0) == {}


async def test_a_store_that_is_away_loses_nothing() -> None:
    clock = FakeClock()
    store = Flaky(clock)
    book = UsageBook(store, "w", clock)
    count(book)
    store.fail_before = 1
    with pytest.raises(StoreUnavailable):
        await book.flush()
    store.fail_after = 1
    with pytest.raises(StoreUnavailable):
        await book.flush()
    count(book)
    await book.flush()
    await book.flush()
    assert (await usage_by(store, "account", 0))["a1"].requests == 2


async def test_an_hour_has_so_many_rows_and_no_request_is_left_out() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    book = UsageBook(store, "w", clock)
    for number in range(ROWS_MAX + 10):
        count(book, model=f"m{number}")
    await book.flush()
    models = await usage_by(store, "model", 0)
    assert models[OTHER].requests == 10
    assert sum_of(models).requests == ROWS_MAX + 10
