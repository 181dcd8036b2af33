"""Who may call, how often, for which model; and what is written down of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from store.records import Limits
from tests.fakes import faulty_streams as streams
from tests.fakes.clock import FakeClock
from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import eventually, line, nothing_left
from tests.flow.stage import TEXT, Stage, stage

PATHS = (
    ("POST", "/v1/responses"),
    ("GET", "/v1/models"),
    ("POST", "/backend-api/codex/responses"),
    ("GET", "/backend-api/codex/models"),
    ("GET", "/backend-api/wham/usage"),
    ("GET", "/backend-api/wham/accounts/check"),
    ("GET", "/api/accounts/v1/user-auth-credential/whoami"),
    ("GET", "/nowhere"),
)


async def bare(scene: Stage, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """A request without the scene's own key."""
    request = scene.client.build_request(method, path, headers=headers, json=TEXT if method == "POST" else None)
    if "authorization" not in headers:
        del request.headers["authorization"]
    return await scene.client.send(request)


async def test_every_key_that_does_not_open_gets_the_same_answer(tmp_path: Path) -> None:
    """Missing, malformed, unknown, wrong secret, expired, revoked: one 401, the same bytes, on every path."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        store = scene.gateway.gateway.store
        expired, _ = await scene.gateway.make_key(expires_at_s=1.0)
        revoked, record = await scene.gateway.make_key()
        await store.put_key(replace(record, revoked_at_s=1.0), record.version)
        await scene.settled()
        good = scene.client.headers["authorization"].removeprefix("Bearer ")
        given: dict[str, dict[str, str]] = {
            "missing": {},
            "empty": {"authorization": ""},
            "basic": {"authorization": "Basic YTpi"},
            "no scheme": {"authorization": good},
            "malformed": {"authorization": "Bearer sk-nothing"},
            "unknown": {"authorization": "Bearer at-cr-" + "a" * 12 + "-" + "b" * 43},
            "wrong secret": {"authorization": f"Bearer {good[:-1]}{'a' if good[-1] != 'a' else 'b'}"},
            "two blanks": {"authorization": f"Bearer  {good}"},
            "long": {"authorization": "Bearer " + "a" * 5000},
            "expired": {"authorization": f"Bearer {expired.reveal()}"},
            "revoked": {"authorization": f"Bearer {revoked.reveal()}"},
            # a good key in any other place is no key
            "x-api-key": {"x-api-key": good},
            "api-key": {"api-key": good},
            "cookie": {"cookie": f"key={good}; authorization=Bearer {good}"},
            "forwarded": {"x-forwarded-for": "127.0.0.1", "x-forwarded-authorization": f"Bearer {good}"},
            "proxy": {"proxy-authorization": f"Bearer {good}"},
        }
        bodies = set()
        for name, headers in given.items():
            for method, path in PATHS:
                for query in ("", f"?api_key={good}&key={good}&access_token={good}"):
                    answer = await bare(scene, method, path + query, headers)
                    assert answer.status_code == 401, (name, path)
                    assert answer.headers["www-authenticate"] == "Bearer"
                    bodies.add(answer.content)
        assert len(bodies) == 1
        assert json.loads(bodies.pop())["error"]["code"] == "invalid_api_key"
        assert upstream.requests == 0


async def test_two_authorization_fields_are_no_key(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene, line(scene) as client:
        request = client.request()
        field = b"authorization: Bearer " + client.key.encode() + b"\r\n"
        await client.send(request.replace(field, field * 2))
        assert await client.error() == (401, "invalid_api_key")
        assert upstream.requests == 0


async def test_without_any_key_the_gateway_is_closed(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        scene.gateway.gateway.background.keys.load([], [])
        for method, path in PATHS:
            answer = await scene.client.request(method, path, json=TEXT if method == "POST" else None)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "not_configured"
        assert (await scene.client.get("/healthz")).status_code == 200
        assert upstream.requests == 0


async def test_a_model_that_is_not_on_the_keys_list_is_forbidden(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        secret, _ = await scene.gateway.make_key(models=("gpt-5.1-codex",))
        bearer = f"Bearer {secret.reveal()}"
        for model in ("gpt-5.5", "gpt-5.5-high", "GPT-5.1-codex"):
            answer = await scene.relay({"model": model}, authorization=bearer)
            assert answer.status in (400, 403), model
            assert answer.code in ("forbidden", "model_not_found")
        assert upstream.requests == 0
        assert (await scene.relay({"model": "gpt-5.1-codex"}, authorization=bearer)).status == 200


@pytest.mark.parametrize("scope", ["key", "tenant"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_requests_per_minute_end_in_429_with_the_way_back(tmp_path: Path, scope: str, streamed: bool) -> None:
    """The third of two is refused with Retry-After; good and bad answers say how much is left; then time passes."""
    limits = Limits(requests_per_minute=2)
    clock = FakeClock()
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, clock=clock) as scene:
        given: Any = {"limits": limits} if scope == "key" else {"tenant_limits": limits}
        secret, _ = await scene.gateway.make_key("limited", **given)
        bearer = f"Bearer {secret.reveal()}"
        left = []
        for _ in range(2):
            answer = await scene.relay({"stream": streamed}, authorization=bearer)
            assert answer.status == 200
            assert answer.headers["x-ratelimit-limit-requests"] == "2"
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert left == ["1", "0"]
        refused = await scene.relay({"stream": streamed}, authorization=bearer)
        assert (refused.status, refused.code) == (429, "rate_limited")
        assert scope in refused.error["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.headers["x-ratelimit-reset-requests"] in ("1m0s", *(f"{n}s" for n in range(61)))
        assert upstream.requests == 2
        clock.advance(61)
        assert (await scene.relay(authorization=bearer)).status == 200
        other = await scene.relay()
        assert other.status == 200
        assert "x-ratelimit-limit-requests" not in other.headers


async def test_a_key_without_the_scope_serves_no_call(tmp_path: Path) -> None:
    """A key for metrics or administration is good for that alone; one for tasks may ask who it is, as the CLI does."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        secret, _ = await scene.gateway.make_key(scopes=frozenset({"metrics", "admin"}))
        headers = {"authorization": f"Bearer {secret.reveal()}"}
        for method, path in PATHS[:-1]:
            answer = await bare(scene, method, path, headers)
            assert answer.status_code == 403, path
            assert answer.json()["error"]["code"] == "forbidden"
        assert upstream.requests == 0


@pytest.mark.parametrize("scope", ["key", "tenant"])
async def test_streams_at_once_end_in_429_until_one_is_over(tmp_path: Path, scope: str) -> None:
    limits = Limits(concurrent_streams=1)
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        given: Any = {"limits": limits} if scope == "key" else {"tenant_limits": limits}
        secret, _ = await scene.gateway.make_key("limited", **given)
        bearer = f"Bearer {secret.reveal()}"
        upstream.next(streams.infinite(every_s=0.01))
        async with line(scene) as client:
            await client.send(client.request(authorization=bearer))
            await client.until(b"response.output_text.delta")
            refused = await scene.relay(authorization=bearer)
            assert (refused.status, refused.code) == (429, "rate_limited")
            assert refused.headers["retry-after"] == "1"
            assert await scene.metric("relay_shed_total", reason="too_many_streams") == 1
            assert (await scene.relay()).status == 200
        await eventually(lambda: nothing_left(scene))
        assert (await scene.relay(authorization=bearer)).status == 200


async def test_no_spelling_gets_a_limit_of_its_own(tmp_path: Path) -> None:
    """C27: paths, queries, cases, forwarded addresses and models all count for the one key."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        secret, _ = await scene.gateway.make_key("limited", limits=Limits(requests_per_minute=4))
        ways: list[tuple[str, dict[str, str], str]] = [
            ("/v1/responses", {}, "gpt-5.5"),
            ("/v1/responses?x=1", {"x-forwarded-for": "10.0.0.1"}, "gpt-5.5"),
            ("/backend-api/codex/responses", {"authorization": f"bearer {secret.reveal()}"}, "gpt-5.5"),
            ("/v1/%72esponses", {"x-real-ip": "10.0.0.2"}, "gpt-5.5-low"),
            ("/v1/responses", {"user-agent": "codex_exec/0.169.0", "originator": "codex_exec"}, "gpt-5.1-codex"),
            ("/v1/responses", {"x-forwarded-for": "10.0.0.3"}, "gpt-5.5"),
        ]
        statuses = []
        for path, headers, model in ways:
            sent = {"authorization": f"Bearer {secret.reveal()}", **headers}
            answer = await scene.client.post(path, json={**TEXT, "model": model}, headers=sent)
            statuses.append(answer.status_code)
        assert statuses == [200] * 4 + [429] * 2


async def test_every_request_leaves_one_record_without_content(tmp_path: Path) -> None:
    """Good, refused, unauthenticated, unknown path, departed: who, what came of it, which id; never a word of it."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        secret = "the-very-secret-words"
        good = await scene.relay({"input": secret, "instructions": secret})
        bad = await scene.relay({"input": secret, "background": True})
        unknown = await bare(scene, "POST", "/v1/responses", {"authorization": "Bearer nope"})
        nowhere = await scene.client.get("/nowhere/" + secret)
        upstream.next(streams.idle(after=5))
        async with line(scene) as client:
            await client.send(client.request())
            await client.until(b"response.output_text.delta")
        await eventually(lambda: nothing_left(scene))
        store = scene.gateway.gateway.store
        wanted = {answer.headers["x-request-id"] for answer in (good, bad, unknown, nowhere)}

        found: dict[str, Any] = {}
        for _ in range(200):
            records = await store.search_audit(action="request.*")
            found = {str(one.request_id): one for one in records}
            if len(found) >= 5:
                break
            await asyncio.sleep(0.02)
        assert wanted <= set(found)
        assert len(found) == 5
        record = found[good.headers["x-request-id"]]
        assert (record.outcome, record.model, record.tenant_id, record.input_tokens) == ("ok", "gpt-5.5", "demo", 100)
        assert record.target == good.account
        assert found[bad.headers["x-request-id"]].outcome == "invalid_request"
        assert found[unknown.headers["x-request-id"]].actor == "anonymous"
        assert found[unknown.headers["x-request-id"]].outcome == "invalid_api_key"
        assert sorted(one.outcome for one in found.values()).count("client_gone") == 1
        assert secret not in repr(found)
