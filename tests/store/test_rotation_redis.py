"""The same rotation over a store in Redis: everything under the new key, read as before, and the old key retired."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.redis_store import RedisStore
from store.rotation import Rotator
from store.vault import Vault
from tests.redis_server import redis_server
from tests.store.sealed_rig import QUICK, fill, key_file, read_everything

pytestmark = pytest.mark.slow


async def test_a_store_in_redis_comes_under_a_new_key_while_another_process_reads(tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    with redis_server() as server:
        ours, worker = [
            await RedisStore.open(server.url, Vault(keys.load(), keys, QUICK), prefix="rotation", timeout_s=5.0)
            for _ in range(2)
        ]
        await fill(ours)
        old = keys.load().current_id
        rotator = Rotator(ours, keys, QUICK, "test")
        done = await rotator.rotate(keys)
        assert done.sweep is not None
        assert (done.sweep.left, done.sweep.broken) == (0, ())
        assert done.sweep.rewrapped > 10
        await read_everything(worker)
        found = await rotator.census()
        assert found.under(old) == 0
        await rotator.retire(keys, old)
        await read_everything(worker)
        await read_everything(ours)
        for store in (ours, worker):
            await store.close()
