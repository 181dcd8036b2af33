"""Documents: what every store promises about the many small kinds of records."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.base import Store
from store.errors import Conflict, NotFound
from store.records import Document
from tests.fakes.clock import FakeClock


def make(document_id: str = "one", body: bytes = b'{"a":1}', expires_at_s: float | None = None) -> Document:
    return Document("thing", document_id, body, expires_at_s)


async def test_what_one_handle_adds_the_other_reads(store: Store, other: Store) -> None:
    added = await store.add_document(make())
    assert added == make()
    assert await other.document("thing", "one") == make()
    assert await other.document("thing", "two") is None
    assert await other.document("other", "one") is None


async def test_an_id_is_given_once_per_kind(store: Store) -> None:
    await store.add_document(make())
    with pytest.raises(Conflict):
        await store.add_document(make(body=b"{}"))
    await store.add_document(replace(make(), kind="other"))
    assert (await store.document("thing", "one")) == make()


async def test_a_put_compares_the_version(store: Store, other: Store) -> None:
    first = await store.add_document(make())
    second = await other.put_document(replace(first, body=b"2"), first.version)
    assert (second.version, second.body) == (2, b"2")
    with pytest.raises(Conflict):
        await store.put_document(replace(first, body=b"3"), first.version)
    assert await store.document("thing", "one") == second
    with pytest.raises(NotFound):
        await store.put_document(make("nobody"), 1)


async def test_a_list_is_ordered_by_id_and_paged(store: Store) -> None:
    for name in ("c", "a", "b", "d"):
        await store.add_document(make(name))
    await store.add_document(replace(make("bb"), kind="other"))
    assert [one.id for one in await store.documents("thing")] == ["a", "b", "c", "d"]
    assert [one.id for one in await store.documents("thing", after_id="a", limit=2)] == ["b", "c"]
    assert await store.documents("nothing") == ()


async def test_an_expired_document_is_absent_for_every_method(store: Store, clock: FakeClock) -> None:
    await store.add_document(make(expires_at_s=clock.now_s() + 10))
    clock.advance(9.9)
    assert await store.document("thing", "one") is not None
    clock.advance(0.1)
    assert await store.document("thing", "one") is None
    assert await store.documents("thing") == ()
    with pytest.raises(NotFound):
        await store.put_document(make(), 1)
    assert not await store.remove_document("thing", "one")
    await store.add_document(make(body=b"new"))
    found = await store.document("thing", "one")
    assert found is not None
    assert (found.body, found.version) == (b"new", 1)


async def test_a_put_may_change_the_expiry(store: Store, clock: FakeClock) -> None:
    added = await store.add_document(make(expires_at_s=clock.now_s() + 10))
    await store.put_document(replace(added, expires_at_s=None), added.version)
    clock.advance(100)
    assert await store.document("thing", "one") is not None


async def test_a_purge_takes_the_expired_ones(store: Store, clock: FakeClock) -> None:
    await store.add_document(make("old", expires_at_s=clock.now_s() + 1))
    await store.add_document(make("new"))
    clock.advance(2)
    assert await store.purge() == 1
    assert [one.id for one in await store.documents("thing")] == ["new"]


async def test_removed_is_gone(store: Store, other: Store) -> None:
    await store.add_document(make())
    assert await other.remove_document("thing", "one")
    assert not await store.remove_document("thing", "one")
    assert await store.document("thing", "one") is None


async def test_documents_leave_the_directory_revision(store: Store) -> None:
    before = (await store.changes(0)).directory_revision
    added = await store.add_document(make())
    await store.put_document(added, 1)
    await store.remove_document("thing", "one")
    assert (await store.changes(0)).directory_revision == before
