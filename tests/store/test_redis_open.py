"""Only a store of ours, of our schema, under our key is opened; a refusal changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import FutureSchema, StoreCorrupt, StoreError, StoreUnavailable, StoreUnusable, WrongKey
from store.keyfile import FileKeys
from store.open import StoreKind, open_store, prepare_key, store_kind
from store.redis_open import Keeping
from store.redis_records import Table, keys_under
from tests.fakes.records import make_account, make_credential
from tests.redis_server import RedisServer, free_port, redis_server
from tests.store.redis_rig import PREFIX, everything, line_to, opened, store_on

pytestmark = pytest.mark.slow
META, ACCOUNTS = f"{{{PREFIX}}}:d:meta", f"{{{PREFIX}}}:d:accounts"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def refused(url: str, kind: type[StoreError], word: str, key: bytes = b"k" * 32) -> None:
    async with line_to(url) as link:
        before = await everything(link)
        with pytest.raises(kind, match=word):
            await opened(url, key)
        assert await everything(link) == before


async def test_of_many_that_begin_together_one_does_and_all_share_it(server: RedisServer) -> None:
    stores = await asyncio.gather(*(opened(server.url) for _ in range(8)))
    await stores[0].add_account(make_account(), make_credential())
    assert [await store.credential("acct-1") for store in stores] == [make_credential()] * 8
    for store in stores:
        await store.close()


async def test_prefixes_are_stores_of_their_own_in_one_slot_each(server: RedisServer) -> None:
    async with store_on(server.url) as one, store_on(server.url, prefix="other") as two:
        await one.add_account(make_account(), make_credential())
        assert await two.accounts() == ()
    assert all(key.startswith("{other}:d:") for key in keys_under("other"))
    assert len(set(keys_under("x"))) == len(Table)


@pytest.mark.fault("B58")
async def test_the_wrong_key_is_refused(server: RedisServer) -> None:
    await (await opened(server.url)).close()
    await refused(server.url, WrongKey, "restore the right key", b"x" * 32)


@pytest.mark.fault("B58")
async def test_a_newer_schema_and_damage_are_refused(server: RedisServer) -> None:
    await (await opened(server.url)).close()
    async with line_to(server.url) as link:
        whole = dict(zip(*[iter(await link.call("HGETALL", META))] * 2, strict=True))
        for field, value, kind, word in [
            ("schema", "2", FutureSchema, "run the newer release"),
            ("schema", "x", StoreCorrupt, "no schema"),
            ("format", "other", StoreCorrupt, "without their head"),
            ("epoch", "00", StoreCorrupt, "not sealed"),
            ("seal", whole[b"seal"][:-1] + b"\x00", StoreCorrupt, "damaged key check"),
            ("seal", b"", StoreCorrupt, "lost its key check"),
        ]:
            await link.call("HSET", META, field, value)
            await refused(server.url, kind, word)
            await link.call("HSET", META, *(part for pair in whole.items() for part in pair))
        await link.call("DEL", META)
        await link.call("HSET", ACCOUNTS, "a", "b")
    await refused(server.url, StoreCorrupt, "without their head")


async def test_data_of_another_program_is_refused(server: RedisServer) -> None:
    async with line_to(server.url) as link:
        await link.call("SET", ACCOUNTS, "mine")
    await refused(server.url, StoreCorrupt, "another program")


async def test_a_worker_begins_no_store(server: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match="no store under"):
        await opened(server.url, create=False)
    async with line_to(server.url) as link:
        assert await everything(link) == {}


async def test_a_key_is_made_for_an_empty_prefix_only(server: RedisServer, tmp_path: Path) -> None:
    keys = FileKeys(tmp_path / "vault.key")
    made = prepare_key(keys, server.url, prefix=PREFIX)
    assert made is not None
    assert prepare_key(keys, server.url, prefix=PREFIX) is None
    store = await open_store(server.url, keys=keys, busy_timeout_s=2.0, prefix=PREFIX)
    await store.add_account(make_account(), make_credential())
    await store.close()
    other = FileKeys(tmp_path / "host-b" / "vault.key")
    with pytest.raises(WrongKey, match="copy the key from the other replicas"):
        prepare_key(other, server.url, prefix=PREFIX)
    assert not other.present()
    with pytest.raises(StoreUnavailable):
        prepare_key(other, f"redis://127.0.0.1:{free_port()}", prefix=PREFIX)
    with pytest.raises(StoreUnusable):
        prepare_key(other, "redis://:hunter2@", prefix=PREFIX)
    assert not other.present()


def test_urls_of_redis_are_known() -> None:
    assert {store_kind(url) for url in ("redis://h", "rediss://h", "unix:///run/r.sock")} == {StoreKind.REDIS}
    assert (store_kind("memory://"), store_kind("sqlite:///x")) == (StoreKind.MEMORY, StoreKind.SQLITE)


@pytest.mark.parametrize(
    ("keeping", "count"),
    [
        (Keeping(True, "always", False, (7, 0, 15)), 0),
        (Keeping(True, "everysec", False, (7, 2, 1)), 0),
        (Keeping(True, "everysec", False, (7, 0, 15)), 1),
        (Keeping(True, "no", False, (7, 2, 1)), 1),
        (Keeping(False, "always", True, (7, 2, 1)), 2),
        (Keeping(None, None, None, ()), 2),
        (Keeping(True, None, None, (7, 0)), 2),
    ],
)
def test_what_may_lose_records_is_told(keeping: Keeping, count: int) -> None:
    assert len(keeping.warnings()) == count
