"""The simulator on sockets: in a test's loop, with TLS, and as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import httpx
import pytest

from ops.simulator import running_simulator
from tests.simulator.conftest import Peer


async def test_tls_names_what_clients_connect_to(http: httpx.AsyncClient) -> None:
    async with running_simulator(tls=True) as sim:
        assert sim.ca_pem is not None
        context = ssl.create_default_context(cadata=sim.ca_pem.decode())
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            peer = Peer(client, sim, sim.state.new_account())
            assert (await peer.ask("hi")).status_code == 200
            answer = await client.get(f"https://localhost:{sim.port}/simulator/counters")
            assert answer.status_code == 200
        with pytest.raises(httpx.ConnectError):
            await http.get(f"{sim.url}/simulator/counters")


async def test_leaving_the_block_ends_what_hangs(http: httpx.AsyncClient) -> None:
    async with running_simulator() as sim:
        peer = Peer(http, sim, sim.state.new_account())
        asking = asyncio.create_task(peer.ask("sim:hang"))
        await sim.state.until(lambda: sim.state.counts["hanging"] == 1)
    with pytest.raises(httpx.HTTPError):
        await asking
    with pytest.raises(httpx.ConnectError):
        await http.get(f"{sim.url}/")


async def test_two_simulators_share_nothing(http: httpx.AsyncClient) -> None:
    async with running_simulator() as one, running_simulator() as two:
        peer = Peer(http, one, one.state.new_account())
        assert one.port != two.port
        assert (await peer.ask("hi")).status_code == 200
        assert two.state.counts["responses"] == 0


@pytest.mark.slow
async def test_serve_runs_as_a_process_and_ends_by_signal(http: httpx.AsyncClient, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from ops.simulator import serve; serve('127.0.0.1', {port})"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await http.get(f"http://127.0.0.1:{port}/simulator/counters")
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        assert answer.json()["streams"] == 0
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() in {0, -signal.SIGTERM}
    finally:
        if process.returncode is None:
            process.kill()
