"""The small JSON calls through httpx: models, usage, accounts."""

from __future__ import annotations

import json

import httpx
import pytest
import respx

from store.records import Secret
from tests.fakes.clock import FakeClock
from tests.upstream.wire import ACCOUNT, CREDENTIAL, TIMEOUTS, pooled
from upstream.client import CodexClient
from upstream.errors import FaultKind, UpstreamError
from upstream.types import ClientSettings, Identity

BASE = "https://chat.test/backend-api"


async def small_calls() -> tuple[CodexClient, httpx.AsyncClient]:
    http = httpx.AsyncClient(trust_env=False)
    settings = ClientSettings(BASE + "/codex", BASE, Identity("cli", "cli/1", "9"), TIMEOUTS)
    async with pooled() as pool:
        return CodexClient(settings, pool, http, FakeClock()), http


@respx.mock(using="httpx", assert_all_called=False)
async def test_models(respx_mock: respx.MockRouter) -> None:
    """The backend's objects with their ETag; nothing new is None; no list is an error."""
    client, http = await small_calls()
    route = respx_mock.get(BASE + "/codex/models", params={"client_version": "9"})
    route.respond(200, json={"models": [{"slug": "a"}, 5]}, headers={"etag": '"1"'})
    assert await client.models(ACCOUNT, CREDENTIAL) == ([{"slug": "a"}], '"1"')
    told = route.calls.last.request.headers
    assert told["authorization"] == "Bearer the-token"
    assert told["chatgpt-account-id"] == "acct-9"
    assert told["user-agent"] == "cli/1"
    route.respond(304)
    assert await client.models(ACCOUNT, CREDENTIAL, '"1"') is None
    assert route.calls.last.request.headers["if-none-match"] == '"1"'
    route.respond(200, text="<html>")
    with pytest.raises(UpstreamError) as caught:
        await client.models(ACCOUNT, CREDENTIAL)
    assert caught.value.kind is FaultKind.PROTOCOL
    await http.aclose()


@respx.mock(using="httpx", assert_all_called=False)
async def test_usage(respx_mock: respx.MockRouter) -> None:
    """Windows and plan; errors by their kind; a dead route by its own."""
    client, http = await small_calls()
    route = respx_mock.get(BASE + "/wham/usage")
    route.respond(200, json={"plan_type": "pro", "rate_limit": {"primary_window": {"used_percent": 7}}})
    usage = await client.usage(ACCOUNT, CREDENTIAL)
    assert (usage.plan, usage.allowed, usage.windows[0].used_percent) == ("pro", True, 7.0)
    expected: list[tuple[httpx.Response | Exception, FaultKind]] = [
        (httpx.Response(401, json={"detail": "Unauthorized"}), FaultKind.AUTH),
        (httpx.Response(200, text="{}"), FaultKind.PROTOCOL),
        (httpx.ConnectError("x"), FaultKind.CONNECT),
        (httpx.ConnectTimeout("x"), FaultKind.CONNECT_TIMEOUT),
        (httpx.ReadTimeout("x"), FaultKind.FIRST_EVENT_TIMEOUT),
        (httpx.RemoteProtocolError("x"), FaultKind.PROTOCOL),
        (httpx.ReadError("x"), FaultKind.LOST),
    ]
    for effect, kind in expected:
        route.mock(side_effect=[effect])
        with pytest.raises(UpstreamError) as caught:
            await client.usage(ACCOUNT, CREDENTIAL)
        assert caught.value.kind is kind
    await http.aclose()


@respx.mock(using="httpx", assert_all_called=False)
async def test_accounts_check(respx_mock: respx.MockRouter) -> None:
    """Both shapes of the list, and "no constraint" as None."""
    client, http = await small_calls()
    route = respx_mock.get(BASE + "/wham/accounts/check")
    free = {"id": "a", "plan_type": "pro", "workspace_backend_origin": "NO_CONSTRAINT"}
    bound = {"account_id": "b", "workspace_backend_origin": "https://eu.test", "account_routing_override": "us"}
    route.respond(200, json={"accounts": [free, {"id": 5}, None]})
    [entry] = await client.accounts_check(Secret("t"), "a")
    assert (entry.account_id, entry.plan, entry.workspace_origin, entry.routing_override) == ("a", "pro", None, None)
    route.respond(200, content=json.dumps({"accounts": {"b": {"account": bound}}}))
    [entry] = await client.accounts_check(Secret("t"), "b")
    assert (entry.account_id, entry.workspace_origin, entry.routing_override) == ("b", "https://eu.test", "us")
    route.respond(404, json={"detail": "Not Found"})
    with pytest.raises(UpstreamError) as caught:
        await client.accounts_check(Secret("t"), "b")
    assert caught.value.kind is FaultKind.REQUEST
    await http.aclose()
