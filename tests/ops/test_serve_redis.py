"""The whole gateway with its durable records in Redis: two workers start, live through a flush, and end well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from store.redis_link import RedisLink
from tests.redis_server import free_port, redis_server

pytestmark = pytest.mark.slow


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def reaches(url: str, wanted: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if status(url) == wanted:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.fault("B54")
async def test_workers_over_redis_start_and_live_through_a_flush(tmp_path: Path) -> None:
    with redis_server(password="hunter2") as server:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEX_RELAY")}
        env = kept | {"CODEX_RELAY_STORE__URL": server.url, "CODEX_RELAY_VAULT__KEY_FILE": str(tmp_path / "vault.key")}
        command = [sys.executable, "-m", "ops.cli"]
        env["PYTHONPATH"] = str(Path(__file__).parents[2])
        subprocess.run([*command, "keys", "list"], env=env, cwd=tmp_path, check=True, capture_output=True, timeout=30)
        origin = f"http://127.0.0.1:{free_port()}"
        log = tmp_path / "log"
        with log.open("wb") as out:
            serve = [*command, "serve", "--port", origin.rpartition(":")[2], "--workers", "2"]
            process = subprocess.Popen(serve, env=env, cwd=tmp_path, stdout=out, stderr=out)
        try:
            assert reaches(origin + "/readyz", 200), log.read_text()[-2000:]
            link = RedisLink(server.url, name="test", timeout_s=2.0)
            await link.call("FLUSHALL")
            assert reaches(origin + "/readyz", 503)
            assert status(origin + "/healthz") == 200
            assert await link.call("DBSIZE") == 0  # nobody begins a store over the lost one
            await link.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        assert "hunter2" not in log.read_text()
