"""The tasks' API through the front door of a whole gateway: on, with uploads checked for real; and off."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import httpx
import pytest

from gateway.app import TASK_DOORS
from ops.embedded import embedded_gateway
from ops.house_tasks import notify, results_of, task_service
from ops.simulator import running_simulator
from tests.flow.stage import settings_for
from tests.gateway.tasks.worker import DIFF, PlayedWorker

pytestmark = pytest.mark.slow


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "hello\n")
    return file.getvalue()


async def test_from_an_upload_to_a_diff_behind_a_link(tmp_path: Path) -> None:
    async with running_simulator() as sim:
        settings = settings_for(tmp_path, sim.base_url, sandbox={"enabled": True, "folder": str(tmp_path / "s")})
        async with embedded_gateway(settings) as gateway:
            secret, _ = await gateway.make_key(scopes=frozenset({"tasks"}))
            headers = {"authorization": f"Bearer {secret.reveal()}"}
            async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as client:
                kind = {"content-type": "application/zip"}
                evil = await client.post("/v1/uploads", content=zipped("../../a.txt"), headers=kind)
                assert evil.status_code == 400, evil.text
                upload = (await client.post("/v1/uploads", content=zipped("a.txt"), headers=kind)).json()
                assert upload["files"] == 1
                made = (await client.post("/v1/environments", json={"label": "plain"})).json()
                body = {"environment": made["id"], "prompt": "fix", "source": {"upload": upload["id"]}}
                task = (await client.post("/v1/tasks", json=body)).json()
                store, results = gateway.gateway.store, results_of(settings)
                service = task_service(settings, store, results, gateway.clock, None)
                worker = PlayedWorker(store.task_store(), results, service)
                await worker.lease()
                ended = await worker.end()
                notify(None, "task.ready", ended)
                path = f"/v1/tasks/{task['id']}"
                assert (await client.get(f"{path}/diff")).text == DIFF
                async with client.stream("GET", f"{path}/log", headers={"accept": "text/event-stream"}) as live:
                    text = (await live.aread()).decode()
                assert text.endswith('event: end\ndata: {"state":"ready"}\n\n')
                link = (await client.post(f"{path}/share", json={"expires_in_s": 60})).json()["url"]
            async with httpx.AsyncClient(trust_env=False) as nobody:
                assert (await nobody.get(f"{link}/diff")).text == DIFF
                assert (await nobody.get(f"{gateway.url}{path}")).status_code == 401


async def test_without_a_sandbox_there_is_nothing(tmp_path: Path) -> None:
    async with running_simulator() as sim, embedded_gateway(settings_for(tmp_path, sim.base_url)) as gateway:
        secret, _ = await gateway.make_key(scopes=frozenset({"tasks"}))
        headers = {"authorization": f"Bearer {secret.reveal()}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, trust_env=False) as client:
            for door in TASK_DOORS:
                assert [(await client.get(door)).status_code, (await client.get(f"{door}/x")).status_code] == [404, 404]
