"""Which models there are: the union over the accounts, fresh for a while, whole although one account is ill."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from auth.errors import NeedsReauth
from gateway.catalog import ModelCatalog, find
from gateway.models import ModelTable
from router.types import NoAccount, NoAccountReason, RouteQuery
from store.records import Account, AccountStatus, Credential
from tests.fakes.backend import FakeTokens
from tests.fakes.clock import FakeClock
from tests.fakes.routing import account, pool_of
from upstream.client import CodexClient
from upstream.errors import FaultKind, UpstreamError

CACHE_S = 300.0
Answer = tuple[list[dict[str, Any]], str | None] | UpstreamError


def entries(*slugs: str, **members: Any) -> list[dict[str, Any]]:
    return [{"slug": slug, **members} for slug in slugs]


class Backend:
    """Answers each account with its own list, honouring etags."""

    def __init__(self) -> None:
        self.lists: dict[str, Answer] = {}
        self.asked: Counter[str] = Counter()
        self.gate: asyncio.Event | None = None

    async def models(
        self, account: Account, credential: Credential, etag: str | None
    ) -> tuple[list[dict[str, Any]], str | None] | None:
        self.asked[account.id] += 1
        if self.gate is not None:
            await self.gate.wait()
        answer = self.lists[account.id]
        if isinstance(answer, UpstreamError):
            raise answer
        return None if etag is not None and etag == answer[1] else answer


class Shop:
    def __init__(self, size: int = 2, table: ModelTable | None = None) -> None:
        self.clock = FakeClock()
        self.pool = pool_of(size, self.clock)
        self.backend, self.tokens = Backend(), FakeTokens()
        self.accounts = [account(n) for n in range(size)]
        codex = cast("CodexClient", self.backend)
        self.catalog = ModelCatalog(codex, self.tokens.real(), self.pool, table or ModelTable(), CACHE_S, self.clock)
        self.catalog.set_accounts(self.accounts)

    async def look(self, later_s: float = 0.0) -> list[str]:
        self.clock.advance(later_s)
        await self.catalog.refresh()
        return list(self.catalog.entries)


async def test_the_list_is_the_union_and_each_entry_the_backends_own_object() -> None:
    shop = Shop()
    shop.backend.lists = {"a0": (entries("m1", "m2", x=1), None), "a1": (entries("m2", "m3", x=2), None)}
    assert await shop.look() == ["m1", "m2", "m3"]
    assert shop.catalog.entries["m2"] == {"slug": "m2", "x": 1}
    assert shop.catalog.known == {"m1", "m2", "m3"}
    assert not shop.catalog.stale


async def test_the_router_learns_which_account_has_which_model() -> None:
    shop = Shop()
    shop.backend.lists = {"a0": (entries("m1"), None), "a1": (entries("m2"), None)}
    await shop.look()
    assert {shop.pool.lease(RouteQuery("m2")).account.id for _ in range(4)} == {"a1"}
    with pytest.raises(NoAccount) as caught:
        shop.pool.lease(RouteQuery("m9"))
    assert caught.value.reason is NoAccountReason.MODEL_UNAVAILABLE


async def test_an_account_that_never_answered_is_assumed_to_have_them_all() -> None:
    shop = Shop()
    shop.backend.lists = {"a0": (entries("m1"), None), "a1": UpstreamError(FaultKind.SERVER)}
    await shop.look()
    assert shop.pool.lease(RouteQuery("m9")).account.id == "a1"


async def test_a_fresh_list_is_not_asked_for_again_and_an_old_one_is() -> None:
    shop = Shop(1)
    shop.backend.lists = {"a0": (entries("m1"), None)}
    await shop.look()
    await shop.look(CACHE_S - 1)
    assert shop.backend.asked["a0"] == 1
    await shop.look(2)
    assert shop.backend.asked["a0"] == 2


async def test_an_ill_account_keeps_its_last_answer_and_is_asked_again_soon() -> None:
    shop = Shop()
    shop.backend.lists = {"a0": (entries("m1"), None), "a1": (entries("m2"), None)}
    await shop.look()
    shop.backend.lists["a1"] = UpstreamError(FaultKind.LOST)
    shop.tokens.broken["a0"] = NeedsReauth("gone")
    assert await shop.look(CACHE_S + 1) == ["m1", "m2"]
    assert shop.catalog.stale
    asked = shop.backend.asked["a1"]
    await shop.look(14)
    assert shop.backend.asked["a1"] == asked, "but not on every request"
    await shop.look(2)
    assert shop.backend.asked["a1"] == asked + 1


async def test_an_empty_list_is_no_answer() -> None:
    shop = Shop(1)
    shop.backend.lists = {"a0": (entries("m1"), None)}
    await shop.look()
    shop.backend.lists = {"a0": ([{"name": "no slug"}, {"slug": 7}], None)}
    assert await shop.look(CACHE_S + 1) == ["m1"]
    assert shop.catalog.stale


async def test_a_list_that_has_not_changed_stays_as_it_is() -> None:
    shop = Shop(1)
    shop.backend.lists = {"a0": (entries("m1"), "e1")}
    assert await shop.look() == await shop.look(CACHE_S + 1) == ["m1"]
    assert not shop.catalog.stale


async def test_an_account_that_comes_back_brings_its_models_although_they_have_not_changed() -> None:
    shop = Shop()
    shop.backend.lists = {"a0": (entries("m1"), "e1"), "a1": (entries("m2"), "e2")}
    await shop.look()
    shop.catalog.set_accounts([shop.accounts[0], replace(shop.accounts[1], enabled=False)])
    assert await shop.look() == ["m1"]
    shop.catalog.set_accounts(shop.accounts)
    assert await shop.look() == ["m1", "m2"]


async def test_a_new_account_is_asked_at_the_next_look_and_a_gone_one_takes_its_models_along() -> None:
    shop = Shop(1)
    shop.backend.lists = {"a0": (entries("m1"), None), "a1": (entries("m2"), None)}
    await shop.look()
    shop.catalog.set_accounts([account(1), account(2, status=AccountStatus.NEEDS_REAUTH)])
    assert await shop.look() == ["m2"]
    assert shop.backend.asked["a2"] == 0, "who cannot serve is not asked"


async def test_many_looks_at_once_are_one_discovery() -> None:
    shop = Shop(1)
    shop.backend.lists = {"a0": (entries("m1"), None)}
    shop.backend.gate = asyncio.Event()
    looks = [asyncio.create_task(shop.catalog.refresh()) for _ in range(5)]
    await asyncio.sleep(0.001)
    looks[0].cancel()
    shop.backend.gate.set()
    await asyncio.gather(*looks[1:])
    assert shop.backend.asked["a0"] == 2, "the one that was cut off, and the one for all the others"
    assert list(shop.catalog.entries) == ["m1"]


async def test_the_two_shapes_of_the_list_and_their_etags() -> None:
    shop = Shop(1, ModelTable({"fast": "m1"}, hidden=["m2"]))
    shop.backend.lists = {"a0": (entries("m1", "m2", x=1), None)}
    await shop.look()
    body, etag = shop.catalog.listing()
    assert [one["id"] for one in json.loads(body)["data"]] == ["m1", "fast"]
    native, native_etag = shop.catalog.native()
    assert json.loads(native) == {"models": [{"slug": "m1", "x": 1}]}
    assert etag != native_etag
    assert (shop.catalog.listing()[1], etag[:1], etag[-1:]) == (etag, b'"', b'"')
    shop.backend.lists = {"a0": (entries("m1", "m3"), None)}
    await shop.look(CACHE_S + 1)
    assert shop.catalog.listing()[1] != etag


def test_one_model_is_found_by_its_whole_name() -> None:
    assert find([{"id": "a"}, {"id": "ab"}], "ab") == {"id": "ab"}
    assert find([{"id": "a"}], "A") is None
