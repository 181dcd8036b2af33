"""The simulator on sockets: in a test's loop, with TLS, and as a process of its own."""

from __future__ import annotations

import asyncio
import signal
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
@pytest.mark.parametrize("tls", [False, True])
async def test_serve_runs_as_a_process_says_where_and_ends_by_signal(tls: bool) -> None:
    code = f"from ops.simulator import serve; serve('127.0.0.1', 0, {tls})"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        cwd=Path(__file__).parents[2],
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        said: dict[str, str] = {}
        async with asyncio.timeout(30):
            while ("ca_file" if tls else "an account") not in said:
                name, _, value = (await process.stderr.readline()).decode().strip().partition("  ")
                said[name] = value.strip()
        verify = ssl.create_default_context(cafile=said["ca_file"]) if tls else True
        async with httpx.AsyncClient(trust_env=False, verify=verify) as client:
            made = (await client.post(said["simulator"] + "/simulator/accounts")).json()
        assert made["auth"]["tokens"]["account_id"] == made["account_id"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert not tls or not Path(said["ca_file"]).exists()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
