"""The Redis store as a whole: what is sealed, what is told at the start, what a full, slow or closed one does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import SealBroken, StoreUnavailable, StoreUnusable
from store.records import Document
from tests.fakes.records import make_account, make_audit, make_credential, make_health, make_placement
from tests.redis_server import RedisServer, redis_server
from tests.store.redis_rig import PREFIX, line_to, opened, store_on

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def test_no_token_and_no_body_rests_in_plain(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        await store.add_account(make_account(), make_credential())
        await store.sealed_value("pepper", b"the pepper itself")
        await store.add_document(Document("thing", "one", b"the body itself"))
    data = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert b"label of acct-1" in data
    for secret in (b"access-of-acct-1", b"refresh-of-acct-1", b"identity-of-acct-1", b"pepper itself", b"body itself"):
        assert secret not in data


async def test_a_ciphertext_opens_in_its_own_row_only(server: RedisServer) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        table = f"{{{PREFIX}}}:d:credentials"
        for name in ("a", "b"):
            await store.add_account(make_account(name), make_credential(name))
        await link.call("HSET", table, "b", await link.call("HGET", table, "a"))
        with pytest.raises(SealBroken):
            await store.credential("b")
        assert await store.credential("a") == make_credential("a")


@pytest.mark.fault("B54")
async def test_a_full_server_refuses_writes_and_goes_on_reading(server: RedisServer) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        await store.add_account(make_account(), make_credential())
        await link.call("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match="memory"):
            await store.check()
        with pytest.raises(StoreUnavailable, match="memory"):
            await store.put_account(make_account(), 1)
        assert await store.accounts() == (make_account(),)
        await link.call("CONFIG", "SET", "maxmemory", "0")
        await store.check()


async def test_a_user_with_the_documented_rights_can_do_everything(server: RedisServer) -> None:
    page = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    (rule,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER relay")]
    async with line_to(server.url) as link:
        await link.call(*rule.replace("PASSWORD", "hunter2").split())
    async with store_on(server.url.replace("redis://", "redis://relay:hunter2@"), prefix="codex-relay") as store:
        await store.add_account(make_account(), make_credential())
        await store.append_audit([make_audit()])
        await store.place([make_placement(expires_at_s=1.0)])
        assert await store.purge() == 1
        await store.publish([make_health()], [])
        assert await store.verify_audit() == (1, None)
        assert len(await store.search_audit(since_s=1.0)) == 1
        assert (await store.sealed_rows().page()).rows
        assert (await store.changes(0)).health == (make_health(),)
    with pytest.raises(StoreUnusable, match="ACL"):
        await opened(server.url.replace("redis://", "redis://relay:hunter2@"), prefix="foreign")


@pytest.mark.fault("B54")
async def test_a_replica_takes_no_writes(server: RedisServer) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        await store.add_account(make_account(), make_credential())
        await link.call("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.check()
        await link.call("REPLICAOF", "NO", "ONE")
        await store.check()


@pytest.mark.fault("B54")
async def test_a_server_that_stands_still_is_unavailable_and_serves_again(server: RedisServer) -> None:
    async with store_on(server.url, timeout_s=0.3) as store:
        server.pause()
        with pytest.raises(StoreUnavailable, match=r"within 0\.3 s"):
            await store.accounts()
        server.go_on()
        assert await store.accounts() == ()


async def test_a_cancelled_write_is_whole_or_absent(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        for number in range(12):
            name = f"a{number}"
            call = asyncio.create_task(store.add_account(make_account(name), make_credential(name)))
            for _ in range(number):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await asyncio.sleep(0.05)
        accounts = await store.accounts()
        for account in accounts:
            assert await store.credential(account.id) == make_credential(account.id)
        there = {account.id for account in accounts}
        for name in {f"a{number}" for number in range(12)} - there:
            assert await store.credential(name) is None


async def test_a_purge_of_many_goes_in_steps(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        for _ in range(3):
            await store.place([make_placement(b"%d" % n, expires_at_s=1.0) for n in range(1500)])
        assert await store.purge() == 1500
        assert await store.purge() == 0


async def test_the_start_warns_of_a_server_that_may_lose_records(capfd: pytest.CaptureFixture[str]) -> None:
    with redis_server("--appendonly", "no", password="hunter2") as server:
        await (await opened(server.url, warn=True)).close()
    out, err = capfd.readouterr()
    assert "store_may_lose_records" in out + err
    assert "set appendonly yes" in out + err
    assert "hunter2" not in out + err
