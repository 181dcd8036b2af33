"""A hot store that answers every call just in time: a request waits for all of them together, not for each (B54)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ops.clock import SystemClock
from ops.simulator import running_simulator
from store.errors import StoreUnavailable
from store.hot_line import HotLine
from store.redis_link import RedisLink
from tests.flow.stage import stage
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow
ANSWER_S = 0.07


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(fsync="no") as running:
        yield running


class Slow:
    """A line to a real server on which every answer takes ``delay_s``."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self.url = ""
        self.delay_s = 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)

        async def up() -> None:
            while piece := await reader.read(65536):
                back.write(piece)
            back.close()

        async def down() -> None:
            while piece := await there.read(65536):
                await asyncio.sleep(self.delay_s)
                writer.write(piece)
            writer.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(up(), down())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Slow]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


async def test_the_calls_of_one_request_share_its_patience(redis: RedisServer) -> None:
    async with Slow(redis.url).running() as slow:
        clock = SystemClock()
        line = HotLine(RedisLink(slow.url, name="test", timeout_s=0.1), clock)
        await line.call("PING")
        slow.delay_s = ANSWER_S

        async def request() -> float:
            line.begin()
            began_s = clock.monotonic_s()
            await line.call("PING")
            with pytest.raises(StoreUnavailable, match="one request"):
                await line.call("PING")
            with pytest.raises(StoreUnavailable):
                await line.call("PING")
            return clock.monotonic_s() - began_s

        assert await asyncio.create_task(request()) < 2 * ANSWER_S
        assert line.away is not None
        await line.close()


async def test_what_runs_beside_the_requests_has_its_time_for_each_call(redis: RedisServer) -> None:
    async with Slow(redis.url).running() as slow:
        line = HotLine(RedisLink(slow.url, name="test", timeout_s=1.0), SystemClock())
        slow.delay_s = ANSWER_S
        for _ in range(16):
            await line.call("PING")
        assert line.away is None
        await line.close()


@pytest.mark.fault("B54")
async def test_a_request_with_every_reason_to_ask_is_served_all_the_same(tmp_path: Path, redis: RedisServer) -> None:
    """Its idempotency key, its limits and its conversation are all asked for; then the gateway decides alone."""
    async with running_simulator() as simulator, Slow(redis.url).running() as slow:
        documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(2)]
        store = {"hot_url": slow.url, "redis_timeout_ms": 100}
        limits = {"key_requests_per_minute": 1000, "key_concurrent_streams": 50}
        async with stage(tmp_path, simulator.base_url, documents=documents, store=store, limits=limits) as scene:
            assert (await scene.relay()).status == 200
            slow.delay_s = ANSWER_S
            for number in range(6):
                answer = await scene.relay({"prompt_cache_key": f"talk-{number}"}, idempotency_key=f"call-{number}")
                assert answer.status == 200
            slow.delay_s = 0.0
