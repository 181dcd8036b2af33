"""What the console sends: headers on every answer, tags, methods, and nothing that is not in the table."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from gateway.console.app import POLICY, SECURITY_HEADERS, ConsoleApp
from gateway.console.files import load_files
from gateway.exchange import new_exchange

APP = ConsoleApp()


async def ask(path: str, method: str = "GET", *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("no body is ever read")

    scope = {"type": "http", "method": method, "path": path, "query_string": b"x=../../etc", "headers": list(headers)}
    await APP(scope, receive, send)
    names = [name for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:])


@pytest.mark.parametrize("path", sorted(APP.paths))
async def test_each_file_is_sent_with_its_type_tag_and_policy(path: str) -> None:
    status, headers, body = await ask(path)
    found = load_files()[path]
    assert (status, body) == (200, found.body)
    assert headers[b"content-type"] == found.kind
    assert headers[b"etag"] == found.etag
    assert headers[b"cache-control"] == b"no-cache"
    assert headers[b"content-length"] == str(len(body)).encode()
    assert set(SECURITY_HEADERS) <= set(headers.items())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/console", "/console/nothing"])
async def test_every_answer_carries_the_policy(path: str, method: str) -> None:
    status, headers, _ = await ask(path, method)
    assert status == (405 if method not in ("GET", "HEAD") else 200 if path == "/console" else 404)
    assert set(SECURITY_HEADERS) <= set(headers.items())
    assert (headers.get(b"allow") == b"GET, HEAD") is (status == 405)


def test_the_policy_lets_nothing_inline_and_nobody_else_in() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.decode().split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


async def test_a_head_has_the_headers_of_a_get_and_no_body() -> None:
    _, got, body = await ask("/console/static/main.js")
    status, headers, nothing = await ask("/console/static/main.js", "HEAD")
    assert (status, headers, nothing) == (200, got, b"")
    assert int(headers[b"content-length"]) == len(body)


@pytest.mark.parametrize("form", [b"%s", b"W/%s", b'"other", %s', b"*"])
async def test_who_has_the_content_gets_a_304(form: bytes) -> None:
    etag = load_files()["/console"].etag
    given = form % etag if b"%s" in form else form
    status, headers, body = await ask("/console", "GET", (b"if-none-match", given))
    assert (status, body, headers[b"etag"]) == (304, b"", etag)
    assert b"content-length" not in headers
    assert set(SECURITY_HEADERS) <= set(headers.items())


async def test_who_has_other_content_gets_it_whole() -> None:
    status, _, body = await ask("/console", "GET", (b"if-none-match", b'"0123"'))
    assert status == 200
    assert body


TRAVERSALS = [
    "/console/static/../app.py",
    "/console/static/../../app.py",
    "/console/static/%2e%2e/app.py",
    "/console/static/..%2fapp.py",
    "/console/static/..\\app.py",
    "/console/static//etc/passwd",
    "/console/static//main.js",
    "/console/static/./main.js",
    "/console/static/main.js/",
    "/console/static/main.js\x00",
    "/console/static/main.js\n",
    "/console/static/MAIN.JS",
    "/console/static/",
    "/console/static",
    "/console/static/index.html",
    "/console/static/pages",
    "/console/static/pages/",
    "/console/static/pages/../main.js",
    "/console/../admin/api/session",
    "/console/app.py",
    "/console/__init__.py",
    "/console/static/.git/config",
    "/console/static/\uff0e\uff0e/app.py",
    "/console/accounts/",
    "/console/accounts/../accounts",
    "//console",
    "/consolex",
    "/",
    "",
]


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("decode", [str, unquote])
async def test_what_is_not_in_the_table_does_not_exist(path: str, decode: Any) -> None:
    status, headers, body = await ask(decode(path))
    assert status == 404
    assert headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert b"import" not in body
    assert path.encode("utf-8", "replace") not in body or path in ("", "/", "/console")


async def test_the_exchange_is_told_what_was_sent() -> None:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/console/x", "query_string": b"", "headers": []}
    exchange = new_exchange(scope, 0.0, "req_1")
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await APP(scope, send, send)  # type: ignore[arg-type]
    assert (exchange.route, exchange.status) == ("console", 404)
    assert (b"x-request-id", b"req_1") in sent[0]["headers"]


async def test_other_protocols_are_not_answered() -> None:
    async def send(message: Any) -> None:
        raise AssertionError(message)

    await APP({"type": "websocket", "path": "/console"}, send, send)  # type: ignore[arg-type]
