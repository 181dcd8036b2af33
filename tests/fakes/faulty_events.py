"""Event streams of the Codex backend, as lists of whole SSE events in bytes.

With the default two deltas a stream has ten events: created, in_progress, output_item.added, content_part.added,
delta, delta, output_text.done, content_part.done, output_item.done, completed. So ``after=2`` in a mode means: the
two handshake events were sent and nothing visible; ``after=5`` means: one delta was. Text is raw UTF-8, as on the wire.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

HANDSHAKE = 2
"""Events of a stream that come before anything a user can see."""

DEFAULT_TEXT = ("Hel", "lo")


def event(kind: str, payload: Mapping[str, Any], eol: bytes = b"\n") -> bytes:
    """One SSE event with its empty line."""
    data = json.dumps({"type": kind, **payload}, ensure_ascii=False, separators=(",", ":")).encode()
    return b"event: " + kind.encode() + eol + b"data: " + data + eol + eol


def response_object(response_id: str, model: str, **fields: object) -> dict[str, Any]:
    """A Response with every field that the SDK's types require."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1_795_169_000,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
        **fields,
    }


def usage(input_tokens: int = 100, cached_tokens: int = 10, output_tokens: int = 5) -> dict[str, Any]:
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": input_tokens + output_tokens,
    }


def text_stream(
    parts: Sequence[str] = DEFAULT_TEXT,
    *,
    response_id: str = "resp_1",
    model: str = "gpt-5.5",
    eol: bytes = b"\n",
    sequence: Sequence[int] | None = None,
    counts: Mapping[str, Any] | None = None,
) -> list[bytes]:
    """A whole answer; ``sequence`` replaces the sequence numbers 0, 1, 2, ... for as far as it goes."""
    text = "".join(parts)
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    done = {**item, "status": "completed", "content": [content]}
    first = response_object(response_id, model)
    last = {**first, "status": "completed", "output": [done], "usage": dict(counts or usage())}
    told: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": first}),
        ("response.in_progress", {"response": first}),
        ("response.output_item.added", {"output_index": 0, "item": item}),
        ("response.content_part.added", {**place, "part": {**content, "text": ""}}),
        *(("response.output_text.delta", {**place, "delta": part, "logprobs": []}) for part in parts),
        ("response.output_text.done", {**place, "text": text, "logprobs": []}),
        ("response.content_part.done", {**place, "part": content}),
        ("response.output_item.done", {"output_index": 0, "item": done}),
        ("response.completed", {"response": last}),
    ]
    numbers = list(sequence or ()) + list(range(len(sequence or ()), len(told)))
    return [event(kind, {"sequence_number": n, **body}, eol) for n, (kind, body) in zip(numbers, told, strict=False)]


def failed(code: str, message: str = "it failed", *, response_id: str = "resp_1", number: int = 0) -> bytes:
    """``response.failed`` with ``code``."""
    error = {"code": code, "message": message}
    body = response_object(response_id, "gpt-5.5", status="failed", error=error)
    return event("response.failed", {"sequence_number": number, "response": body})


def incomplete(reason: str, *, response_id: str = "resp_1", number: int = 0) -> bytes:
    """``response.incomplete`` with ``reason``."""
    body = response_object(response_id, "gpt-5.5", status="incomplete", incomplete_details={"reason": reason})
    return event("response.incomplete", {"sequence_number": number, "response": body})


def error(code: str, message: str = "it failed", *, nested: bool = False, number: int = 0) -> bytes:
    """A bare ``error`` event, flat or with a nested ``error`` object."""
    fields = {"code": code, "message": message, "param": None}
    body: dict[str, Any] = {"error": {"type": code, **fields}} if nested else fields
    return event("error", {"sequence_number": number, **body})
