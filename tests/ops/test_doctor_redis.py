"""What the doctor says of a Redis that holds the durable records, and of one that would lose them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.clock import SystemClock
from ops.doctor import check_vault_key, check_workers, examine_store
from ops.doctor_redis import check_hot
from ops.findings import Finding, Status
from ops.sections.keep import StoreSettings
from ops.sections.relay import ServerSettings
from ops.settings import Settings
from store.keyfile import FileKeys
from store.open import open_store, prepare_key
from store.redis_link import RedisLink
from tests.redis_server import free_port, redis_server

pytestmark = pytest.mark.slow


async def examined(url: str, keys: FileKeys) -> dict[str, Finding]:
    return {found.name: found for found in await examine_store(StoreSettings(url=url), keys, SystemClock())}


async def test_a_redis_that_keeps_is_well_and_nothing_is_begun(tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "vault.key")
    with redis_server() as server:
        before = await examined(server.url, keys)
        assert before["store"].status is Status.WARN
        assert "begins it" in before["store"].fix
        link = RedisLink(server.url, name="test", timeout_s=1.0)
        assert await link.call("DBSIZE") == 0
        await link.close()
        prepare_key(keys, server.url)
        await (await open_store(server.url, keys=keys, busy_timeout_s=2.0)).close()
        found = await examined(server.url, keys)
        assert found["redis keeps"].status is Status.OK
        assert found["store"].status is Status.OK
        keys = FileKeys(tmp_path / "other.key")
        keys.create()
        assert (await examined(server.url, keys))["store"].status is Status.FAIL


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--appendonly", "no"), "appendonly yes"),
        (("--appendfsync", "no"), "appendfsync"),
        (("--appendfsync", "everysec"), "appendfsync always"),
        (("--maxmemory-policy", "allkeys-lru"), "noeviction"),
    ],
)
async def test_a_redis_that_may_lose_records_is_warned_of(tmp_path: Path, options: tuple[str, str], word: str) -> None:
    with redis_server(*options) as server:
        found = (await examined(server.url, FileKeys(tmp_path / "vault.key")))["redis keeps"]
    assert found.status is Status.WARN
    assert word in found.fix


async def test_what_may_not_be_asked_is_said_to_be_unknown(tmp_path: Path) -> None:
    with redis_server("--rename-command", "CONFIG", "", password="hunter2") as server:
        found = (await examined(server.url, FileKeys(tmp_path / "vault.key")))["redis keeps"]
    assert found.status is Status.WARN
    assert "could not be asked" in found.message
    assert "hunter2" not in found.message


async def test_a_redis_that_is_gone_is_a_failure_without_the_password(tmp_path: Path) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    found = (await examined(url, FileKeys(tmp_path / "vault.key")))["store"]
    assert found.status is Status.FAIL
    assert "hunter2" not in found.message + found.fix
    bad = (await examined("redis://:hunter2@/0?x=1", FileKeys(tmp_path / "vault.key")))["store"]
    assert bad.status is Status.FAIL


def test_workers_may_share_a_redis_and_it_needs_a_key(tmp_path: Path) -> None:
    store = StoreSettings(url="redis://:hunter2@host/0")
    finding = check_workers(Settings(server=ServerSettings(workers=4), store=store))
    assert finding.status is Status.OK
    assert "hunter2" not in finding.message
    assert check_vault_key(store, FileKeys(tmp_path / "vault.key")).status is Status.WARN


async def test_a_hot_store_that_answers_is_well_and_one_that_is_gone_is_a_warning() -> None:
    clock = SystemClock()
    assert await check_hot(StoreSettings(), clock) is None
    with redis_server() as server:
        found = await check_hot(StoreSettings(hot_url=server.url, redis_timeout_ms=5000), clock)
        assert found is not None
        assert found.status is Status.OK
    gone = await check_hot(StoreSettings(hot_url=f"redis://:s3cret@127.0.0.1:{free_port()}"), clock)
    assert gone is not None
    assert gone.status is Status.WARN
    assert "s3cret" not in str(gone)
    wrong = await check_hot(StoreSettings(hot_url="http://x"), clock)
    assert wrong is not None
    assert wrong.status is Status.FAIL


async def test_a_hot_store_that_is_slow_is_a_warning() -> None:
    ticks = iter((0.0, 0.09))

    class Slow(SystemClock):
        def monotonic_s(self) -> float:
            return next(ticks)

    with redis_server() as server:
        found = await check_hot(StoreSettings(hot_url=server.url), Slow())
    assert found is not None
    assert (found.status, "90 ms" in found.message) == (Status.WARN, True)
