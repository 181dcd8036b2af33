"""One HTTP request becomes one RelayRequest: who, what, bound to what, with which fields."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import zstandard

from auth.types import Caller
from gateway.adapt import Mode, with_installation
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.models import ModelTable
from gateway.parse import RequestParser, affinity_digest, dialect_of, owner_digest, upstream_headers
from gateway.types import Dialect, RelayRequest
from store.records import Limits

BODY: dict[str, Any] = {"model": "gpt-5.5", "instructions": "", "input": [], "stream": True, "store": False}
JSON_TYPE = (b"content-type", b"application/json")
PARSER = RequestParser(ModelTable({"alias": "gpt-5.5"}), frozenset, Mode.RELAXED, 100_000, 60.0)


def caller(tenant: str = "t1", models: tuple[str, ...] = ()) -> Caller:
    return Caller(tenant, tenant, "k", frozenset({"relay"}), models, (), Limits(), Limits())


async def parse(
    body: bytes | dict[str, Any],
    headers: list[tuple[bytes, bytes]] | None = None,
    who: Caller | None = None,
) -> RelayRequest:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    exchange = Exchange("req_1", "POST", "/v1/responses", 1000.0, caller=who or caller())

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    return await PARSER.parse({"headers": [JSON_TYPE] if headers is None else headers}, receive, exchange)


async def test_a_request_is_parsed_with_its_deadline_and_identity() -> None:
    request = await parse(BODY)
    assert (request.id, request.model, request.stream, request.dialect) == ("req_1", "gpt-5.5", True, Dialect.SDK)
    assert request.deadline_s == 1060.0
    assert request.affinity is None
    assert request.owners == ()
    assert json.loads(b"".join(with_installation(request.adapted, "", False))) == BODY


@pytest.mark.fault("B50")
@pytest.mark.parametrize(("name", "pack"), [(b"zstd", zstandard.compress), (b"gzip", gzip.compress)])
async def test_compressed_bodies_are_read(name: bytes, pack: Any) -> None:
    request = await parse(pack(json.dumps(BODY).encode()), [JSON_TYPE, (b"content-encoding", name)])
    assert request.model == "gpt-5.5"


@pytest.mark.fault("B51")
@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/vnd.api+json", True),
        (b"text/plain", False),
        (b"multipart/form-data; boundary=x", False),
        (b"application/x-www-form-urlencoded", False),
        (b"", False),
    ],
)
async def test_the_content_type_must_be_json(kind: bytes, taken: bool) -> None:
    if taken:
        await parse(BODY, [(b"content-type", kind)])
        return
    with pytest.raises(GatewayError) as caught:
        await parse(BODY, [(b"content-type", kind)])
    assert caught.value.status == 415


async def test_a_missing_content_type_is_taken_as_json() -> None:
    await parse(BODY, [])


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        ((), "gpt-5.5", True),
        (("gpt-5.5",), "gpt-5.5", True),
        (("gpt-5.5",), "alias", True),
        (("alias",), "alias", True),
        (("alias",), "gpt-5.5", False),
        (("gpt-5.5",), "gpt-6", False),
        (("gpt-5.5",), "gpt-5.5-high", True),
    ],
)
async def test_a_key_for_some_models_opens_no_other(models: tuple[str, ...], model: str, allowed: bool) -> None:
    if allowed:
        await parse(BODY | {"model": model}, who=caller(models=models))
        return
    with pytest.raises(GatewayError) as caught:
        await parse(BODY | {"model": model}, who=caller(models=models))
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Dialect.SDK),
        ([(b"user-agent", b"OpenAI/Python 3.51.0")], Dialect.SDK),
        ([(b"user-agent", b"codexample/1.0")], Dialect.SDK),
        ([(b"user-agent", b"codex_exec/0.169.0 (Debian 12.0.0; x86_64)")], Dialect.CODEX),
        ([(b"originator", b"codex_cli_rs")], Dialect.CODEX),
        ([(b"originator", b"codex-tui")], Dialect.CODEX),
        ([(b"originator", b"my_app"), (b"x-codex-turn-metadata", b"{}")], Dialect.CODEX),
        ([(b"x-codex-window-id", b"t:0")], Dialect.CODEX),
    ],
)
def test_the_dialect_shows_in_the_head(headers: list[tuple[bytes, bytes]], expected: Dialect) -> None:
    assert dialect_of(headers) is expected


@pytest.mark.fault("C6")
def test_only_allowed_fields_go_up_each_once_and_clean() -> None:
    headers = [
        (b"authorization", b"Bearer secret"),
        (b"chatgpt-account-id", b"mine"),
        (b"cookie", b"a=b"),
        (b"connection", b"authorization"),
        (b"x-forwarded-for", b"1.2.3.4"),
        (b"session-id", b"s1"),
        (b"session-id", b"s2"),
        (b"thread-id", b"caf\xc3\xa9"),
        (b"x-codex-window-id", b"w" * 600),
        (b"x-codex-turn-metadata", b"{" + b" " * 5000 + b"}"),
        (b"x-client-request-id", b""),
        (b"originator", b"codex_exec"),
        (b"user-agent", b"codex_exec/1"),
        (b"version", b"1"),
    ]
    common = [(b"session-id", b"s1"), (b"x-codex-turn-metadata", b"{" + b" " * 5000 + b"}")]
    assert upstream_headers(headers, Dialect.SDK) == common
    identity = [(b"originator", b"codex_exec"), (b"user-agent", b"codex_exec/1"), (b"version", b"1")]
    assert upstream_headers(headers, Dialect.CODEX) == common + identity


async def test_affinity_is_the_cache_key_else_the_thread_else_the_session() -> None:
    thread = [(b"session-id", b"s"), (b"thread-id", b"t")]
    assert (await parse(BODY | {"prompt_cache_key": "k"}, thread)).affinity == affinity_digest("t1", b"k")
    assert (await parse(BODY, thread)).affinity == affinity_digest("t1", b"t")
    assert (await parse(BODY, thread[:1])).affinity == affinity_digest("t1", b"s")
    assert (await parse(BODY | {"prompt_cache_key": ""}, [])).affinity is None


async def test_owners_are_the_turn_state_and_the_sealed_parts_newest_first() -> None:
    items = [{"type": "reasoning", "encrypted_content": "old"}, {"type": "compaction", "encrypted_content": "new"}]
    request = await parse(BODY | {"input": items}, [(b"x-codex-turn-state", b"state")])
    assert request.owners == tuple(owner_digest("t1", value) for value in (b"state", b"new", b"old"))


def test_two_tenants_and_two_purposes_never_share_a_digest() -> None:
    digests = {
        owner_digest("t1", b"x"),
        owner_digest("t2", b"x"),
        affinity_digest("t1", b"x"),
        owner_digest("t1", b"y"),
        owner_digest("t" * 200, b"x"),
        owner_digest("t" * 201, b"x"),
    }
    assert len(digests) == 6
    assert {len(digest) for digest in digests} == {16}
