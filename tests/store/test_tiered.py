"""Two stores that look like one: the contract of hot state, and what goes where."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from store.base import Store
from store.errors import StoreUnavailable
from store.hot_line import RETRY_S, HotLine
from store.memory import MemoryStore
from store.redis_hot import RedisHot
from store.redis_link import RedisLink
from store.sqlite import SqliteStore
from store.tiered import tiered
from tests.contract.test_store_contract import *  # noqa: F403 - the contract, held against this store
from tests.contract.test_store_shared import *  # noqa: F403
from tests.fakes.clock import FakeClock
from tests.fakes.hot import line_to
from tests.fakes.records import make_account, make_credential, make_health, make_placement, make_window
from tests.redis_server import RedisServer, free_port, redis_server
from tests.store.conftest import a_vault

pytestmark = pytest.mark.slow
_PREFIXES = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server(fsync="no") as running:
        yield running


class Backend:
    """Handles on the same records, as two processes would have them."""

    def __init__(self, server: RedisServer, clock: FakeClock, path: Path) -> None:
        self._server = server
        self._clock = clock
        self._path = path
        self._prefix = f"p{next(_PREFIXES)}"
        self._stores: list[Store] = []

    async def handle(self) -> Store:
        durable = await SqliteStore.open(self._path, a_vault(), busy_timeout_s=2.0, clock=self._clock)
        line = HotLine(RedisLink(self._server.url, name="test", timeout_s=5.0), self._clock)
        store = tiered(durable, RedisHot(line, self._prefix, self._clock), line)
        self._stores.append(store)
        return store

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def backend(server: RedisServer, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Backend]:
    made = Backend(server, clock, tmp_path / "relay.db")
    yield made
    await made.close()


@pytest.fixture
async def store(backend: Backend) -> Store:
    return await backend.handle()


@pytest.fixture
async def other(backend: Backend, store: Store) -> Store:
    return await backend.handle()


async def test_an_account_that_is_removed_leaves_nothing_hot(store: Store, other: Store) -> None:
    await store.add_account(make_account(), make_credential())
    await store.publish([make_health(), make_health("b")], [make_window()])
    assert await other.remove_account("acct-1")
    left = await store.changes(0)
    assert [one.account_id for one in left.health] == ["b"]
    assert left.windows == ()


@pytest.mark.fault("B54")
async def test_without_its_hot_store_the_directory_goes_on_and_hot_calls_fail_at_once() -> None:
    """Down at the start: the store opens, accounts and their revision are served, the check passes."""
    clock = FakeClock()
    line = line_to(f"redis://127.0.0.1:{free_port()}/0", clock)
    store = tiered(MemoryStore(clock), RedisHot(line, "p", clock), line)
    before = await store.changes(7)
    assert (before.health, before.windows, before.cursor) == ((), (), 7)
    await store.add_account(make_account(), make_credential())
    after = await store.changes(7)
    assert after.directory_revision > before.directory_revision
    assert line.away is not None
    await store.check()
    for call in (
        store.publish([make_health()], []),
        store.place([make_placement()]),
        store.placements("owner", [b"x"]),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    assert await store.remove_account("acct-1")
    await store.close()


@pytest.mark.fault("B54")
async def test_what_the_durable_store_held_before_is_handed_over_once() -> None:
    """A gateway that is given a hot store later does not forget who rests."""
    clock = FakeClock()
    durable = MemoryStore(clock)
    await durable.publish([make_health()], [])
    line = line_to(f"redis://127.0.0.1:{free_port()}/0", clock)
    store = tiered(durable, RedisHot(line, "p", clock), line)
    assert (await store.changes(0)).health == (make_health(),)
    clock.advance(RETRY_S + 1)
    assert (await store.changes(0)).health == ()
    await store.close()
