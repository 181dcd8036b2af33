"""Workers that die are replaced, what they held is free again, and nobody outlives the supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from ops.workers import Supervisor
from tests.fakes.clock import FakeClock
from tests.flow.stage import settings_for
from tests.ops.processes import Serving, relay, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.fault("B60")]


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


def runs(pid: int) -> bool:
    """Whether the process is there and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_killed_worker_is_back_within_two_seconds_and_its_streams_are_free_again(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """kill -9 of one worker: the other serves on, the new one has its seat, its places and what the fleet knew."""
    words = ("--streams", "2")
    async with serving(tmp_path, simulator, "--workers", "2", accounts=3, key_words=words) as two:
        simulator.state.exhaust("acct-0", resets_in_s=3600)
        async with two.client_of(0) as first, two.client_of(1) as second:
            met = [await relay(second) for _ in range(3)]  # one of them meets the full window
            assert {answer.code for answer in met} == {None}
            await asyncio.sleep(0.5)  # the others are told five times a second
            held = [asyncio.create_task(relay(first, "sim:gate=door")) for _ in range(1)]
            await until(lambda: simulator.state.counts["at_gate_door"] == 1)
            held.append(asyncio.create_task(relay(second, "sim:gate=door")))
            await until(lambda: simulator.state.counts["at_gate_door"] == 2)
            victim = two.worker_pids[0]
            os.kill(victim, signal.SIGKILL)
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(httpx.TransportError):
                await held[0]
            async with two.client_of(1) as third:
                assert (await third.get("/readyz")).status_code == 200
            await until(lambda: two.worker_pids[0] != victim, 3)
            async with two.client_of(0) as fourth:
                assert asyncio.get_running_loop().time() - began_s < 2.0
                answer = await relay(fourth)
                assert answer.code is None, "the dead worker's stream still counts"
                assert (await relay(fourth)).account != two.accounts[0]
            simulator.state.open_gate("door")
            assert (await held[1]).code is None
        assert simulator.state.accounts["acct-0"].counts["status_429"] == 1
        two.process.terminate()
        assert await two.ended() == 0
        checked = await two.cli("audit", "verify", "--json")
        assert checked.code == 0, checked.out + checked.err


async def test_workers_end_when_the_supervisor_is_killed(tmp_path: Path, simulator: RunningSimulator) -> None:
    """kill -9 of the supervisor: both workers are gone within seconds and the port is free."""
    async with serving(tmp_path, simulator, "--workers", "2") as two:
        pids = list(two.worker_pids.values())
        url = two.url
        two.process.kill()
        await until(lambda: not any(runs(pid) for pid in pids), 5)
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}/healthz")


def _died(one: Serving, times: int) -> bool:
    return len(one.logged("worker_died")) == times


def _replaced(one: Serving, pid: int) -> bool:
    return one.worker_pids[0] != pid


async def test_a_worker_that_dies_again_and_again_waits_longer_each_time(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """Three early deaths: half a second, one, two; the other worker never stops serving."""
    async with serving(tmp_path, simulator, "--workers", "2") as two, two.client_of(1) as steady:
        for death in range(3):
            pid = two.worker_pids[0]
            os.kill(pid, signal.SIGKILL)
            await until(partial(_died, two, death + 1), 3)
            assert (await relay(steady)).code is None
            await until(partial(_replaced, two, pid), 6)
        delays = [(record["worker"], record["restart_in_s"]) for record in two.logged("worker_died")]
        assert delays == [(0, 0.5), (0, 1.0), (0, 2.0)]


async def test_nothing_secret_is_in_the_arguments_or_the_environment_of_a_worker(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """A vault key from the environment reaches workers by a pipe: what /proc shows of them does not hold it."""
    vault_key = "c2l4dGVlbiBieXRlcyBhbmQgc2l4dGVlbiBtb3JlISE="
    os.environ["CODEX_RELAY_VAULT__KEY"] = vault_key
    try:
        async with serving(tmp_path, simulator, "--workers", "2", vault={"provider": "env"}) as two:
            async with two.client() as client:
                assert (await relay(client)).code is None
            for pid in two.worker_pids.values():
                shown = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
                assert b"PROMETHEUS_MULTIPROC_DIR" in shown
                assert vault_key[:12].encode() not in shown
                assert two.key.encode() not in shown
    finally:
        del os.environ["CODEX_RELAY_VAULT__KEY"]


async def test_the_share_of_an_accounts_streams_sums_up_over_workers(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """per_account_concurrency 2 over two workers: each runs one, and no account ever has three."""
    router = {"per_account_concurrency": 2, "wait_max_s": 0.0}
    async with (
        serving(tmp_path, simulator, "--workers", "2", accounts=1, router=router) as two,
        two.client_of(0) as a,
        two.client_of(0) as b,
        two.client_of(1) as c,
        two.client_of(1) as d,
    ):
        running = [asyncio.create_task(relay(client, "sim:gate=door")) for client in (a, c)]
        await until(lambda: simulator.state.counts["at_gate_door"] == 2)
        for client in (b, d):
            refused = await relay(client)
            assert (refused.status, refused.error["code"]) == (503, "overloaded")
        simulator.state.open_gate("door")
        assert [(await task).code for task in running] == [None, None]
    assert simulator.state.accounts["acct-0"].most_streams == 2


async def test_the_run_folder_goes_with_the_run(tmp_path: Path, simulator: RunningSimulator) -> None:
    """What workers count in lies in a folder that nobody else may read, and is gone after an orderly end."""
    async with serving(tmp_path, simulator, "--workers", "2") as two:
        pid = two.worker_pids[0]
        folder = Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2].decode())
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "counters.db").exists()
        two.process.terminate()
        assert await two.ended() == 0
        assert not folder.exists()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["relay.db", "relay.db.spool", "vault.key"]


def test_the_delay_of_a_restart_doubles_for_the_young_and_starts_anew_for_the_old(tmp_path: Path) -> None:
    """Nothing is waited for after ten good seconds; the longest delay is thirty seconds."""
    clock = FakeClock()
    supervisor = Supervisor(settings_for(tmp_path, "http://127.0.0.1:9/backend-api/codex"), socket.socket(), clock)
    supervisor.sock.close()
    delays = [supervisor._delay_s(0, 1.0) for _ in range(9)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert supervisor._delay_s(1, 1.0) == 0.5
    assert supervisor._delay_s(0, 10.0) == 0.0
    assert supervisor._delay_s(0, 1.0) == 0.5
