"""A task's key through the front door: within its budget, on one path, and not a moment longer than its task."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from auth.keys import PEPPER_BYTES, PEPPER_NAME, KeyRing
from auth.task_keys import TaskKeys
from store.records import Tenant
from tests.fakes import faulty_modes as modes
from tests.fakes import faulty_streams as streams
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import line
from tests.flow.stage import TEXT, Stage, stage

CALL = 105
"""What the upstream counts for one call."""
ELSEWHERE = (
    ("POST", "/backend-api/codex/responses"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/gpt-5.5"),
    ("GET", "/backend-api/codex/models"),
    ("GET", "/backend-api/wham/usage"),
    ("GET", "/backend-api/wham/accounts/check"),
    ("GET", "/api/accounts/v1/user-auth-credential/whoami"),
    ("GET", "/metrics"),
    ("GET", "/admin/api/accounts"),
    ("POST", "/admin/api/keys"),
)


async def task_keys(scene: Stage) -> TaskKeys:
    store = scene.gateway.gateway.store
    if not any(one.id == "t1" for one in await store.tenants()):
        await store.add_tenant(Tenant("t1", "team"))
    ring = KeyRing(await store.sealed_value(PEPPER_NAME, bytes(PEPPER_BYTES)))
    return TaskKeys(store, ring, scene.gateway.clock)


async def minted(scene: Stage, budget: int, models: tuple[str, ...] = ()) -> tuple[TaskKeys, str, dict[str, str]]:
    """The keys, one key's id, and the header that carries it."""
    keys = await task_keys(scene)
    secret, key_id = await keys.mint("task-1", 1, "t1", models, budget, 40 * 86_400.0)
    await scene.settled()
    return keys, key_id, {"authorization": f"Bearer {secret.reveal()}"}


async def spends(keys: TaskKeys, key_id: str, tokens: int) -> bool:
    """Whether the key comes to have spent this; it is written down just after the answer's last byte."""
    for _ in range(100):
        if await keys.spent(key_id) == tokens:
            return True
        await asyncio.sleep(0.01)
    return False


async def ask(scene: Stage, headers: dict[str, str], *, stream: bool = True) -> httpx.Response:
    return await scene.client.post("/v1/responses", json={**TEXT, "stream": stream}, headers=headers)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_over_the_budget_never_reaches_the_upstream(tmp_path: Path, stream: bool) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        keys, key_id, headers = await minted(scene, 2 * CALL)
        for n in (1, 2):
            assert (await ask(scene, headers, stream=stream)).status_code == 200
            assert await spends(keys, key_id, n * CALL)
        refused = await ask(scene, headers, stream=stream)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exhausted")
        assert "retry-after" not in refused.headers
        assert upstream.requests == 2
        assert (await scene.relay()).status == 200, "others are not touched"


async def test_calls_at_once_spend_exactly_what_they_used(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        keys, key_id, headers = await minted(scene, 2_000_000)
        answers = await asyncio.gather(*(ask(scene, headers) for _ in range(12)))
        assert {one.status_code for one in answers} == {200}
        assert await spends(keys, key_id, 12 * CALL)


async def test_calls_at_once_beyond_the_budget_are_refused_before_they_begin(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        upstream.default = streams.drip(every_s=0.001, after=3)
        _, _, headers = await minted(scene, 100_000)
        answers = await asyncio.gather(*(ask(scene, headers) for _ in range(6)))
        codes = sorted(one.status_code for one in answers)
        assert codes == [200, 200, 429, 429, 429, 429], "one whole reserve, and one of what was left"
        assert upstream.requests == 2
        assert all(one.headers["retry-after"] for one in answers if one.status_code == 429)


async def test_a_call_that_the_upstream_refused_costs_nothing(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, router={"max_attempts": 1}) as scene:
        upstream.default = modes.close_pre()
        keys, key_id, headers = await minted(scene, 1000)
        assert (await ask(scene, headers)).status_code == 502
        assert await spends(keys, key_id, 0)


async def test_a_task_key_opens_one_path_and_no_other(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, metrics={"require_key": True}) as scene:
        _, _, headers = await minted(scene, 1000)
        for method, path in ELSEWHERE:
            body = TEXT if method == "POST" else None
            answer = await scene.client.request(method, path, headers=headers, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden"), path
        assert upstream.requests == 0


async def test_a_task_key_is_for_its_models_alone(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        _, _, headers = await minted(scene, 1000, models=("gpt-5.1-codex",))
        assert (await ask(scene, headers)).status_code == 403
        assert upstream.requests == 0


async def test_a_key_after_the_end_of_its_task_is_no_key(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        keys, key_id, headers = await minted(scene, 1000)
        await keys.end(key_id)
        for told in (False, True):  # at once by its document, and then by the directory
            if told:
                await scene.settled()
            answer = await ask(scene, headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert upstream.requests == 0


async def test_a_stream_ends_with_the_key_of_its_task_and_is_paid_for(tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        FaultyUpstream() as upstream,
        stage(tmp_path, upstream.base_url, clock=clock) as scene,
        line(scene) as client,
    ):
        upstream.default = streams.idle(after=5)
        keys, key_id, headers = await minted(scene, 1000)
        client.key = headers["authorization"].removeprefix("Bearer ")
        await client.send(client.request())
        await upstream.until(lambda: upstream.open_streams == 1)
        await client.until(b"\r\n\r\n")
        await keys.end(key_id)
        for _ in range(30):
            clock.advance(1.0)
            await asyncio.sleep(0.005)
        await scene.settled()
        body = await client.until(b"\r\n0\r\n\r\n")
        assert b'"invalid_api_key"' in body
        assert upstream.open_streams == 0
        assert await spends(keys, key_id, 1000), "nobody counted it: it has used what was set aside"
