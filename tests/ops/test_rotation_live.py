"""Keys change under live traffic: two workers, no failed request, no row left under the old key, no restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from ops.simulator import SimulatorConfig, running_simulator
from tests.ops.processes import COMMAND, Serving, relay, serving, until

pytestmark = pytest.mark.slow


class Traffic:
    """Requests on both workers, one after another each, until told to end; every answer is kept."""

    def __init__(self, gateway: Serving) -> None:
        self._gateway = gateway
        self._stop = asyncio.Event()
        self.codes: list[str | None] = []

    async def __aenter__(self) -> Traffic:
        await until(lambda: len(self._gateway.worker_pids) == 2)
        async with contextlib.AsyncExitStack() as stack:
            # only one client may be looking for its worker: the others are stopped while it does
            clients = [await stack.enter_async_context(self._gateway.client_of(index)) for index in (0, 0, 1, 1)]
            self._clients = stack.pop_all()
        self._tasks = [asyncio.create_task(self._ask(client)) for client in clients]
        await self.more(8)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._clients.aclose()

    async def more(self, count: int) -> None:
        """Waits for ``count`` further answers."""
        until = len(self.codes) + count
        while len(self.codes) < until:
            await asyncio.sleep(0.02)

    async def _ask(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            self.codes.append((await relay(client)).code)


async def vault(gateway: Serving, *words: str) -> dict[str, object]:
    ran = await gateway.cli("vault", *words, "--json")
    assert ran.code == 0, ran.err
    found: dict[str, object] = json.loads(ran.out)
    return found


@pytest.mark.timeout(120)
async def test_a_rotation_under_traffic_fails_no_request_and_leaves_no_row_behind(tmp_path: Path) -> None:
    """Rotate twice and retire twice while both workers relay, refresh and audit; then start afresh on the last key."""
    async with running_simulator(SimulatorConfig()) as simulator, serving(tmp_path, simulator, "--workers", "2") as two:
        await until(lambda: len(two.worker_pids) == 2)
        pids = dict(two.worker_pids)
        async with Traffic(two) as traffic:
            for _ in range(2):
                done = await vault(two, "rotate")
                assert done["left"] == 0
                assert done["resumed"] is False
                await traffic.more(10)
                account = json.loads((await two.cli("accounts", "list", "--json")).out)[0]["id"]
                assert (await two.cli("accounts", "refresh", account)).code == 0
                await traffic.more(10)
                status = await vault(two, "status")
                assert status["left"] == 0
                assert status["rotation"] is None
                await vault(two, "retire", str(done["from"]), "--yes")
                await traffic.more(10)
                keys = (await vault(two, "status"))["keys"]
                assert isinstance(keys, list)
                assert [one["role"] for one in keys] == ["seals"]
            answers = len(traffic.codes)
        assert set(traffic.codes) == {None}
        assert answers > 60
        assert two.worker_pids == pids
        assert two.logged("worker_died") == []
        assert two.logged("store_unavailable") == []
        assert two.logged("vault_keys_unreadable") == []
        two.process.terminate()
        assert await two.ended() == 0
        assert (await two.cli("audit", "verify", "--json")).code == 0


@pytest.mark.timeout(120)
async def test_a_rotation_that_is_killed_again_and_again_under_traffic_is_ended_by_the_last(tmp_path: Path) -> None:
    async with running_simulator(SimulatorConfig()) as simulator, serving(tmp_path, simulator, "--workers", "2") as two:
        old = (await vault(two, "status"))["keys"]
        assert isinstance(old, list)
        async with Traffic(two) as traffic:
            for pause_s in (0.7, 0.8, 0.9, 1.0, 1.1):
                process = await asyncio.create_subprocess_exec(
                    *COMMAND, "vault", "rotate", cwd=two.folder, env={**os.environ},
                    stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                await asyncio.sleep(pause_s)
                if process.returncode is None:
                    process.send_signal(signal.SIGKILL)
                await process.wait()
                await traffic.more(4)
            done = await vault(two, "rotate")
            assert done["left"] == 0
            await traffic.more(8)
            status = await vault(two, "status")
            assert status["left"] == 0
            assert status["rotation"] is None
        assert set(traffic.codes) == {None}
