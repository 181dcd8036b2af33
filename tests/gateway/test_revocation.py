"""Which requests end when a key dies, and that their cancellation is told from every other."""

from __future__ import annotations

import asyncio

from auth.keys import PEPPER_BYTES, KeyDirectory, KeyRing
from gateway.revocation import RunningRequests
from store.records import Limits
from tests.fakes.clock import FakeClock
from tests.fakes.records import make_key, make_tenant


class Stand:
    """A directory with the keys ``a`` and ``b``, and requests that wait for ever."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.directory = KeyDirectory(KeyRing(bytes(PEPPER_BYTES)), Limits(), Limits())
        self.running = RunningRequests(self.directory, self.clock)
        self.load("a", "b")

    def load(self, *ids: str) -> None:
        self.directory.load(
            [make_key(one, expires_at_s=None, revoked_at_s=None) for one in ids], [make_tenant(enabled=True)]
        )

    async def request(self, key_id: str) -> bool:
        """True when it was ended because of its key."""
        task = self.running.enter(key_id)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not self.running.revoked():
                raise
            await asyncio.sleep(0)  # the cancellation is over: awaiting works again
            return True
        finally:
            self.running.leave(task)
        return False

    async def start(self, *key_ids: str) -> list[asyncio.Task[bool]]:
        tasks = [asyncio.create_task(self.request(key_id)) for key_id in key_ids]
        await asyncio.sleep(0)
        return tasks


async def test_only_requests_of_the_dead_key_end() -> None:
    stand = Stand()
    first, second, other = await stand.start("a", "a", "b")
    assert stand.running.look() == 0
    stand.load("b")
    assert stand.running.look() == 2
    assert await first
    assert await second
    assert not other.done()
    assert len(stand.running) == 1
    other.cancel()


async def test_a_request_is_ended_once() -> None:
    """A second look before the task has run does not cancel it again."""
    stand = Stand()
    (task,) = await stand.start("a")
    stand.load("b")
    assert [stand.running.look(), stand.running.look()] == [1, 0]
    assert await task


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    stand = Stand()
    (task,) = await stand.start("a")
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert len(stand.running) == 0


async def test_a_request_that_ends_by_itself_leaves_nothing() -> None:
    stand = Stand()

    async def brief() -> None:
        task = stand.running.enter("a")
        stand.running.leave(task)

    await brief()
    stand.load()
    assert stand.running.look() == 0
