"""The proxy beside one Codex CLI: three hosts lead to the gateway, everything else and everybody else is refused."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest

from ops.codex_authority import Authority, new_authority
from ops.codex_proxy import HOSTS, WHOAMI, CodexProxy, offered, running_proxy
from store.records import Secret

KEY, TOKEN = Secret("at-cr-gateway-key"), Secret("at-of-this-process")
Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass(slots=True)
class Stage:
    proxy: CodexProxy
    authority: Authority
    seen: list[httpx.Request] = field(default_factory=list)

    def client(self, proxy: str | None = None, token: str = TOKEN.reveal()) -> httpx.AsyncClient:
        """What the CLI is: it trusts the authority alone and goes through the proxy."""
        context = ssl.create_default_context(cadata=self.authority.certificate_pem.decode())
        return httpx.AsyncClient(
            proxy=proxy or self.proxy.url.reveal(),
            verify=context,
            trust_env=False,
            headers={"authorization": f"Bearer {token}"} if token else {},
        )

    @property
    def port(self) -> int:
        return urlsplit(self.proxy.url.reveal()).port or 0


async def once(body: bytes) -> AsyncIterator[bytes]:
    """A body that is read as it comes, as from a network."""
    yield body


async def echo(request: httpx.Request) -> httpx.Response:
    headers = {"x-said": "yes", "set-cookie": "a=b"}
    return httpx.Response(200, headers=headers, content=once(await request.aread()))


@contextlib.asynccontextmanager
async def staged(handler: Handler = echo, gateway: str = "https://gateway.test/relay") -> AsyncIterator[Stage]:
    authority = new_authority(HOSTS, time.time())
    seen: list[httpx.Request] = []

    async def remembering(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return await handler(request)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(remembering)) as http,
        running_proxy(http, gateway, KEY, TOKEN, authority) as proxy,
    ):
        yield Stage(proxy, authority, seen)


async def test_a_request_reaches_the_gateway_with_the_gateway_key_and_nothing_of_the_childs_login() -> None:
    async with staged() as stage, stage.client() as client:
        answer = await client.post(
            "https://chatgpt.com/backend-api/codex/responses?a=%2F&b=1",
            content=b"\x28\xb5zstd",
            headers={"content-encoding": "zstd", "cookie": "session=1", "session-id": "s"},
        )
    assert (answer.status_code, answer.content, answer.headers["x-said"]) == (200, b"\x28\xb5zstd", "yes")
    assert "set-cookie" not in answer.headers
    (request,) = stage.seen
    assert str(request.url) == "https://gateway.test/relay/backend-api/codex/responses?a=%2F&b=1"
    assert request.headers.get_list("authorization") == [f"Bearer {KEY.reveal()}"]
    assert request.headers["content-encoding"] == "zstd"
    assert request.headers["session-id"] == "s"
    assert "cookie" not in request.headers
    assert request.headers["host"] == "gateway.test"


async def test_a_websocket_gets_the_gateways_own_answer() -> None:
    async def upgrade(request: httpx.Request) -> httpx.Response:
        assert request.headers["upgrade"] == "websocket"
        return httpx.Response(426, content=once(b"{}"))

    async with staged(upgrade) as stage, stage.client() as client:
        headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x"}
        answer = await client.get("https://chatgpt.com/backend-api/codex/responses", headers=headers)
    assert answer.status_code == 426


async def test_a_stream_passes_event_by_event_and_ends_at_the_gateway_when_the_child_leaves() -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def streaming(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body())

    async with staged(streaming) as stage:
        async with (
            stage.client() as client,
            client.stream("POST", "https://chatgpt.com/backend-api/codex/responses", content=b"{}") as answer,
        ):
            assert await anext(answer.aiter_bytes()) == b"data: 1\n\n"
        async with asyncio.timeout(5):
            await closed.wait()


@pytest.mark.parametrize("url", ["https://example.com/", "https://ab.chatgpt.com/", "https://chatgpt.com:8443/"])
async def test_every_other_host_is_refused(url: str) -> None:
    async with staged() as stage, stage.client() as client:
        with pytest.raises(httpx.ProxyError, match="403"):
            await client.get(url)
        assert len(stage.proxy.seen.refused) == 1
    assert stage.seen == []


async def test_plain_http_through_the_proxy_is_refused() -> None:
    async with staged() as stage, stage.client() as client:
        assert (await client.get("http://chatgpt.com/backend-api/x")).status_code == 405
    assert stage.seen == []


@pytest.mark.parametrize("user", ["", "codex:wrong@", "other:x@"])
async def test_nobody_enters_without_the_password(user: str) -> None:
    async with staged() as stage, stage.client(proxy=f"http://{user}127.0.0.1:{stage.port}") as client:
        with pytest.raises(httpx.ProxyError, match="407"):
            await client.get("https://chatgpt.com/backend-api/wham/usage")
    assert stage.seen == []


async def test_a_login_of_the_users_own_goes_nowhere() -> None:
    async with staged() as stage, stage.client(token="eyJ.foreign.login") as client:
        answer = await client.get("https://chatgpt.com/backend-api/wham/usage")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "foreign_login")
    assert stage.seen == []


async def test_of_the_issuer_only_whoami_is_asked() -> None:
    async with staged() as stage, stage.client() as client:
        assert (await client.get(f"https://auth.openai.com{WHOAMI}")).status_code == 200
        for path in ("/oauth/token", "/oauth/revoke", "/api/accounts/deviceauth/usercode"):
            answer = await client.post(f"https://auth.openai.com{path}", json={"refresh_token": "rt_secret"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_offered")
    assert len(stage.seen) == 1
    assert not offered("chatgpt.com", "/admin/api/accounts")


async def test_a_gateway_that_is_away_is_said_and_remembered() -> None:
    async def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    async with staged(away) as stage, stage.client() as client:
        answer = await client.get("https://chatgpt.com/backend-api/wham/usage")
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "gateway_unreachable")
        assert stage.proxy.seen.unreachable == "ConnectError: refused"


@pytest.mark.parametrize("bytes_", [b"", b"GET", b"A" * 20_000, b"CONNECT chatgpt.com:443 HTTP/1.1\r\n\r\nearly"])
async def test_what_is_no_request_is_closed(bytes_: bytes) -> None:
    async with staged() as stage:
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        with contextlib.suppress(ConnectionError):
            writer.write(bytes_)
            writer.write_eof()
            assert await reader.read() == b""
        writer.close()


async def test_nothing_listens_and_nothing_runs_afterwards() -> None:
    async with staged() as stage:
        port = stage.port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def test_the_password_is_in_no_representation() -> None:
    async with staged() as stage:
        assert stage.proxy.url.reveal() not in f"{stage.proxy!r} {stage.proxy.url!r} {stage.proxy.seen!r}"
