"""The end of a gateway: streams end whole, refreshes are stored, a second signal is quick (B60)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from ops.simulator import Refresh, RunningSimulator, SimulatorConfig, running_simulator
from store.keyfile import FileKeys
from store.open import open_store
from tests.flow.stage import Answer
from tests.ops.processes import Serving, relay, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.fault("B60")]
WORKERS = pytest.mark.parametrize("workers", ["1", "2"])
PATIENT = {"port": 0, "drain_delay_s": 1.0, "drain_s": 20.0, "heartbeat_s": 0.5}


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


async def status_of(url: str, path: str) -> int | str:
    """The status on a fresh connection, or what came instead."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            return (await client.get(f"{url}{path}")).status_code
    except httpx.TransportError as error:
        return type(error).__name__


def whole(answer: Answer) -> None:
    """Nothing lost, nothing twice, and the response's own end."""
    assert answer.code is None
    assert answer.rest == b""
    assert answer.types[-1] == "response.completed"
    assert answer.numbers == list(range(len(answer.numbers)))


@contextlib.asynccontextmanager
async def streams(one: Serving, simulator: RunningSimulator, count: int) -> AsyncIterator[list[asyncio.Task[Answer]]]:
    """``count`` streams that stand in the middle until the gate ``door`` is opened."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(one.client()) for _ in range(count)]
        tasks = [asyncio.create_task(relay(client, "sim:events=12,gate=door,at=6")) for client in clients]
        await until(lambda: simulator.state.counts["at_gate_door"] == count, 10)
        try:
            yield tasks
        finally:
            simulator.state.open_gate("door")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_running_streams_end_whole(
    tmp_path: Path, simulator: RunningSimulator, workers: str, number: signal.Signals
) -> None:
    """Readiness falls within a second while new requests are still taken, then the door closes; 30 streams end whole
    and the exit code is 0."""
    async with serving(tmp_path, simulator, "--workers", workers, server=PATIENT) as one:
        async with streams(one, simulator, 30) as running, one.client() as client:
            assert await status_of(one.url, "/readyz") == 200
            one.process.send_signal(number)
            await asyncio.sleep(0.3)
            assert await status_of(one.url, "/readyz") == 503
            assert await status_of(one.url, "/healthz") == 200
            whole(await relay(client))
            await asyncio.sleep(1.2)
            assert await status_of(one.url, "/readyz") == "ConnectError"
            assert one.process.returncode is None
            simulator.state.open_gate("door")
            for task in running:
                whole(await task)
            assert await one.ended(5) == 0
        assert one.logged("internal_error") == []
        assert not [line for line in one.lines if "Exception" in line]


@WORKERS
async def test_a_request_on_a_kept_connection_is_refused_once_the_door_is_closed(
    tmp_path: Path, simulator: RunningSimulator, workers: str
) -> None:
    """503 draining with Retry-After while streams still run, or a closed connection: never a hang, never a run."""
    patient = {**PATIENT, "drain_delay_s": 0}
    async with (
        serving(tmp_path, simulator, "--workers", workers, server=patient) as one,
        streams(one, simulator, 2),
        one.client() as client,
    ):
        assert (await client.get("/healthz")).status_code == 200
        one.process.terminate()
        await asyncio.sleep(0.5)
        before = simulator.state.counts["responses"]
        with contextlib.suppress(httpx.TransportError):
            assert (await relay(client)).error["code"] == "draining"
        assert simulator.state.counts["responses"] == before


@WORKERS
async def test_a_second_signal_is_quick_and_every_stream_is_told(
    tmp_path: Path, simulator: RunningSimulator, workers: str
) -> None:
    """Under two seconds to the end; each stream gets whole events, then one response.failed that says draining."""
    async with (
        serving(tmp_path, simulator, "--workers", workers, server=PATIENT) as one,
        streams(one, simulator, 8) as running,
    ):
        one.process.terminate()
        await asyncio.sleep(0.7)
        began_s = asyncio.get_running_loop().time()
        one.process.terminate()
        code = await one.ended(10)
        assert asyncio.get_running_loop().time() - began_s < 2.0
        assert code == 0
        for task in running:
            answer = await task
            assert answer.code == "draining"
            assert answer.rest == b""
            assert answer.types.count("response.failed") == 1
            assert answer.numbers == list(range(len(answer.numbers)))
        assert not [line for line in one.lines if "Exception" in line]


@WORKERS
async def test_a_request_that_waits_for_its_first_event_is_told_as_well(
    tmp_path: Path, simulator: RunningSimulator, workers: str
) -> None:
    """Cut before anything went down, a request is answered 503 draining."""
    async with serving(tmp_path, simulator, "--workers", workers, server=PATIENT) as one, one.client() as client:
        task = asyncio.create_task(relay(client, "sim:gate=door,at=-1"))
        await until(lambda: simulator.state.counts["at_gate_door"] == 1)
        one.process.terminate()
        await asyncio.sleep(0.7)
        one.process.terminate()
        answer = await task
        assert (answer.status, answer.error["code"]) == (503, "draining")
        assert "retry-after" in answer.headers
        assert await one.ended(5) == 0


@WORKERS
async def test_a_signal_to_the_whole_process_group_counts_once(
    tmp_path: Path, simulator: RunningSimulator, workers: str
) -> None:
    """Ctrl-C in a terminal, or a wrapper that passes the signal on, drains and does not cut."""
    async with serving(tmp_path, simulator, "--workers", workers, server=PATIENT) as one:
        async with streams(one, simulator, 4) as running:
            os.killpg(one.process.pid, signal.SIGINT)
            one.process.send_signal(signal.SIGINT)
            for pid in one.worker_pids.values():
                os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(1.5)
            simulator.state.open_gate("door")
            for task in running:
                whole(await task)
        assert await one.ended(5) == 0


@WORKERS
async def test_a_hangup_changes_nothing(tmp_path: Path, simulator: RunningSimulator, workers: str) -> None:
    """SIGHUP neither ends nor reloads anything, in supervisor and workers."""
    async with serving(tmp_path, simulator, "--workers", workers) as one, one.client() as client:
        one.process.send_signal(signal.SIGHUP)
        for pid in one.worker_pids.values():
            os.kill(pid, signal.SIGHUP)
        await asyncio.sleep(0.3)
        whole(await relay(client))
        assert one.logged("worker_died") == []
        one.process.terminate()
        assert await one.ended(5) == 0


@WORKERS
@pytest.mark.parametrize("signals", [1, 2])
async def test_a_refresh_under_way_is_stored_before_the_end(
    tmp_path: Path, simulator: RunningSimulator, workers: str, signals: int
) -> None:
    """The rotated token that the issuer gives while we stop is in the database afterwards."""
    async with serving(tmp_path, simulator, "--workers", workers, accounts=1) as one, one.client() as client:
        simulator.state.script_oauth([Refresh("ok", gate="issuer")])
        simulator.state.expire_access()
        task = asyncio.create_task(relay(client))
        await until(lambda: simulator.state.counts["at_gate_issuer"] == 1)
        for _ in range(signals):
            one.process.terminate()
            await asyncio.sleep(0.7)
        assert one.process.returncode is None
        simulator.state.open_gate("issuer")
        assert await one.ended(8) == 0
        with contextlib.suppress(httpx.TransportError):
            await task
    store = await open_store(
        f"sqlite:///{tmp_path}/data/relay.db",
        keys=FileKeys(tmp_path / "data/vault.key"),
        busy_timeout_s=1.0,
    )
    try:
        credential = await store.credential(one.accounts[0])
        assert credential is not None
        assert credential.refresh_token is not None
        newest = simulator.state.auth_json("acct-0")["tokens"]["refresh_token"]
        assert credential.refresh_token.reveal() == newest
    finally:
        await store.close()
