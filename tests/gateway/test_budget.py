"""A task's tokens: set aside before, settled after, exact whoever calls at the same time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from auth.keys import KeyRing
from auth.task_keys import KIND, Hold, TaskAccount, TaskKeys, read_account
from gateway.budget import BudgetRules, TaskBudgets, settled, used
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from store.base import Store
from store.errors import StoreUnavailable
from store.records import Document, Tenant
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock
from upstream.types import Usage

RULES = BudgetRules(call_tokens=100, hold_s=60.0)


def exchange(
    name: str = "req_1", usage: Usage | None = None, attempts: int = 1, account: str | None = None
) -> Exchange:
    return Exchange(
        name, "POST", "/v1/responses", 0.0, usage=usage, attempts=attempts, account_id=account
    )  # fmt: skip


def request(size_bytes: int = 0) -> Any:
    return SimpleNamespace(adapted=SimpleNamespace(head=b"x" * size_bytes, input=b""))


async def minted(store: Store, clock: FakeClock, budget: int) -> str:
    await store.add_tenant(Tenant("t1", "team"))
    return (await TaskKeys(store, KeyRing(b"p" * 32), clock).mint("task", 1, "t1", (), budget, 3600.0))[1]


async def account_of(store: Store, key_id: str) -> TaskAccount:
    document = await store.document(KIND, key_id)
    assert document is not None
    return read_account(document)


async def call(budgets: TaskBudgets, key_id: str, name: str, usage: Usage | None = None, size_bytes: int = 0) -> None:
    async with budgets.held(key_id, request(size_bytes), exchange(name, usage)):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_through_two_workers_at_once_are_counted_exactly(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as (store, other):
        key_id = await minted(store, clock, 1_000_000)
        workers = [TaskBudgets(one, clock, RULES) for one in (store, other)]
        calls = [call(workers[n % 2], key_id, f"r{n}", Usage(7, 0, 3, 0, 10)) for n in range(24)]
        await asyncio.gather(*calls)
        assert await account_of(store, key_id) == TaskAccount("task", 1, 1_000_000, spent=240)


async def test_who_finds_nothing_left_is_refused_and_told_whether_to_come_back(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        key_id = await minted(store, clock, 150)
        budgets = TaskBudgets(store, clock, RULES)
        async with budgets.held(key_id, request(), exchange("one", Usage(90, 0, 20, 0, 110))):
            assert (await account_of(store, key_id)).held["one"].tokens == 100
            async with budgets.held(key_id, request(), exchange("two", Usage(1, 0, 1, 0, 2))):
                assert (await account_of(store, key_id)).held["two"].tokens == 50, "what was left"
                with pytest.raises(GatewayError) as caught:
                    await call(budgets, key_id, "three")
                assert (caught.value.code, caught.value.status) == ("budget_exhausted", 429)
                assert caught.value.retry_after_s is not None, "running calls may give some back"
        await call(budgets, key_id, "four", Usage(500, 0, 0, 0, 500))
        with pytest.raises(GatewayError) as caught:
            await call(budgets, key_id, "five")
        assert caught.value.retry_after_s is None
        assert (await account_of(store, key_id)).spent == 612


async def test_a_long_input_is_part_of_what_is_set_aside(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        key_id = await minted(store, clock, 10_000)
        budgets = TaskBudgets(store, clock, RULES)
        async with budgets.held(key_id, request(4000), exchange("one")):
            assert (await account_of(store, key_id)).held["one"].tokens == 1100


async def test_a_hold_whose_process_died_is_free_again_and_a_late_end_still_counts(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        key_id = await minted(store, clock, 100)
        dead, living = TaskBudgets(store, clock, RULES), TaskBudgets(store, clock, RULES)
        late = dead.held(key_id, request(), exchange("late", Usage(30, 0, 3, 0, 33)))
        await late.__aenter__()
        with pytest.raises(GatewayError, match="used up"):
            await call(living, key_id, "early")
        clock.advance(RULES.hold_s)
        await call(living, key_id, "early", Usage(5, 0, 5, 0, 10))
        await late.__aexit__(None, None, None)
        assert (await account_of(store, key_id)).spent == 43


async def test_an_ended_or_unknown_key_is_refused_by_its_document_alone(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        key_id = await minted(store, clock, 100)
        await TaskKeys(store, KeyRing(b"p" * 32), clock).end(key_id)
        for name in (key_id, "nothing"):
            with pytest.raises(GatewayError) as caught:
                await call(TaskBudgets(store, clock, RULES), name, "one")
            assert caught.value.code == "invalid_api_key"


class Failing:
    """Documents that are not written while ``down``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.down = False

    async def document(self, kind: str, document_id: str) -> Document | None:
        return await self._store.document(kind, document_id)

    async def put_document(self, document: Document, expected_version: int) -> Document:
        if self.down:
            raise StoreUnavailable("away")
        return await self._store.put_document(document, expected_version)


async def test_what_the_store_did_not_take_is_made_up_with_the_next_call(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        key_id = await minted(store, clock, 10_000)
        documents = Failing(store)
        budgets = TaskBudgets(cast("Any", documents), clock, RULES)
        async with budgets.held(key_id, request(), exchange("one", Usage(40, 0, 2, 0, 42))):
            documents.down = True
        assert (await account_of(store, key_id)).spent == 0
        with pytest.raises(GatewayError) as caught:
            await call(budgets, key_id, "two")
        assert caught.value.code == "store_unavailable"
        documents.down = False
        await call(budgets, key_id, "three", Usage(1, 0, 0, 0, 1))
        assert await account_of(store, key_id) == TaskAccount("task", 1, 10_000, spent=43)


@pytest.mark.parametrize(
    ("told", "refused", "tokens"),
    [
        (exchange(usage=Usage(7, 0, 5, 0, 12)), False, 12),
        (exchange(usage=Usage(7, 0, 5, 0, 0)), True, 12),
        (exchange(attempts=0), True, 0),
        (exchange(attempts=0), False, 0),
        (exchange(), True, 0),
        (exchange(account="a"), True, 100),
        (exchange(), False, 100),
        (exchange(account="a"), False, 100),
    ],
)
def test_what_a_call_has_used(told: Exchange, refused: bool, tokens: int) -> None:
    assert used(told, 100, refused=refused) == tokens


def test_a_call_is_settled_once() -> None:
    account = TaskAccount("t", 1, 100, held={"a": Hold(20, 10.0), "b": Hold(5, 20.0)})
    once = settled(account, {"a": 7, "gone": 50})
    assert (once.spent, set(once.held)) == (7, {"b"})
    assert settled(once, {"a": 7}) is once
