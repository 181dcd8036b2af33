"""A stream becomes one Response object that the SDK's types and the Open Responses schema accept."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from gateway.adapt import Terms, adapt
from gateway.aggregate import Aggregator
from gateway.errors import GatewayError, headers
from gateway.jsongate import parse_object
from gateway.models import ModelTable

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "openresponses-2026-04-24.json").read_text())
SCHEMA = {"$ref": "#/components/schemas/ResponseResource", "components": DOCUMENT["components"]}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
}
CALL: dict[str, Any] = {
    "id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"
}  # fmt: skip
REASONING: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
USAGE: dict[str, Any] = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 105,
}
CREATED: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1795169000, "status": "in_progress", "error": None,
    "incomplete_details": None, "instructions": None, "metadata": {}, "model": "gpt-5.5", "output": [],
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": "sess-1",
    "reasoning": {"effort": "medium", "summary": None}, "service_tier": "default", "store": False,
    "temperature": 1.0, "text": {"format": {"type": "text"}, "verbosity": "low"}, "tool_choice": "auto",
    "tools": [], "top_p": 1.0, "truncation": "disabled", "usage": None,
}  # fmt: skip


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def item(value: dict[str, Any], index: int | None = None) -> bytes:
    where = {} if index is None else {"output_index": index}
    return event("response.output_item.done", item=value, **where)


def done(**members: Any) -> bytes:
    return event("response.completed", response={**CREATED, "status": "completed", "usage": USAGE, **members})


def whole(*blocks: bytes, echo: dict[str, object] | None = None) -> dict[str, Any]:
    aggregator = Aggregator(echo or {})
    for block in blocks:
        aggregator.feed(block)
    found: dict[str, Any] = json.loads(aggregator.result())
    return found


def check(response: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(response)
    Response.model_validate(response)


START = event("response.created", response=CREATED)


def test_finished_items_are_collected_when_the_last_event_has_none() -> None:
    delta = event("response.output_text.delta", delta="response.completed", output_index=0)
    response = whole(START, delta, item(CALL, 2), item(MESSAGE, 1), item(REASONING, 0), done(output=[]))
    assert response["output"] == [REASONING, MESSAGE, CALL]
    assert response["usage"] == USAGE
    assert (response["id"], response["status"]) == ("resp_1", "completed")
    check(response)


def test_the_output_of_the_last_event_wins_and_a_missing_id_comes_from_the_items() -> None:
    final = {name: value for name, value in MESSAGE.items() if name != "id"}
    response = whole(START, item(MESSAGE, 0), done(output=[final]))
    assert response["output"] == [MESSAGE]
    check(response)


@pytest.mark.parametrize("created", [True, False])
def test_the_barest_stream_makes_a_whole_object(created: bool) -> None:
    bare = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    start = [event("response.created", response={"id": "resp_9"})] if created else []
    end = event("response.completed", response={"id": "resp_9"})
    response = whole(*start, item(bare), item({"type": "reasoning", "encrypted_content": None, "content": None}), end)
    assert response["output"][0]["content"][0]["annotations"] == []
    assert response["usage"] is None
    check(response)


def test_a_usage_with_holes_is_filled() -> None:
    response = whole(START, done(usage={"input_tokens": 3, "output_tokens_details": None}))
    assert response["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}
    check(response)


def test_labels_are_the_clients_and_settings_are_what_the_upstream_used() -> None:
    sent = {
        "model": "gpt-5.5", "input": "x", "metadata": {"a": "b"}, "safety_identifier": "s", "temperature": 0.1,
        "max_output_tokens": 64, "instructions": "be kind", "tools": [{"type": "function", "name": "f"}],
        "reasoning": {"effort": "low"}, "text": {"verbosity": "high"}, "tool_choice": {"type": "function", "name": "f"},
    }  # fmt: skip
    fields = parse_object(json.dumps(sent).encode())
    echo = adapt(fields, Terms(ModelTable()), False, lambda value: value).echo
    response = whole(START, done(instructions=None), echo=echo)
    assert response["metadata"] == {"a": "b"}
    assert response["safety_identifier"] == "s"
    assert response["temperature"] == 1.0
    assert response["instructions"] == "be kind"
    check(response)
    bare = whole(event("response.completed", response={"id": "r"}), echo=echo)
    assert bare["tools"] == [{"type": "function", "name": "f", "description": None, "parameters": None, "strict": None}]
    assert bare["reasoning"] == {"effort": "low", "summary": None}
    assert bare["max_output_tokens"] == 64
    check(bare)


def test_an_incomplete_response_is_an_answer() -> None:
    end = event("response.incomplete", response={**CREATED, "incomplete_details": {"reason": "max_output_tokens"}})
    response = whole(START, item(MESSAGE, 0), end)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    check(response)
    assert whole(event("response.incomplete", response={"id": "r"}))["incomplete_details"] == {"reason": "unknown"}


FAILURES: list[tuple[dict[str, Any], int, str]] = [
    ({"code": "rate_limit_exceeded", "message": "try again in 1.5s"}, 429, "rate_limited"),
    ({"code": "usage_limit_reached", "message": "x", "plan_type": "pro", "resets_at": 1795172000}, 429,
     "usage_limit_reached"),
    ({"code": "insufficient_quota", "message": "x"}, 429, "insufficient_quota"),
    ({"code": "usage_not_included", "message": "x"}, 429, "usage_not_included"),
    ({"code": "server_is_overloaded", "message": "x"}, 503, "overloaded"),
    ({"code": "slow_down", "message": "x"}, 503, "overloaded"),
    ({"code": "context_length_exceeded", "message": "x"}, 400, "context_length_exceeded"),
    ({"code": "invalid_prompt", "message": "x"}, 400, "invalid_prompt"),
    ({"code": "cyber_policy", "message": "x"}, 400, "cyber_policy"),
    ({"code": "image_too_large", "message": "x"}, 400, "image_too_large"),
    ({"code": "server_error", "message": "x"}, 502, "upstream_error"),
    ({"code": None, "message": None}, 502, "upstream_error"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "status", "code"), FAILURES)
@pytest.mark.parametrize("shape", ["failed", "nested", "flat"])
def test_a_response_that_failed_is_an_http_error(fault: dict[str, Any], status: int, code: str, shape: str) -> None:
    block = {
        "failed": event("response.failed", response={"id": "r", "status": "failed", "error": fault}),
        "nested": event("error", error=fault),
        "flat": event("error", **fault),
    }[shape]
    with pytest.raises(GatewayError) as caught:
        whole(START, block)
    assert (caught.value.status, caught.value.code) == (status, code)
    if code == "usage_limit_reached":
        assert caught.value.fields == {"plan_type": "pro", "resets_at": 1795172000}


def test_the_wait_that_the_upstream_names_is_passed_on() -> None:
    for text, wait in (("try again in 1.5s", b"2"), ("Try again in 500ms", b"1"), ("nonsense", b"1")):
        with pytest.raises(GatewayError) as caught:
            whole(event("error", code="rate_limit_exceeded", message=text))
        assert dict(headers(caught.value, 0))[b"retry-after"] == wait


@pytest.mark.fault("B14")
@pytest.mark.parametrize("blocks", [[], [START], [START, item(MESSAGE, 0)]])
def test_a_stream_without_an_end_is_no_answer(blocks: list[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        whole(*blocks)
    assert (caught.value.status, caught.value.code) == (502, "upstream_error")


@given(
    st.lists(
        st.sampled_from(
            [
                START, item(MESSAGE, 0), item(CALL), done(), b"data: {\n\n", b": comment\n\n",
                b'data: {"type":"response.completed"}\n\n', b'data: {"type":"response.completed","response":5}\n\n',
                b'data: {"type":"response.completed","response":{"output":5,"tools":5,"usage":5,"created_at":"x"}}\n\n',
                b'data: {"type":"response.output_item.done"}\n\n', b'data: {"type":"response.failed"}\n\n',
                b'data: {"type":"response.output_item.done","item":5}\n\n', b'data: {"type":"error"}\n\n',
            ]
        ),
        max_size=5,
    )
)  # fmt: skip
def test_whatever_comes_the_answer_is_an_object_or_an_error_of_ours(blocks: list[bytes]) -> None:
    response: dict[str, Any] = {"object": "error"}
    with contextlib.suppress(GatewayError):
        response = whole(*blocks)
    assert response["object"] in ("response", "error")
