"""From a container's socket through to the upstream: a task's call gets there, and nothing else does."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ops.clock import SystemClock
from sandbox.egress import EgressServer, GatewayAddress
from tests.fakes.faulty import FaultyUpstream
from tests.flow.stage import TEXT, Stage, parse_events, stage
from tests.flow.test_task_keys import minted, spends


@dataclass
class Inside:
    """What a container sees: one socket."""

    scene: Stage
    upstream: FaultyUpstream
    client: httpx.AsyncClient


@contextlib.asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[Inside]:
    async with FaultyUpstream() as upstream, stage(folder, upstream.base_url) as scene:
        path = folder / "gw" / "gw.sock"
        server = EgressServer(path, GatewayAddress.of(scene.gateway.url), SystemClock(), lambda told: None)
        await server.start()
        no_roots = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = httpx.AsyncHTTPTransport(uds=str(path), verify=no_roots)
        try:
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1:8089", trust_env=False
            ) as client:
                yield Inside(scene, upstream, client)
        finally:
            await server.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_tasks_calls_go_through_on_one_connection(tmp_path: Path, stream: bool) -> None:
    async with inside(tmp_path) as one:
        keys, key_id, headers = await minted(one.scene, 1_000_000)
        for _ in range(3):
            answer = await one.client.post("/v1/responses", json={**TEXT, "stream": stream}, headers=headers)
            assert answer.status_code == 200
            if stream:
                assert parse_events(answer.content)[0][-1].type == "response.completed"
        assert await spends(keys, key_id, 3 * 105)
        long = "x" * 3_000_000
        answer = await one.client.post("/v1/responses", json={**TEXT, "input": long}, headers=headers)
        assert answer.status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/admin/api/keys", "/admin/api/accounts", "/console/", "/readyz"])
async def test_not_even_an_administrators_key_opens_more(tmp_path: Path, path: str) -> None:
    async with inside(tmp_path) as one:
        stolen, _ = await one.scene.gateway.make_key(scopes=frozenset({"admin", "relay", "metrics"}))
        headers = {"authorization": f"Bearer {stolen.reveal()}"}
        assert (await one.scene.client.get(path, headers=headers)).status_code != 403
        answer = await one.client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert "from a container" in answer.json()["error"]["message"]


async def test_a_key_is_dead_inside_as_well_when_its_task_has_ended(tmp_path: Path) -> None:
    async with inside(tmp_path) as one:
        keys, key_id, headers = await minted(one.scene, 1_000_000)
        assert (await one.client.post("/v1/responses", json=TEXT, headers=headers)).status_code == 200
        await keys.end(key_id)
        assert (await one.client.post("/v1/responses", json=TEXT, headers=headers)).status_code == 401
        assert one.upstream.requests == 1
        assert (await one.client.get("/healthz")).status_code == 200
