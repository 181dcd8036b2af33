"""Methods, paths and types that are not served: a status in our shape, no CORS, nothing that tells of the inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.faulty import FaultyUpstream
from tests.flow.raw import line
from tests.flow.stage import Stage, stage

pytestmark = pytest.mark.fault("B51")

GET_PATHS = (
    "/v1/models",
    "/v1/models/gpt-5.5",
    "/backend-api/codex/models",
    "/backend-api/wham/usage",
    "/backend-api/wham/accounts/check",
    "/backend-api/wham/settings/user",
    "/api/accounts/v1/user-auth-credential/whoami",
    "/healthz",
    "/readyz",
    "/metrics",
)
POST_PATHS = ("/v1/responses", "/backend-api/codex/responses")
NOWHERE = (
    "/",
    "/v1",
    "/v1/",
    "/v1/responses/",
    "/v1//responses",
    "/V1/responses",
    "/v1/responses/resp_1",
    "/v1/%2e%2e/v1/responses",
    "/v1/../v1/responses",
    "/v1/responses%00",
    "/v1/responses;a=b",
    "/v1/chat",
    "/docs",
    "/openapi.json",
    "/debug",
    "/.env",
    "/admin",
)
BODY = b'{"model": "gpt-5.5", "input": "hello", "stream": true}'


def plain(headers: object) -> None:
    """No CORS, no server banner, on any answer."""
    names = {str(name).lower() for name in headers}  # type: ignore[attr-defined]  # httpx.Headers
    assert not [name for name in names if name.startswith("access-control-")]
    assert "server" not in names
    assert "x-powered-by" not in names


async def ask(scene: Stage, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    url = scene.gateway.url + path
    sent = {"content-type": "application/json", "origin": "https://evil.test", **headers}
    answer = await scene.client.request(method, url, headers=sent, content=BODY if method != "HEAD" else b"")
    plain(answer.headers)
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.headers["content-type"] == "application/json"
        assert set(answer.json()["error"]) >= {"message", "type", "code", "param"}
        assert "x-request-id" in answer.headers
        assert "Traceback" not in answer.text
    return answer.status_code, dict(answer.headers)


async def test_every_route_takes_its_methods_and_no_other(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            for path in (*GET_PATHS, *POST_PATHS):
                status, headers = await ask(scene, method, path)
                assert status == 405, (method, path)
                assert headers["allow"] in ("GET", "GET, HEAD", "POST")
        for path in GET_PATHS:
            assert (await ask(scene, "GET", path))[0] == 200, path
            assert (await ask(scene, "POST", path))[0] == 405, path
        for path in POST_PATHS:
            assert (await ask(scene, "GET", path))[0] == 405
            assert (await ask(scene, "HEAD", path))[0] == 405
        assert upstream.requests == 0


async def test_a_preflight_gets_no_permission(tmp_path: Path) -> None:
    wish = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        assert (await ask(scene, "OPTIONS", "/v1/responses", **wish))[0] == 405
        good = await scene.relay(origin="https://evil.test")
        assert good.status == 200
        plain(good.headers)


async def test_paths_match_exactly_or_not_at_all(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for path in NOWHERE:
            async with line(scene) as client:
                await client.send(client.request(path=path))
                assert await client.error() in ((404, "not_found"), (400, "invalid_request")), path
        assert upstream.requests == 0


async def test_a_head_answer_has_no_body(tmp_path: Path) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for path in ("/v1/models", "/healthz", "/readyz"):
            status, headers = await ask(scene, "HEAD", path)
            assert status == 200
            assert int(headers["content-length"]) > 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_another_content_type_is_refused(tmp_path: Path, kind: str) -> None:
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        answer = await scene.post(BODY, content_type=kind)
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
        assert upstream.requests == 0


async def test_an_upgrade_to_websocket_gets_426(tmp_path: Path) -> None:
    """The one answer that the Codex CLI takes silently; from the gateway itself, no account is asked."""
    fields = {
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-key": "eA==",
        "sec-websocket-version": "13",
    }
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        for path in POST_PATHS:
            answer = await scene.client.get(path, headers=fields)
            assert answer.status_code == 426
            assert answer.json()["error"]["code"] == "upgrade_required"
        assert upstream.connections == 0 or upstream.requests == 0
