"""Several workers are one gateway: what one learns the other obeys, what is counted is counted once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.ops.processes import Serving, relay, serving, until

pytestmark = pytest.mark.slow


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


@pytest.fixture
async def two(tmp_path: Path, simulator: RunningSimulator) -> AsyncIterator[Serving]:
    async with serving(tmp_path, simulator, "--workers", "2") as one:
        yield one


async def test_both_workers_serve_and_metrics_and_audit_are_their_sum(two: Serving) -> None:
    """Each worker answers; /metrics counts all requests once; the audit chain has a record of each."""
    async with two.client_of(0) as first, two.client_of(1) as second:
        for client in (first, second, first, second, second):
            assert (await relay(client)).code is None
    await until(lambda: len(two.logged("request")) == 5)
    served = two.logged("request")
    assert {w: sum(line["worker"] == w for line in served) for w in (0, 1)} == {0: 2, 1: 3}
    assert len(set(two.worker_pids.values())) == 2
    await asyncio.sleep(0.5)  # counts are folded five times a second
    assert await two.metric("relay_requests_total", route="responses", status_class="2xx") == 5
    assert await two.metric("relay_stream_end_total", reason="completed") == 5
    two.process.terminate()
    assert await two.ended() == 0
    checked = await two.cli("audit", "verify", "--json")
    assert checked.code == 0, checked.err
    found = await two.cli("audit", "search", "--action", "request.responses", "--json")
    ids = {record["request_id"] for record in json.loads(found.out)}
    assert ids == {line["request_id"] for line in served}


async def test_a_rest_found_by_one_worker_is_obeyed_by_the_other_and_explained(
    two: Serving, simulator: RunningSimulator
) -> None:
    """A 429 that one worker met keeps the other away within a second, and the command line says why."""
    for number in (0, 1):
        simulator.state.exhaust(f"acct-{number}", resets_in_s=3600)
    async with two.client_of(0) as first, two.client_of(1) as second:
        assert (await relay(first)).error["code"] == "usage_limit_reached"
        await asyncio.sleep(0.8)
        before = simulator.state.counts["responses"]
        refused = await relay(second)
        assert refused.error["code"] == "usage_limit_reached"
        assert refused.error["resets_in_seconds"] > 3000
        assert simulator.state.counts["responses"] == before
    why = await two.cli("accounts", "why", two.accounts[0])
    assert why.code == 0
    assert "usage" in why.out.lower(), why.out


async def test_what_the_command_line_changes_reaches_both_workers_within_a_second(two: Serving) -> None:
    """A disabled account serves nobody, a revoked key opens nothing, a new key opens, in both workers."""
    async with two.client_of(0) as first, two.client_of(1) as second:
        assert {(await relay(client)).status for client in (first, second)} == {200}
        assert (await two.cli("accounts", "disable", two.accounts[0])).code == 0
        made = json.loads((await two.cli("keys", "create", "--tenant", "team", "--json")).out)
        await asyncio.sleep(0.8)
        for client in (first, second):
            assert {(await relay(client)).account for _ in range(3)} == {two.accounts[1]}
        async with two.client_of(0, made["key"]) as third, two.client_of(1, made["key"]) as fourth:
            assert {(await relay(client)).status for client in (third, fourth)} == {200}
            assert (await two.cli("keys", "revoke", made["id"], "--yes")).code == 0
            await asyncio.sleep(0.8)
            assert {(await relay(client)).status for client in (third, fourth)} == {401}


async def test_limits_hold_in_sum_over_workers(tmp_path: Path, simulator: RunningSimulator) -> None:
    """Six requests a minute and two at once are that many over both workers, not in each."""
    words = ("--rpm", "6", "--streams", "2")
    async with serving(tmp_path, simulator, "--workers", "2", key_words=words) as two, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(two.client_of(n % 2)) for n in range(4)]
        waiting = [asyncio.create_task(relay(client, "sim:gate=door")) for client in clients[:2]]
        await until(lambda: simulator.state.counts["responses"] == 2)
        assert [(await relay(client)).error["code"] for client in clients[2:]] == ["rate_limited"] * 2
        simulator.state.open_gate("door")
        assert [(await task).code for task in waiting] == [None, None]
        statuses = [(await relay(clients[n % 4])).status for n in range(8)]
        assert statuses.count(200) == 4, statuses
        assert statuses.count(429) == 4


async def test_an_expired_token_is_exchanged_once_over_both_workers(two: Serving, simulator: RunningSimulator) -> None:
    """Many requests on both workers meet a refused token: one exchange per account, and every request is served."""
    simulator.state.expire_access()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(two.client_of(n % 2)) for n in range(12)]
        answers = await asyncio.gather(*(relay(client) for client in clients))
    assert [answer.code for answer in answers] == [None] * 12
    exchanged = [token["exchanges"] for token in simulator.state.counters()["refresh_tokens"]]
    assert sorted(exchanged) == [0, 0, 1, 1]


async def test_the_next_turn_on_the_other_worker_goes_to_the_account_that_sealed_its_reasoning(
    two: Serving, simulator: RunningSimulator
) -> None:
    """Sealed reasoning of a turn on one worker binds the turn that follows at once on the other."""
    asked = {"include": ["reasoning.encrypted_content"]}
    async with two.client_of(0) as first, two.client_of(1) as second:
        for turn in range(12):
            clients = (first, second) if turn % 2 else (second, first)
            one = await relay(clients[0], "sim:reasoning,events=1", **asked)
            items = next(e.json["response"]["output"] for e in one.events if e.type == "response.completed")
            follow = [{"role": "user", "content": "one"}, *items, {"role": "user", "content": "two"}]
            response = await clients[1].post(
                "/v1/responses", json={"model": "gpt-5.5", "stream": True, "input": follow}
            )
            assert response.status_code == 200
            assert "x-relay-moved" not in response.headers
            assert response.headers["x-relay-account"] == one.account
            assert response.headers["x-relay-attempts"] == "1"


async def test_a_conversation_keeps_its_account_on_the_other_worker(two: Serving) -> None:
    """The wish of a prompt_cache_key is known to the other worker."""
    async with two.client_of(0) as first, two.client_of(1) as second:
        for turn in range(6):
            one = await relay(first, prompt_cache_key=f"thread-{turn}")
            await asyncio.sleep(0.05)
            assert (await relay(second, prompt_cache_key=f"thread-{turn}")).account == one.account
