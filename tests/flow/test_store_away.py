"""The relay goes on when its store does not, says so, and forgets nothing of it (B56, A24)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.flow.stage import Stage, stage
from tests.ops.processes import command, write_config

LOCK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
HURRIED = {"busy_timeout_s": 0.2}


@contextlib.asynccontextmanager
async def locked(path: Path) -> AsyncIterator[None]:
    """Another process holds the database's write lock while the block runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LOCK, str(path), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"locked\n"
        yield
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def scene_of(
    folder: Path, simulator: RunningSimulator, accounts: int = 2, **sections: Any
) -> AsyncIterator[Stage]:
    documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(accounts)]
    sections = {"store": {"url": f"sqlite:///{folder}/relay.db", **HURRIED}, **sections}
    async with stage(folder, simulator.base_url, documents=documents, **sections) as scene:
        yield scene


@pytest.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig()) as one:
        yield one


async def ready(scene: Stage) -> tuple[int, str]:
    """Status and reason of /readyz."""
    answer = await scene.client.get("/readyz")
    return answer.status_code, answer.json().get("reason", "")


async def hot_store_degraded(scene: Stage) -> int:
    """Read without making the gateway look at its store, as a scraper would."""
    lines = (await scene.client.get("/metrics")).text.splitlines()
    return int(float(next(line for line in lines if line.startswith("relay_hot_store_degraded ")).split()[1]))


async def ready_again(scene: Stage) -> None:
    for _ in range(100):
        if (await ready(scene))[0] == 200:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(await ready(scene))


@pytest.mark.slow
@pytest.mark.fault("B56")
async def test_a_locked_database_stops_no_request_and_is_caught_up_with_afterwards(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """While another process holds the lock requests are served, unready is said with the reason, the command line
    fails with one line; afterwards the rest that was found and every audit record are in the store."""
    async with scene_of(tmp_path, simulator) as scene:
        origin = simulator.url
        write_config(
            tmp_path,
            f"{origin}/backend-api/codex",
            store={"url": f"sqlite:///{tmp_path}/relay.db", **HURRIED},
            vault={"key_file": str(tmp_path / "vault.key")},
        )
        assert (await scene.relay()).code is None
        async with locked(tmp_path / "relay.db"):
            simulator.state.exhaust("acct-0", resets_in_s=3600)
            answers = [await scene.relay() for _ in range(6)]
            assert {answer.code for answer in answers} == {None}
            assert max(answer.took_s for answer in answers) < 1.0
            status, reason = await ready(scene)
            assert status == 503
            assert reason.startswith("store_unavailable")
            assert (await scene.client.get("/healthz")).status_code == 200
            assert scene.state(0) == "cooling"
            await asyncio.sleep(0.6)  # the background meets the lock
            made = await command(tmp_path, "keys", "create", "--tenant", "team")
            assert made.code == 1
            assert "locked" in made.err
            assert "Traceback" not in made.err
            assert len(made.lines) == 1
            assert await hot_store_degraded(scene) == 1
        await ready_again(scene)
        assert scene.state(0) == "cooling"
        await asyncio.sleep(0.7)
        assert await hot_store_degraded(scene) == 0
        told = await scene.gateway.gateway.store.changes(0)
        assert [record.account_id for record in told.health if record.until_s > 0] == [scene.accounts[0].id]
        records = await scene.gateway.gateway.store.search_audit(action="request.responses")
        assert len(records) == 7
        assert (await scene.gateway.gateway.store.verify_audit())[1] is None
        assert (await command(tmp_path, "keys", "create", "--tenant", "team")).code == 0


@pytest.mark.slow
async def test_a_full_audit_queue_refuses_requests_when_nothing_may_be_lost(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """Under the policy refuse: 503 when the queue is full, health and metrics answer on, and work again after it."""
    audit = {"queue": 100, "on_full": "refuse", "flush_ms": 50}
    async with scene_of(tmp_path, simulator, audit=audit) as scene:
        assert (await scene.relay()).code is None
        async with locked(tmp_path / "relay.db"):
            statuses = [(await scene.client.get("/v1/models")).status_code for _ in range(105)]
            assert statuses == [200] * statuses.count(200) + [503] * statuses.count(503)
            assert 95 <= statuses.count(200) <= 101
            refused = await scene.relay()
            assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
            assert "retry-after" in refused.headers
            assert (await scene.client.get("/healthz")).status_code == 200
            assert (await scene.client.get("/metrics")).status_code == 200
        await ready_again(scene)
        for _ in range(100):
            if (answer := await scene.relay()).status == 200:
                break
            await asyncio.sleep(0.05)
        assert answer.code is None
        assert await scene.metric("relay_shed_total", reason="audit_full") >= 5
        assert await scene.metric("relay_audit_dropped_total") == 0
        kept = await scene.gateway.gateway.store.search_audit(action="request.models")
        assert len(kept) == statuses.count(200)


@pytest.mark.slow
async def test_a_full_audit_queue_that_may_drop_counts_what_it_drops(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """Under the policy drop every request is served, and what was not recorded is a number in the metrics."""
    async with scene_of(tmp_path, simulator, audit={"queue": 100, "flush_ms": 50}) as scene:
        async with locked(tmp_path / "relay.db"):
            statuses = [(await scene.client.get("/v1/models")).status_code for _ in range(120)]
        assert statuses == [200] * 120
        await ready_again(scene)
        dropped = await scene.metric("relay_audit_dropped_total")
        kept = await scene.gateway.gateway.store.search_audit(action="request.models")
        assert 0 < dropped < 120
        assert dropped + len(kept) <= 120


@pytest.mark.slow
async def test_an_audit_log_that_takes_nothing_makes_the_gateway_unready(
    tmp_path: Path, simulator: RunningSimulator
) -> None:
    """The log's sealed head was altered: requests go on, /readyz names the audit log."""
    async with scene_of(tmp_path, simulator, audit={"flush_ms": 20}) as scene:
        assert (await scene.relay()).code is None
        await asyncio.sleep(0.3)
        db = sqlite3.connect(tmp_path / "relay.db", isolation_level=None)
        db.execute("UPDATE audit_head SET seq = seq + 1, sealed = x'00'")
        db.close()
        assert (await scene.relay()).code is None
        await asyncio.sleep(0.3)
        status, reason = await ready(scene)
        assert (status, reason.partition(":")[0]) == (503, "audit_unavailable")
        assert (await scene.relay()).code is None


async def test_a_dead_upstream_leaves_the_gateway_ready(tmp_path: Path) -> None:
    """The relay answers fast by itself, so a balancer that took it out would only make things worse."""
    async with stage(tmp_path, "http://127.0.0.1:9/backend-api/codex") as scene:
        answer = await scene.relay()
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        assert await ready(scene) == (200, "")
        assert (await scene.client.get("/healthz")).json() == {"status": "ok"}


async def test_a_gateway_on_its_way_out_is_alive_and_not_ready(tmp_path: Path, simulator: RunningSimulator) -> None:
    """Draining: 503 with the reason on /readyz, 200 on /healthz, while the door is still open."""
    async with scene_of(tmp_path, simulator, server={"port": 0, "drain_delay_s": 5}) as scene:
        scene.gateway.stop.drain.set()
        await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0.01)
            if (await ready(scene))[0] == 503:
                break
        assert await ready(scene) == (503, "draining")
        assert (await scene.client.get("/healthz")).status_code == 200
        assert (await scene.relay()).code is None


@pytest.mark.slow
async def test_a_reset_that_comes_early_is_noticed(tmp_path: Path, simulator: RunningSimulator) -> None:
    """An account that rests for an hour serves again seconds after the upstream's usage report says that it may."""
    async with scene_of(tmp_path, simulator, accounts=1, router={"wait_max_s": 0, "probe_interval_s": 0.5}) as scene:
        simulator.state.exhaust("acct-0", resets_in_s=3600)
        refused = await scene.relay()
        assert refused.error["code"] == "usage_limit_reached"
        await asyncio.sleep(2.5)
        assert scene.state(0) == "cooling", "a report that still says no ends nothing"
        assert simulator.state.counts["usage"] >= 1
        simulator.state.accounts["acct-0"].primary.used_percent = 10.0
        for _ in range(100):
            if scene.state(0) == "ok":
                break
            await asyncio.sleep(0.05)
        assert scene.state(0) == "ok"
        assert (await scene.relay()).code is None
