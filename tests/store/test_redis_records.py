"""One atomic step, a server that lost what it had, and one that answers badly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from store.errors import Conflict, StoreError, StoreUnavailable
from store.records import Secret
from store.redis_link import RedisLink
from store.redis_records import RedisRecords
from store.refresh_rules import token_digest
from tests.fakes.records import make_account, make_credential, make_tenant
from tests.fakes.resp import RespFake
from tests.redis_server import RedisServer, redis_server
from tests.store.redis_rig import PREFIX, line_to, opened, store_on

pytestmark = pytest.mark.slow
DIGEST = token_digest(Secret("refresh-of-acct-1"))
COUNTERS = f"{{{PREFIX}}}:d:counters"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def test_claims_run_by_the_servers_own_clock(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        claim = await store.claim("scope", "one", 60.0)
        assert claim is not None
        assert abs(claim.expires_at_s - 60.0 - time.time()) < 5.0
        assert await store.claim("scope", "two", 60.0) is None
        assert await store.claim("other", "one", -1.0) is not None
        assert await store.claim("other", "two", 60.0) is not None


async def test_of_many_writers_each_gets_its_turn(server: RedisServer) -> None:
    async with store_on(server.url) as one, store_on(server.url) as two:
        claims = await asyncio.gather(*((one, two)[n % 2].claim(f"scope-{n}", "x", 60.0) for n in range(60)))
        fences = [claim.fence for claim in claims if claim is not None]
        assert len(set(fences)) == 60
        taken = await asyncio.gather(*((one, two)[n % 2].claim("scope", str(n), 60.0) for n in range(40)))
        assert sum(claim is not None for claim in taken) == 1


@pytest.mark.fault("B54")
async def test_a_flushed_server_is_noticed_and_never_looks_like_an_empty_directory(server: RedisServer) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        await store.add_account(make_account(), make_credential())
        await link.call("FLUSHALL")
        for call in (
            store.accounts(), store.credential("acct-1"), store.changes(0), store.check(), store.verify_audit(),
            store.search_audit(), store.sealed_value("a", b"b"), store.add_tenant(make_tenant()),
            store.claim("s", "h", 1.0), store.sealed_rows().page(),
        ):  # fmt: skip
            with pytest.raises(StoreUnavailable, match="lost this store's records"):
                await call
        assert await link.call("DBSIZE") == 0
        other = await opened(server.url)  # a new store: still not ours
        with pytest.raises(StoreUnavailable):
            await store.accounts()
        await other.close()


@pytest.mark.fault("B54")
async def test_a_server_that_lost_its_last_writes_is_noticed_once_and_fences_still_rise(server: RedisServer) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        await store.add_account(make_account(), make_credential())
        before = {key: await link.call("DUMP", key) for key in await link.call("KEYS", "*")}
        revision = (await store.changes(0)).directory_revision
        lost = await store.claim("scope", "one", 60.0)
        await store.add_tenant(make_tenant())
        await link.call("FLUSHALL")
        for key, dump in before.items():
            await link.call("RESTORE", key, 0, dump)
        with pytest.raises(StoreUnavailable, match="has lost its last 2 or more writes"):
            await store.tenants()
        assert await store.tenants() == ()
        again = await store.claim("scope", "two", 60.0)
        assert lost is not None
        assert again is not None
        assert again.fence > lost.fence
        await store.add_tenant(make_tenant())
        assert (await store.changes(0)).directory_revision > revision + 1


@pytest.mark.fault("B55")
async def test_of_two_holders_of_one_claim_the_second_is_refused(server: RedisServer) -> None:
    """As after a split brain: both were told that they hold the claim, under the same fence even."""
    async with store_on(server.url) as one, store_on(server.url) as two, line_to(server.url) as link:
        await one.add_account(make_account(), make_credential())
        first = await one.claim("scope", "one", 60.0)
        assert first is not None
        await link.call("HDEL", f"{{{PREFIX}}}:d:claims", "scope")
        second = await two.claim("scope", "two", 60.0)
        assert second is not None
        with pytest.raises(Conflict):
            await one.begin_refresh("acct-1", first, DIGEST)
        await two.begin_refresh("acct-1", second, DIGEST)
        new = make_credential(refresh_token=Secret("next"))
        await two.finish_refresh(new, second, 1)
        with pytest.raises(Conflict):
            await one.finish_refresh(make_credential(refresh_token=Secret("mine")), first, 1)
        with pytest.raises(Conflict):
            await one.finish_refresh(make_credential(refresh_token=Secret("mine")), second, 1)
        stored = await one.credential("acct-1")
        assert stored is not None
        assert stored.refresh_token == Secret("next")


@pytest.mark.fault("B37")
async def test_an_intent_survives_kill_9_of_the_server(server: RedisServer) -> None:
    async with store_on(server.url) as store:
        await store.add_account(make_account(), make_credential())
        claim = await store.claim("scope", "one", 60.0)
        assert claim is not None
        begun = await store.begin_refresh("acct-1", claim, DIGEST)
        server.kill()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await store.finish_refresh(make_credential(), claim, 1)
        server.start()
        assert await store.intent("acct-1") == begun
        done = await store.finish_refresh(make_credential(refresh_token=Secret("next")), claim, 1)
        server.kill()
        server.start()
        assert await store.credential("acct-1") == done
        assert await store.intent("acct-1") is None


@pytest.mark.fault("B54")
@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (b"-READONLY You can't write against a read only replica.\r\n", "read-only"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "memory"),
        (b"-MISCONF Errors writing to the AOF file\r\n", "disk"),
        (b"-WRONGTYPE Operation against a key\r\n", "redis_prefix"),
        (b"-MOVED 1 10.0.0.1:6379\r\n", "cluster"),
        (b"*1\r\n$zz\r\n", "as Redis does"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "as Redis does"),
        (b"", "cannot be reached"),
        (None, "within 0.2 s"),
    ],
)
async def test_every_bad_answer_is_unavailable_within_the_bound(reply: bytes | None, word: str) -> None:
    async with RespFake(reply) as fake:
        records = RedisRecords(RedisLink(fake.url, name="x", timeout_s=0.2), PREFIX, "epoch", None)
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match=word):
            await records.look()
        assert time.monotonic() - began_s < 1.0
        await records.link.close()


@pytest.mark.parametrize(("confirmed", "good"), [(b"*2\r\n:1\r\n:1\r\n", True), (b"*2\r\n:1\r\n:0\r\n", False),
                                                (b"*2\r\n:0\r\n:1\r\n", False)])  # fmt: skip
async def test_a_durable_write_waits_until_disk_and_replicas_have_it(confirmed: bytes, good: bool) -> None:
    async with RespFake(b"*2\r\n$2\r\nok\r\n$1\r\n7\r\n", {b"WAITAOF": confirmed}) as fake:
        link = RedisLink(fake.url, name="x", timeout_s=0.5)
        records = RedisRecords(link, PREFIX, "epoch", None, wait_for_disk=True, replicas=1)
        error: StoreError | None = None
        try:
            await records.write([("HSET", 1, "a", "b")])
        except StoreError as raised:
            error = raised
        assert (error is None) is good
        assert b"WAITAOF" in fake.seen
        await records.write([("HSET", 1, "a", "b")], durable=False)
        assert fake.seen.count(b"WAITAOF") == 1
        await link.close()
