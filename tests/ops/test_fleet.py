"""Four processes on two replicas with a hot store are one gateway: in health, fairness, limits, refreshes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.ops.fleet import WORKERS, fleet
from tests.ops.processes import relay, until
from tests.redis_server import RedisServer, redis_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server(fsync="no") as running:
        yield running


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


async def test_the_four_obey_rests_share_turns_and_exchange_a_token_once(
    tmp_path: Path, simulator: RunningSimulator, redis: RedisServer
) -> None:
    """Fairness over the fleet, one exchange per expired token, and a rest that all know of within a second."""
    async with fleet(tmp_path, simulator, redis, accounts=3) as four, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(four.client_of(n)) for n in range(WORKERS)]
        first = Counter([(await relay(client)).account for client in clients for _ in range(2)])
        assert len(first) == 3, "they do not all begin with the same accounts"
        taken = Counter([(await relay(clients[n % 4])).account for n in range(120)])
        assert {account: abs(count - 40) <= 6 for account, count in taken.items()} == dict.fromkeys(four.accounts, True)

        simulator.state.expire_access()
        answers = await asyncio.gather(*(relay(client) for client in clients for _ in range(1)))
        answers += [await relay(clients[n % 4]) for n in range(8)]
        assert {answer.code for answer in answers} == {None}
        exchanged = [token["exchanges"] for token in simulator.state.counters()["refresh_tokens"]]
        assert max(exchanged) == 1

        simulator.state.exhaust("acct-0", resets_in_s=3600)
        simulator.state.exhaust("acct-1", resets_in_s=3600)
        for _ in range(3):
            assert (await relay(clients[0])).code is None
        await asyncio.sleep(0.9)
        before = simulator.state.counts["responses"]
        answers = [await relay(client) for client in clients for _ in range(3)]
        assert {answer.account for answer in answers} == {four.accounts[2]}
        assert {answer.attempts for answer in answers} == {1}
        assert simulator.state.counts["responses"] == before + 12


async def test_a_conversation_and_an_idempotency_key_are_known_on_the_other_replica(
    tmp_path: Path, simulator: RunningSimulator, redis: RedisServer
) -> None:
    """The wish of a conversation, the owner of sealed reasoning, and a call that was made already."""
    async with fleet(tmp_path, simulator, redis) as four, AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(four.client_of(n)) for n in (0, 3)]
        for turn in range(6):
            one = await relay(here, prompt_cache_key=f"thread-{turn}")
            await asyncio.sleep(0.1)
            assert (await relay(there, prompt_cache_key=f"thread-{turn}")).account == one.account
        for _ in range(4):
            sealed = await relay(here, "sim:reasoning,events=1", include=["reasoning.encrypted_content"])
            items = next(e.json["response"]["output"] for e in sealed.events if e.type == "response.completed")
            body = {"model": "gpt-5.5", "stream": True, "input": [*items, {"role": "user", "content": "two"}]}
            follow = await there.post("/v1/responses", json=body)
            assert follow.headers["x-relay-account"] == sealed.account
            assert "x-relay-moved" not in follow.headers
        call: dict[str, Any] = {"headers": {"idempotency-key": "once"}, "json": {"model": "gpt-5.5", "input": "hello"}}
        answers = await asyncio.gather(*(client.post("/v1/responses", **call) for client in (here, there)))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert (await there.post("/v1/responses", **call)).status_code == 409


async def test_limits_hold_in_sum_over_four_processes(
    tmp_path: Path, simulator: RunningSimulator, redis: RedisServer
) -> None:
    """Of 1,200 requests a minute 1,000 pass, exactly; never more streams at once than allowed."""
    words = ("--rpm", "1000", "--streams", "8")
    async with fleet(tmp_path, simulator, redis, key_words=words) as four, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(four.client_of(n % 4)) for n in range(20)]
        waiting = [asyncio.create_task(relay(client, "sim:gate=door")) for client in clients]
        await until(lambda: sum(task.done() for task in waiting) == 12)
        assert simulator.state.counts["responses"] == 8
        simulator.state.open_gate("door")
        codes = Counter([(await task).status for task in waiting])
        assert codes == {200: 8, 429: 12}
        await asyncio.sleep(1.5)  # places that were given back

        async def ask(client: httpx.AsyncClient, times: int) -> list[int]:
            return [(await relay(client)).status for _ in range(times)]

        begun = time.monotonic()
        statuses = await asyncio.gather(*(ask(client, 149) for client in clients[:8]))
        assert time.monotonic() - begun < 50, "the minute must not end meanwhile"
        counted = Counter(status for found in statuses for status in found)
        assert counted == {200: 992, 429: 200}
