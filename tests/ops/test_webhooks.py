"""Messages to other systems: signed, kept over a restart, tried again, and never sent to a private place."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import pytest

from ops.addresses import networks
from ops.webhooks import DEAD, OUTBOX, Webhooks, WebhookValues, verify, webhook_values
from store.memory import MemoryStore
from store.records import Secret
from tests.fakes.clock import FakeClock

SECRET = Secret("s" * 32)
URL = "https://hooks.example.com/in?x=1"


async def public(host: str, port: int) -> Sequence[str]:
    return ["93.184.215.14"]


def answered(status: int) -> httpx.Response:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    return httpx.Response(status, content=nothing())


@dataclass
class Rig:
    """Webhooks over a store, with a receiver that answers as it is told."""

    clock: FakeClock = field(default_factory=FakeClock)
    answer: Callable[[httpx.Request], httpx.Response] = lambda request: answered(204)
    seen: list[httpx.Request] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)
    values: WebhookValues = field(default_factory=lambda: WebhookValues((URL,), SECRET))

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)

    def worker(self, name: str = "w") -> Webhooks:
        def handle(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            return self.answer(request)

        client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        return Webhooks(
            self.values, self.store, client, self.clock, random.Random(1), name, self.counted.append, resolve=public
        )


async def test_a_message_arrives_signed_at_the_checked_address_under_its_name() -> None:
    rig = Rig()
    hooks = rig.worker()
    hooks.send("account.needs_reauth", "account acme needs a login", {"account": "a1"})
    await hooks.step()
    (request,) = rig.seen
    assert (request.url.host, request.headers["host"]) == ("93.184.215.14", "hooks.example.com")
    assert request.extensions["sni_hostname"] == "hooks.example.com"
    body = json.loads(request.content)
    assert (body["type"], body["data"]) == ("account.needs_reauth", {"account": "a1"})
    assert body["id"] == request.headers["x-codex-relay-event"]
    header = request.headers["x-codex-relay-signature"]
    now_s = rig.clock.now_s()
    assert verify(SECRET, header, body["id"], request.content, now_s)
    assert not verify(SECRET, header, body["id"], request.content + b" ", now_s)
    assert not verify(SECRET, header, "evt_other", request.content, now_s)
    assert not verify(SECRET, header, body["id"], request.content, now_s + 301)
    assert not verify(Secret("t" * 32), header, body["id"], request.content, now_s)
    assert not verify(SECRET, "t=1", body["id"], request.content, now_s)
    await hooks.step()
    assert len(rig.seen) == 1
    assert rig.counted == ["delivered"]


async def test_a_message_outlives_the_process_that_took_it() -> None:
    rig = Rig(answer=lambda request: answered(500))
    hooks = rig.worker("first")
    hooks.send("x", "x", {})
    await hooks.step()
    rig.answer = lambda request: answered(200)
    rig.clock.advance(10)
    await rig.worker("second").step()
    first, second = (request.headers["x-codex-relay-event"] for request in rig.seen)
    assert first == second
    assert rig.counted == ["retried", "delivered"]


async def test_pauses_grow_and_a_dead_message_is_set_aside() -> None:
    rig = Rig(answer=lambda request: answered(500), values=replace(WebhookValues((URL,), SECRET), give_up_s=600))
    hooks = rig.worker()
    hooks.send("x", "x", {})
    for _ in range(700):
        await hooks.step()
        rig.clock.advance(1)
    assert 5 <= len(rig.seen) <= 9
    assert rig.counted[-1] == "dead"
    assert await rig.store.documents(OUTBOX) == ()
    (dead,) = await rig.store.documents(DEAD)
    assert b"status 500" in dead.body


async def test_gone_means_gone() -> None:
    rig = Rig(answer=lambda request: answered(410))
    hooks = rig.worker()
    hooks.send("x", "x", {})
    await hooks.step()
    assert rig.counted == ["dead"]


async def test_two_workers_deliver_a_message_once() -> None:
    rig = Rig()
    first, second = rig.worker("a"), rig.worker("b")
    first.send("x", "x", {})
    await asyncio.gather(first.step(), second.step(), second.step())
    assert len(rig.seen) == 1


async def test_a_redirect_is_not_followed_and_a_long_answer_is_not_read() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1024

    rig = Rig(answer=lambda request: httpx.Response(302, headers={"location": "http://127.0.0.1/"}, content=endless()))
    hooks = rig.worker()
    hooks.send("x", "x", {})
    await hooks.step()
    assert len(rig.seen) == 1
    assert rig.counted == ["retried"]


async def test_a_private_target_is_never_connected_to() -> None:
    rig = Rig(values=WebhookValues(("https://10.0.0.1/",), SECRET))
    hooks = rig.worker()
    hooks.send("x", "x", {})
    await hooks.step()
    assert rig.seen == []
    (waiting,) = await rig.store.documents(OUTBOX)
    assert b"private" in waiting.body


async def test_a_slow_receiver_costs_its_deadline_and_no_more() -> None:
    @asynccontextmanager
    async def silent() -> AsyncIterator[int]:
        done = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await done.wait()
            writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            done.set()
            server.close()

    async with silent() as port, httpx.AsyncClient(trust_env=False) as client:
        rig = Rig()
        private = networks(["127.0.0.0/8"])
        values = WebhookValues((f"http://127.0.0.1:{port}/",), SECRET, timeout_s=0.2, private=private)
        hooks = Webhooks(values, rig.store, client, rig.clock, random.Random(1), "w", rig.counted.append)
        hooks.send("x", "x", {})
        await asyncio.wait_for(hooks.step(), 5)
        assert rig.counted == ["retried"]


@pytest.mark.parametrize("secret", [None, Secret(""), Secret("s" * 31)])
def test_nothing_starts_without_a_secret_that_deserves_the_name(secret: Secret | None) -> None:
    with pytest.raises(ValueError, match=r"webhooks\.secret"):
        webhook_values([URL], secret, 5, 60, [])


def test_no_target_means_no_webhooks() -> None:
    assert webhook_values([], None, 5, 60, []) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://example.com:22/", "https://example.com:6379/", "ftp://example.com/",
        "https://user@example.com/", "https://user:pw@example.com/", "https:///x", "example.com", "file:///etc/passwd",
        "https://example.com/#x", "gopher://example.com:443/", "https://[::1",
    ],
)  # fmt: skip
def test_a_target_of_another_form_refuses_the_start(url: str) -> None:
    with pytest.raises(ValueError):
        webhook_values([url], SECRET, 5, 60, [])
