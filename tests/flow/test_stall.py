"""A stall of our own event loop is nobody's timeout (B61)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.flow.stage import stage

STALL_S = 1.2


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """In a thread with a loop of its own: it goes on while ours stands still."""
    box: list[RunningSimulator] = []
    running, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with running_simulator(SimulatorConfig()) as one:
            box.append(one)
            running.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    running.wait(10)
    yield box[0]
    over.set()
    thread.join(10)


@pytest.mark.slow
@pytest.mark.fault("B61")
async def test_a_stall_longer_than_every_deadline_ends_no_stream_and_shows_in_the_metrics(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """The upstream wrote while we stood still: what has arrived is read before anything is judged late."""
    documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(2)]
    short = {"idle_timeout_s": 0.8, "first_event_timeout_s": 0.8}
    server = {"port": 0, "drain_delay_s": 0, "body_idle_timeout_s": 0.8, "header_timeout_s": 0.8, "write_stall_s": 0.8}
    async with stage(tmp_path, simulator.base_url, documents=documents, upstream=short, server=server) as scene:
        streams = [
            asyncio.create_task(scene.relay({"input": f"sim:events=16,delay_ms=100,ttfb_ms={n * 150}"}))
            for n in range(5)
        ]
        await asyncio.sleep(0.4)
        time.sleep(STALL_S)
        for task in streams:
            answer = await task
            assert answer.code is None
            assert answer.attempts == 1
            assert answer.numbers == list(range(len(answer.numbers)))
        assert [scene.strikes(n) for n in range(2)] == [0, 0]
        await asyncio.sleep(0.6)
        assert await scene.metric("relay_loop_lag_seconds") >= STALL_S - 0.6
