"""The loops beside the requests: nothing ends them, and what the store did not take is not lost for the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from ops.background import SHARE_INTERVAL_S, Background
from router.pool import AccountPool
from store.errors import StoreUnavailable
from store.memory import MemoryStore
from store.records import HealthRecord, Placement, WindowRecord
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_credential
from tests.fakes.routing import BARE_429, account, pool_of, put, usage_limit


class Store(MemoryStore):
    """May take no writes, or break in a way that nobody foresaw."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.locked = False
        self.broken = False
        self.published = asyncio.Event()

    async def publish(self, health: Sequence[HealthRecord], windows: Sequence[WindowRecord]) -> None:
        self._write()
        await super().publish(health, windows)

    async def place(self, placements: Sequence[Placement]) -> None:
        self._write()
        await super().place(placements)
        self.published.set()

    def _write(self) -> None:
        if self.locked:
            raise StoreUnavailable("locked by another process")
        if self.broken:
            raise RuntimeError("a defect")


class Parts:
    """Stands for the collaborators that these tests do not look at."""

    def __init__(self) -> None:
        self.lags: list[float] = []
        self.reachable: list[bool] = []
        self.kept = 0

    def set_accounts(self, _accounts: object) -> None: ...

    def load(self, _keys: object, _tenants: object) -> None: ...

    async def reload(self, _ids: object) -> None: ...

    async def refresh(self) -> None: ...

    async def keep(self, _accounts: object) -> int:
        self.kept += 1
        await asyncio.Event().wait()  # an exchange that hangs
        return 0

    def look(self) -> int:
        return 0

    def __len__(self) -> int:
        return 0

    def sample(self, *_: object) -> None: ...

    def loop_lag(self, seconds: float) -> None:
        self.lags.append(seconds)

    def shared_state(self, *, reachable: bool) -> None:
        self.reachable.append(reachable)


class Desk:
    """One worker's background over a store that another worker reads."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = Store(self.clock)
        self.parts = Parts()
        self.pool = pool_of(2, self.clock)
        any_part = cast("Any", self.parts)
        self.background = Background(
            store=self.store,
            pool=self.pool,
            tokens=any_part,
            keys=any_part,
            catalog=any_part,
            codex=any_part,
            audit=None,
            clock=self.clock,
            observer=self.parts,
            connections=any_part,
            running=any_part,
            worker="w1",
        )

    async def told(self) -> dict[str, float]:
        """Account -> end of its rest, as the others read it."""
        return {one.account_id: one.until_s for one in (await self.store.changes(0)).health}

    async def other(self) -> AccountPool:
        """Another worker's pool after it has taken in what is told."""
        pool = pool_of(2, self.clock, worker="w2")
        pool.apply((await self.store.changes(0)).health)
        return pool

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = self.background.start()
        try:
            await self.turn()
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def turn(self, seconds: float = 0.0) -> None:
        """Lets ``seconds`` pass and every task run."""
        self.clock.advance(seconds)
        for _ in range(50):
            await asyncio.sleep(0)


@pytest.fixture
async def desk() -> Desk:
    desk = Desk()
    for number in range(2):
        await desk.store.add_account(account(number), make_credential(f"a{number}"))
    return desk


async def test_what_the_store_did_not_take_is_told_when_it_is_back(desk: Desk) -> None:
    desk.store.locked = True
    put(desk.pool, "a0", usage_limit(desk.clock, 3600))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await desk.background.share()
    desk.store.locked = False
    assert await desk.told() == {}
    await desk.background.share()
    assert list(await desk.told()) == ["a0"]
    explained = (await desk.other()).explain("a0")
    assert explained is not None
    assert explained.state == "cooling"


async def test_later_news_of_the_same_thing_replaces_what_waits(desk: Desk) -> None:
    desk.store.locked = True
    put(desk.pool, "a0", BARE_429)
    with pytest.raises(StoreUnavailable):
        await desk.background.share()
    first_s = desk.clock.now_s()
    desk.clock.advance(60)
    put(desk.pool, "a0", usage_limit(desk.clock, 3600))
    desk.store.locked = False
    await desk.background.share()
    assert (await desk.told())["a0"] == pytest.approx(first_s + 3660, abs=2)


async def test_a_store_that_takes_no_writes_is_read_all_the_same(desk: Desk) -> None:
    other = pool_of(2, desk.clock, worker="w2")
    put(other, "a1", usage_limit(desk.clock, 3600))
    await desk.store.publish(other.take_changes(), [])
    desk.store.locked = True
    put(desk.pool, "a0", usage_limit(desk.clock, 3600))
    with pytest.raises(StoreUnavailable):
        await desk.background.share()
    assert {one.account.id: one.state.value for one in desk.pool.snapshot().accounts} == {
        "a0": "cooling",
        "a1": "cooling",
    }


async def test_neither_an_absent_store_nor_a_defect_ends_a_loop(desk: Desk) -> None:
    async with desk.running():
        desk.store.locked = True
        put(desk.pool, "a0", usage_limit(desk.clock, 3600))
        for _ in range(4):
            await desk.turn(SHARE_INTERVAL_S)
        assert desk.parts.reachable[-1] is False
        desk.store.locked, desk.store.broken = False, True
        for _ in range(4):
            await desk.turn(SHARE_INTERVAL_S)
        desk.store.broken = False
        for _ in range(10):
            await desk.turn(SHARE_INTERVAL_S)
        assert list(await desk.told()) == ["a0"]
        assert desk.parts.reachable[-1] is True


async def test_a_refresh_that_hangs_holds_up_no_sharing(desk: Desk) -> None:
    async with desk.running():
        assert desk.parts.kept == 1
        put(desk.pool, "a0", usage_limit(desk.clock, 3600))
        await desk.turn(SHARE_INTERVAL_S)
        assert list(await desk.told()) == ["a0"]


async def test_news_is_published_without_waiting_for_the_interval(desk: Desk) -> None:
    """No time passes on the clock: what is hurried does not wait for a fifth of a second."""
    desk.pool.placements.on_news = desk.background.hurry
    async with desk.running():
        desk.pool.placements.own([b"sealed"], "a1", desk.clock.monotonic_s())
        await desk.turn()
        assert await desk.store.placements("owner", [b"sealed"]) == {b"sealed": "a1"}


async def test_the_worst_lag_of_a_minute_is_kept(desk: Desk) -> None:
    async with desk.running():
        await desk.turn(2.5)
        assert desk.parts.lags[-1] == pytest.approx(2.0)
        for _ in range(100):
            await desk.turn(0.5)
        assert desk.parts.lags[-1] == pytest.approx(2.0)
        for _ in range(30):
            await desk.turn(0.5)
        assert desk.parts.lags[-1] == pytest.approx(0.0)
