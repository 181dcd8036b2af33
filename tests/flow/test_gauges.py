"""The gauges say what is now: calls in work, attempts in work, breakers, accounts by state."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ops.metrics import account_ref
from ops.simulator import SimulatorConfig, running_simulator
from tests.flow.stage import stage


async def test_the_gauges_follow_what_happens(tmp_path: Path) -> None:
    """Two streams at a gate are two; an account whose breaker opened is open, and nothing is left at the end."""
    router = {"wait_max_s": 0, "breaker_failures": 1, "breaker_open_s": 60}
    async with running_simulator(SimulatorConfig()) as simulator:
        documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(3)]
        async with stage(tmp_path, simulator.base_url, documents=documents, router=router) as scene:
            running = [asyncio.create_task(scene.relay({"input": "sim:gate=door"})) for _ in range(2)]
            while simulator.state.counts["at_gate_door"] < 2:
                await asyncio.sleep(0.01)
            assert await scene.metric("relay_inflight") == 2
            assert await scene.metric("relay_streams") == 2
            simulator.state.open_gate("door")
            assert [(await task).code for task in running] == [None, None]
            assert await scene.metric("relay_inflight") == 0
            assert await scene.metric("relay_streams") == 0
            simulator.state.script("acct-0", ["http=500"])
            assert {(await scene.relay()).code for _ in range(3)} == {None}
            assert scene.state(0) == "open"
            ref = account_ref(scene.accounts[0].id)
            assert await scene.metric("relay_breaker_state", account_ref=ref) == 2
            assert await scene.metric("relay_pool_accounts", state="open") == 1
            assert await scene.metric("relay_pool_accounts", state="ready") == 2
            scene.gateway.gateway.pool.clear(scene.accounts[0].id)
            assert await scene.metric("relay_breaker_state", account_ref=ref) == 0
