"""The audit log in Redis: what a person with access to the data cannot do unseen, and how searches find their start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from store.errors import SealBroken
from store.redis_link import RedisLink
from tests.fakes.records import NOW_S, make_audit
from tests.redis_server import RedisServer, redis_server
from tests.store.redis_rig import PREFIX, line_to, store_on

pytestmark = pytest.mark.slow
LOG, HEAD, TIMES = (f"{{{PREFIX}}}:d:{name}" for name in ("audit", "audit_head", "audit_times"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def copied(link: RedisLink, upto: int, changed: int | None = None) -> None:
    """The log written anew up to a record, one of them with another actor."""
    rows = await link.call("XRANGE", LOG, "-", "+")
    await link.call("DEL", LOG)
    for number, (name, fields) in enumerate(rows[:upto], 1):
        row = msgspec.msgpack.decode(fields[1])
        if number == changed:
            row[2] = "somebody else"
        await link.call("XADD", LOG, name, "row", msgspec.msgpack.encode(row))


@pytest.mark.parametrize(
    ("what", "good", "word"),
    [
        ("changed", 1, "record 2 was changed"),
        ("deleted", 1, "record 2 is missing"),
        ("cut", 2, "the log ends at record 2, its sealed head is record 3"),
        ("emptied", 0, "the log ends at record 0"),
        ("no head", 3, "sealed head of the log is missing"),
        ("bad head", 3, "sealed head of the log was altered"),
        ("slipped in", 3, "record 4 is missing"),
    ],
)
async def test_what_is_done_to_the_log_shows(server: RedisServer, what: str, good: int, word: str) -> None:
    async with store_on(server.url) as store, line_to(server.url) as link:
        await store.append_audit([make_audit(f"a.{n}") for n in range(3)])
        assert await store.verify_audit() == (3, None)
        if what == "changed":
            await copied(link, 3, changed=2)
        elif what == "deleted":
            await link.call("XDEL", LOG, "2-0")
        elif what == "cut":
            await copied(link, 2)
        elif what == "emptied":
            await link.call("DEL", LOG)
        elif what == "no head":
            await link.call("DEL", HEAD)
        elif what == "bad head":
            head = await link.call("HGET", HEAD, "head")
            await link.call("HSET", HEAD, "head", head[:-1] + b"\x00")
        else:
            row = (await link.call("XRANGE", LOG, "3-0", "3-0"))[0][1][1]
            await link.call("XADD", LOG, "4-0", "row", row)
        read, fault = await store.verify_audit()
        assert (read, word in str(fault)) == (good, True), fault
        if what == "bad head":
            with pytest.raises(SealBroken):
                await store.append_audit([make_audit()])


async def test_processes_that_append_at_once_make_one_chain(server: RedisServer) -> None:
    async with store_on(server.url) as one, store_on(server.url) as two, store_on(server.url) as three:
        stores = (one, two, three)
        await asyncio.gather(*(stores[n % 3].append_audit([make_audit(f"{n}")] * 2) for n in range(60)))
        assert await one.verify_audit() == (120, None)


async def test_a_search_by_time_begins_near_the_first_and_misses_none(server: RedisServer) -> None:
    """Times that go back now and then; the index is exact all the same."""
    async with store_on(server.url) as store, line_to(server.url) as link:
        times = [NOW_S + n * 50.0 - (400.0 if n % 7 == 3 else 0.0) for n in range(60)]
        for at_s in times:
            await store.append_audit([make_audit(at_s=at_s)])
        assert await link.call("ZCARD", TIMES) > 10
        for since_s in (NOW_S - 1, NOW_S, NOW_S + 333.0, NOW_S + 1500.0, NOW_S + 2950.0, NOW_S + 9999.0):
            found = [record.seq for record in await store.search_audit(since_s=since_s)]
            assert found == [seq for seq, at_s in enumerate(times, 1) if at_s >= since_s]
