"""One exchange, one verdict: was the refresh token used up or not?"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import parse_qsl

import httpx
import pytest

from auth.oauth import MAX_ANSWER_BYTES, OAuthClient, RefreshReason, TokenAnswer, Verdict, classify
from store.records import Secret

TOKEN = Secret("rt_secret-token")
ISSUER = "https://issuer.example"


def answering(handler: Callable[[httpx.Request], httpx.Response], timeout_s: float = 5.0) -> OAuthClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return OAuthClient(http, ISSUER + "/", "client-1", timeout_s, connect_retry_s=0.001)


async def test_the_request_is_as_the_cli_sends_it() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"access_token": "a", "refresh_token": "r", "id_token": "i"})

    answer = await answering(handler).refresh(TOKEN, RefreshReason.UNAUTHORIZED)
    assert str(seen[0].url) == "https://issuer.example/oauth/token"
    assert json.loads(seen[0].content) == {
        "client_id": "client-1",
        "grant_type": "refresh_token",
        "refresh_reason": "unauthorized_recovery",
        "refresh_token": "rt_secret-token",
    }
    assert seen[0].headers["content-type"] == "application/json"
    assert seen[0].headers["connection"] == "close"
    told = seen[0].extensions["timeout"]
    assert told["read"] == 5.0, "the client's own default must not cut a slow issuer off"
    assert told["connect"] < 5.0
    assert answer == TokenAnswer(
        Verdict.ROTATED, "", 200, None, access_token=Secret("a"), refresh_token=Secret("r"), id_token=Secret("i")
    )


@pytest.mark.fault("B34")
@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"error": {"code": "refresh_token_expired"}}, "refresh_token_expired"),
        (401, {"error": {"code": "refresh_token_reused", "message": "x"}}, "refresh_token_reused"),
        (401, {"error": "refresh_token_invalidated"}, "refresh_token_invalidated"),
        (401, {"code": "token_revoked"}, "token_revoked"),
        (401, {"error": {"code": "new_word"}}, "new_word"),
        (401, None, "could_not_be_refreshed"),
        (400, {"error": "invalid_grant"}, "invalid_grant"),
        (400, {"error": {"code": "refresh_token_reused"}}, "refresh_token_reused"),
    ],
)
def test_a_refusal_for_good_is_permanent(status: int, body: object, code: str) -> None:
    answer = classify(status, {}, json.dumps(body).encode() if body else b"<html>")
    assert (answer.verdict, answer.code, answer.access_token) == (Verdict.PERMANENT, code, None)


@pytest.mark.fault("B32")
@pytest.mark.parametrize(
    ("status", "headers", "body", "wait_s"),
    [
        (500, {}, b"{}", None),
        (503, {"retry-after": "7"}, b"", 7.0),
        (429, {"retry-after": "999999"}, b"{}", 3600.0),
        (429, {"retry-after": "soon"}, b"{}", None),
        (403, {"cf-mitigated": "challenge"}, b"<html>Just a moment", None),
        (400, {}, b'{"error":"invalid_client"}', None),
        (404, {}, b"", None),
        (302, {"location": "https://elsewhere"}, b"", None),
        (500, {}, None, None),
    ],
)
def test_an_answer_that_did_not_rotate_is_transient(
    status: int, headers: dict[str, str], body: bytes | None, wait_s: float | None
) -> None:
    answer = classify(status, headers, body)
    assert (answer.verdict, answer.retry_after_s, answer.status) == (Verdict.TRANSIENT, wait_s, status)


@pytest.mark.fault("B36")
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"access_token":7}', b'{"access_token":""}', None])
def test_a_200_that_cannot_be_read_may_have_rotated(body: bytes | None) -> None:
    assert classify(200, {}, body).verdict is Verdict.UNKNOWN


@pytest.mark.fault("B36")
async def test_an_answer_over_64_kib_is_not_read_to_its_end() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * MAX_ANSWER_BYTES
        raise AssertionError("read on and on")

    answer = await answering(lambda request: httpx.Response(200, content=endless())).refresh(
        TOKEN, RefreshReason.FORCED
    )
    assert answer.verdict is Verdict.UNKNOWN


async def test_no_redirect_is_followed() -> None:
    hosts: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(307, headers={"location": "https://elsewhere.example/"})

    assert (await answering(handler).refresh(TOKEN, RefreshReason.FORCED)).verdict is Verdict.TRANSIENT
    assert hosts == ["issuer.example"]


async def test_only_a_connection_that_never_came_about_is_tried_again() -> None:
    calls = 0

    def refused(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"access_token": "a"})

    assert (await answering(refused).refresh(TOKEN, RefreshReason.FORCED)).verdict is Verdict.ROTATED
    assert calls == 3


@pytest.mark.parametrize(
    ("error", "verdict", "calls"),
    [
        (httpx.ConnectError("x"), Verdict.UNSENT, 3),
        (httpx.ConnectTimeout("x"), Verdict.UNSENT, 3),
        (httpx.ReadError("x"), Verdict.UNKNOWN, 1),
        (httpx.WriteError("x"), Verdict.UNKNOWN, 1),
        (httpx.ReadTimeout("x"), Verdict.UNKNOWN, 1),
        (httpx.RemoteProtocolError("x"), Verdict.UNKNOWN, 1),
    ],
)
async def test_what_was_sent_is_sent_once(error: Exception, verdict: Verdict, calls: int) -> None:
    seen = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal seen
        seen += 1
        raise error

    assert (await answering(handler).refresh(TOKEN, RefreshReason.FORCED)).verdict is verdict
    assert seen == calls


@pytest.mark.fault("B33")
async def test_a_silent_issuer_is_left_at_the_deadline_with_an_unknown_outcome() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, httpx.AsyncClient(trust_env=False) as http:
        client = OAuthClient(http, f"http://127.0.0.1:{port}", "client-1", 0.1)
        assert (await client.refresh(TOKEN, RefreshReason.FORCED)).verdict is Verdict.UNKNOWN


async def test_nobody_at_the_address_means_nothing_was_sent() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with httpx.AsyncClient(trust_env=False) as http:
        client = OAuthClient(http, f"http://127.0.0.1:{port}", "client-1", 5.0, connect_retry_s=0.001)
        assert (await client.refresh(TOKEN, RefreshReason.FORCED)).verdict is Verdict.UNSENT


@pytest.mark.fault("C31")
async def test_no_token_reaches_a_log_or_a_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    reply = httpx.Response(200, json={"access_token": "at_secret", "refresh_token": "rt_secret"})
    answer = await answering(lambda request: reply).refresh(TOKEN, RefreshReason.FORCED)
    assert "secret-token" not in caplog.text
    assert "_secret" not in caplog.text + repr(answer)


async def test_a_code_is_exchanged_once_as_the_cli_exchanges_it() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"access_token": "a", "refresh_token": "r", "id_token": "i"})

    answer = await answering(handler).exchange_code(
        Secret("ac_1"), Secret("v/1"), "http://127.0.0.1:1455/auth/callback"
    )
    assert answer.verdict is Verdict.ROTATED
    [request] = seen
    assert str(request.url) == "https://issuer.example/oauth/token"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(parse_qsl(request.content.decode())) == {
        "grant_type": "authorization_code",
        "code": "ac_1",
        "redirect_uri": "http://127.0.0.1:1455/auth/callback",
        "client_id": "client-1",
        "code_verifier": "v/1",
    }


@pytest.mark.parametrize(
    ("error", "calls"), [(httpx.ReadError("x"), 1), (httpx.ReadTimeout("x"), 1), (httpx.ConnectError("x"), 3)]
)
async def test_a_code_that_may_have_been_sent_is_not_sent_again(error: httpx.HTTPError, calls: int) -> None:
    seen = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal seen
        seen += 1
        raise error

    answer = await answering(handler).exchange_code(Secret("ac_1"), Secret("v"), "redirect")
    assert answer.verdict is (Verdict.UNKNOWN if calls == 1 else Verdict.UNSENT)
    assert seen == calls


async def test_revoking_is_as_the_cli_does_it_on_logout() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"")

    assert await answering(handler).revoke(TOKEN)
    assert str(seen[0].url) == "https://issuer.example/oauth/revoke"
    assert json.loads(seen[0].content) == {
        "token": "rt_secret-token",
        "token_type_hint": "refresh_token",
        "client_id": "client-1",
    }


@pytest.mark.parametrize("answer", [400, 401, 302, 503, httpx.ConnectError("x"), httpx.ReadTimeout("x")])
async def test_revoking_that_does_not_work_is_said_and_not_tried_again(answer: int | httpx.HTTPError) -> None:
    seen = 0

    def handler(request: httpx.Request) -> httpx.Response:
        nonlocal seen
        seen += 1
        if isinstance(answer, int):
            return httpx.Response(answer, headers={"location": "https://evil.example/"})
        raise answer

    assert not await answering(handler).revoke(TOKEN)
    assert seen == 1
