"""The audit log: what every store promises about order, numbers, the chain and searches."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest

from store.base import Store
from store.chain import GENESIS
from tests.fakes.records import NOW_S, make_audit


async def test_records_are_numbered_without_gaps_over_handles(store: Store, other: Store) -> None:
    assert await store.append_audit([make_audit("a"), make_audit("b")]) == 2
    assert await other.append_audit([make_audit("c")]) == 3
    assert await store.append_audit([]) == 3
    assert [(record.seq, record.action) for record in await other.search_audit()] == [(1, "a"), (2, "b"), (3, "c")]


async def test_a_record_comes_back_as_it_was_given(store: Store) -> None:
    await store.append_audit([make_audit()])
    (found,) = await store.search_audit()
    expected = make_audit(seq=1, prev_hash=GENESIS, hash=found.hash)
    assert found == expected


async def test_bare_and_odd_records_are_kept(store: Store) -> None:
    bare = make_audit(
        tenant_id=None,
        key_id=None,
        request_id=None,
        target=None,
        model="broken \ud800 text",
        input_tokens=2**70,
        output_tokens=None,
        detail=(),
        at_s=1_795_000_000,
    )
    await store.append_audit([bare])
    (found,) = await store.search_audit()
    assert found.tenant_id is None
    assert found.model == "broken ? text"
    assert found.input_tokens == 2**63 - 1
    assert found.detail == ()
    assert await store.verify_audit() == (1, None)


async def test_the_chain_can_be_followed_by_hand(store: Store) -> None:
    await store.append_audit([make_audit("a"), make_audit("b", detail=())])
    last_hash = "0" * 64
    for record in await store.search_audit():
        detail = msgspec.json.encode(record.detail).decode()
        text = msgspec.json.encode(
            [
                record.seq,
                record.at_s,
                record.actor,
                record.action,
                record.outcome,
                record.tenant_id,
                record.key_id,
                record.request_id,
                record.target,
                record.model,
                record.input_tokens,
                record.output_tokens,
                detail,
            ]
        )
        assert record.prev_hash == last_hash
        last_hash = hashlib.sha256(last_hash.encode() + text).hexdigest()
        assert record.hash == last_hash


async def test_an_empty_and_a_long_log_verify(store: Store) -> None:
    assert await store.verify_audit() == (0, None)
    for _ in range(5):
        await store.append_audit([make_audit(f"action.{n}") for n in range(1000)])
    assert await store.verify_audit() == (5000, None)


async def test_writers_at_once_make_one_chain(store: Store, other: Store) -> None:
    batches = [
        handle.append_audit([make_audit(f"{n}.{part}") for part in range(3)])
        for n in range(10)
        for handle in (store, other)
    ]
    await asyncio.gather(*batches)
    assert await store.verify_audit() == (60, None)
    actions = [record.action for record in await store.search_audit()]
    assert all(actions[i].endswith(".0") and actions[i + 2].endswith(".2") for i in range(0, 60, 3))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [1, 2, 3, 4]),
        ({"action": "keys.create"}, [1]),
        ({"action": "keys.*"}, [1, 2]),
        ({"action": "keys"}, []),
        ({"action": "k%"}, []),
        ({"action": "*"}, []),
        ({"tenant_id": "t2"}, [2, 4]),
        ({"key_id": "k9"}, [3]),
        ({"since_s": NOW_S + 2}, [3, 4]),
        ({"since_s": NOW_S + 99}, []),
        ({"after_seq": 2}, [3, 4]),
        ({"since_s": NOW_S + 1, "after_seq": 2, "tenant_id": "t2"}, [4]),
        ({"limit": 2}, [1, 2]),
        ({"after_seq": 1, "limit": 2}, [2, 3]),
        ({"after_seq": 4}, []),
    ],
)
async def test_searches_find_what_matches_in_order(store: Store, wanted: dict[str, object], found: list[int]) -> None:
    await store.append_audit(
        [
            make_audit("keys.create", at_s=NOW_S, tenant_id="t1"),
            make_audit("keys.revoke", at_s=NOW_S + 1, tenant_id="t2"),
            make_audit("keysmith", at_s=NOW_S + 2, tenant_id="t1", key_id="k9"),
            make_audit("relay.response", at_s=NOW_S + 3, tenant_id="t2"),
        ]
    )
    assert [record.seq for record in await store.search_audit(**wanted)] == found  # type: ignore[arg-type]  # a table
