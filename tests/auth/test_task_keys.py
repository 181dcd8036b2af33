"""The key of one attempt: for one scope, one budget, one life; ended twice over."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth.errors import InvalidKey
from auth.keys import SCOPES, TASK_SCOPE, KeyDirectory, KeyRing
from auth.task_keys import KEPT_S, KIND, Hold, TaskAccount, TaskKeys, read_account
from store.base import Store
from store.errors import NotFound
from store.records import Limits, Tenant
from tests.auth.stores import KINDS, opened
from tests.fakes.clock import FakeClock

RING = KeyRing(b"p" * 32)


async def directory(store: Store) -> KeyDirectory:
    found = KeyDirectory(RING, Limits(), Limits())
    found.load(await store.keys(), await store.tenants())
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_lives_for_its_attempt_and_is_ended_for_good(kind: str, tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(kind, clock, tmp_path) as (store, other):
        await store.add_tenant(Tenant("t1", "team"))
        keys = TaskKeys(store, RING, clock)
        secret, key_id = await keys.mint("task-1", 2, "t1", ("gpt-5.5",), 1000, 60.0)
        bearer = f"Bearer {secret.reveal()}".encode()
        caller = (await directory(other)).authenticate(bearer, clock.now_s())
        assert (caller.key_id, caller.scopes, caller.models) == (
            key_id,
            frozenset({TASK_SCOPE}),
            ("gpt-5.5",),
        )
        with pytest.raises(InvalidKey):
            (await directory(other)).authenticate(bearer, clock.now_s() + 60.0)
        document = await other.document(KIND, key_id)
        assert document is not None
        assert read_account(document) == TaskAccount("task-1", 2, 1000)
        assert secret.reveal().encode() not in document.body
        await store.add_key(RING.mint("t1", now_s=clock.now_s(), name="somebody's")[1])
        assert await TaskKeys(other, RING, clock).end(key_id)
        assert not await keys.end(key_id), "it has ended before"
        with pytest.raises(InvalidKey):
            (await directory(store)).authenticate(bearer, clock.now_s())
        ended = await store.document(KIND, key_id)
        assert ended is not None
        assert read_account(ended).ended
        assert await keys.spent(key_id) == 0
        clock.advance(60.0 + KEPT_S)
        assert await store.document(KIND, key_id) is None
        assert await keys.spent(key_id) == 0


async def test_all_keys_of_an_attempt_end_together_and_no_others(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        await store.add_tenant(Tenant("t1", "team"))
        keys = TaskKeys(store, RING, clock)
        first, second, other = [(await keys.mint("task-1", n, "t1", (), 10, 60.0))[1] for n in (1, 1, 2)]
        _, person = RING.mint("t1", now_s=clock.now_s(), name="task:task-1/1")
        await store.add_key(person)
        assert await keys.end_task("task-1", 1) == 2
        live = {one.id for one in await store.keys() if one.revoked_at_s is None}
        assert live == {other, person.id}
        assert {first, second}.isdisjoint(live)
        assert not await keys.end(person.id), "a person's key is none of a task's"


async def test_a_key_without_a_tenant_a_budget_or_a_life_is_not_made(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened("memory", clock, tmp_path) as (store, _):
        keys = TaskKeys(store, RING, clock)
        with pytest.raises(NotFound):
            await keys.mint("task-1", 1, "nobody", (), 10, 60.0)
        for budget, ttl_s in ((0, 60.0), (-1, 60.0), (10, 0.0)):
            with pytest.raises(ValueError, match="above 0"):
                await keys.mint("task-1", 1, "t1", (), budget, ttl_s)
        assert await store.keys() == ()
        assert not await keys.end("nothing")


def test_nobody_gives_the_scope_by_hand_nor_with_others() -> None:
    assert TASK_SCOPE not in SCOPES
    with pytest.raises(ValueError, match="unknown scope 'task'"):
        RING.mint("t1", now_s=0.0, scopes=frozenset({TASK_SCOPE, "relay"}))


def test_what_is_left_counts_what_living_calls_hold() -> None:
    account = TaskAccount("t", 1, 100, spent=30, held={"a": Hold(20, 10.0), "b": Hold(5, 20.0)})
    assert [account.left(now_s) for now_s in (9.0, 10.0, 20.0)] == [45, 65, 70]
