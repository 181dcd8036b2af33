"""The line to Redis: bounded, mended by itself, and with errors that say what is wrong and no password."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis import exceptions as redis_errors

from store.errors import StoreError, StoreUnavailable, StoreUnusable
from store.redis_link import LuaScript, RedisLink, parse_address, translated
from tests.redis_server import RedisServer, free_port, redis_server

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    made = RedisLink(server.url, name="test", timeout_s=1.0, retries=2, connections=4)
    yield made
    await made.close()


def test_urls_lead_to_a_server_and_show_no_password() -> None:
    plain = parse_address("redis://user:hunter%402@host:7000/3")
    assert plain.text == "Redis at host:7000/3"
    assert plain.kwargs == {"db": 3, "username": "user", "password": "hunter@2", "host": "host", "port": 7000}
    assert parse_address("redis://host").kwargs == {"db": 0, "host": "host", "port": 6379}
    assert parse_address("unix:///run/redis.sock?db=2").kwargs == {"db": 2, "path": "/run/redis.sock"}
    tls = parse_address("rediss://:hunter2@host")
    assert tls.kwargs["tls"].verify_mode is ssl.CERT_REQUIRED
    assert tls.kwargs["tls"].check_hostname is True
    for url in ("redis://user:hunter2@host", "rediss://:hunter2@host", "unix://:hunter2@/run/redis.sock"):
        assert "hunter2" not in repr(parse_address(url))
        assert "hunter2" not in repr(RedisLink(url, name="x", timeout_s=1.0))


@pytest.mark.parametrize(
    "url",
    [
        "redis://", "redis://:hunter2@", "redis://host:port", "redis://host/hunter2", "redis://host/-1", "unix://",
        "rediss://host?ssl_cert_reqs=none", "redis://host?ca_file=x", "rediss://host?ca_file=/nowhere/hunter2",
        "redis://host?hunter2", "http://host",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreUnusable) as caught:
        parse_address(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.fault("B54")
@pytest.mark.parametrize(
    ("error", "kind", "word"),
    [
        (redis_errors.AuthenticationError("WRONGPASS"), StoreUnusable, "password"),
        (redis_errors.NoPermissionError("x"), StoreUnusable, "ACL"),
        (redis_errors.ResponseError("The user executing the script can't run this command"), StoreUnusable, "ACL"),
        (redis_errors.BusyLoadingError("x"), StoreUnavailable, "loading"),
        (redis_errors.ReadOnlyError("x"), StoreUnavailable, "read-only"),
        (redis_errors.ResponseError("READONLY You can't write. script: 1, on @user_script:1."), StoreUnavailable,
         "read-only"),
        (redis_errors.OutOfMemoryError("x"), StoreUnavailable, "memory"),
        (redis_errors.MovedError("7 host:1"), StoreUnavailable, "cluster"),
        (redis_errors.ResponseError("WRONGTYPE Operation"), StoreUnavailable, "redis_prefix"),
        (redis_errors.ResponseError("MISCONF Errors writing"), StoreUnavailable, "disk"),
        (redis_errors.ResponseError("secret hunter2"), StoreUnavailable, "ERR"),
        (redis_errors.InvalidResponse("hunter2"), StoreUnavailable, "as Redis does"),
        (redis_errors.TimeoutError("x"), StoreUnavailable, "within 0.1 s"),
        (TimeoutError(), StoreUnavailable, "within 0.1 s"),
        (ConnectionRefusedError(), StoreUnavailable, "reached"),
    ],
)  # fmt: skip
def test_every_failure_has_one_meaning(error: Exception, kind: type[StoreError], word: str) -> None:
    found = translated(error, "Redis at host:1/0", 0.1)
    assert type(found) is kind
    assert word in str(found)
    assert "hunter2" not in str(found)


async def test_commands_scripts_and_batches(link: RedisLink) -> None:
    assert await link.call("SET", "a", b"\x00\xff") == b"OK"
    assert await link.batch([("GET", "a"), ("INCR", "n"), ("GET", "none")]) == [b"\x00\xff", 1, None]
    text = b"return {KEYS[1], ARGV[1]}"
    script = LuaScript(text, hashlib.sha1(text).hexdigest())
    for _ in range(2):
        assert await link.run(script, ["k"], [7]) == [b"k", b"7"]
    await link.call("SCRIPT", "FLUSH")
    assert await link.run(script, ["k"], [8]) == [b"k", b"8"]


async def test_a_refusal_in_a_batch_leaves_the_connection_in_step(link: RedisLink) -> None:
    await link.call("SET", "text", "x")
    with pytest.raises(StoreUnavailable):
        await link.batch([("INCR", "text"), ("GET", "text")])
    assert await link.batch([("GET", "text")]) == [b"x"]


async def test_the_pool_is_bounded_and_named(link: RedisLink) -> None:
    await asyncio.gather(*(link.call("PING") for _ in range(50)))
    clients = (await link.call("CLIENT", "LIST")).decode()
    assert 1 <= clients.count("name=test") <= 4


@pytest.mark.fault("B54")
async def test_a_server_that_stands_still_costs_the_bound_and_no_later_answer_goes_astray(
    link: RedisLink, server: RedisServer
) -> None:
    await link.call("SET", "a", "1")
    server.pause()
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match=r"within 0\.1 s"):
        await link.call("GET", "a", timeout_s=0.1)
    with pytest.raises(StoreUnavailable, match=r"within 0\.1 s"):
        await link.batch([("GET", "a")] * 3, timeout_s=0.1)
    assert time.monotonic() - began_s < 0.6
    server.go_on()
    assert await link.call("PING") == b"PONG"
    assert await link.call("GET", "a") == b"1"


async def test_a_cancelled_call_takes_its_answer_with_it(link: RedisLink, server: RedisServer) -> None:
    server.pause()
    calls = [asyncio.create_task(link.call("ECHO", f"old-{n}")) for n in range(4)]
    await asyncio.sleep(0.05)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    server.go_on()
    assert [await link.call("ECHO", f"new-{n}") for n in range(4)] == [b"new-0", b"new-1", b"new-2", b"new-3"]


@pytest.mark.fault("B54")
async def test_a_restarted_server_is_found_again(link: RedisLink, server: RedisServer) -> None:
    await link.call("SET", "a", "1")
    server.kill()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await link.call("GET", "a", again=True)
    server.start()
    assert await link.call("GET", "a") == b"1"


async def test_a_message_is_heard_and_a_lost_line_is_noticed(link: RedisLink, server: RedisServer) -> None:
    async with link.subscribed("news") as heard:
        assert await heard.message(0.01) is None
        assert await heard.message(0.01) is None
        await link.call("PUBLISH", "news", "one")
        assert await heard.message(1.0) == b"one"
        await heard.ping()
        assert await heard.message(1.0) is None
        server.kill()
        with pytest.raises(StoreUnavailable):
            await heard.message(1.0)


async def test_the_password_is_needed_and_never_told() -> None:
    with redis_server(password="hunter2") as server:
        good = RedisLink(server.url, name="x", timeout_s=1.0)
        assert await good.call("PING") == b"PONG"
        await good.close()
        for url in (server.url.replace("hunter2", "hunter3"), server.url.replace(":hunter2@", "")):
            bad = RedisLink(url, name="x", timeout_s=1.0, retries=3)
            with pytest.raises(StoreUnusable) as caught:
                await bad.call("PING", again=True)
            assert "hunter" not in str(caught.value)
            await bad.close()


async def test_a_closed_link_and_an_absent_server_are_unavailable(link: RedisLink) -> None:
    await link.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await link.call("PING")
    gone = RedisLink(f"redis://127.0.0.1:{free_port()}", name="x", timeout_s=0.5)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await gone.call("PING")
    await gone.close()
