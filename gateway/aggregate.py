"""One Response object out of a stream, for clients that did not ask for one. Pure over events.

Only the few events that count are decoded: ``response.created``, every ``response.output_item.done`` and the
terminal one; deltas are skipped by a substring test. The ChatGPT backend may leave ``output`` of the last event
empty, so finished items are collected as they come.

Every member that the OpenAI types and the Open Responses schema require is there: from the upstream, else from what
the client sent, else the default. Labels that never went up (metadata, user, safety_identifier) are the client's.
A response that failed becomes an HTTP error, one that is incomplete stays a 200, one without an end is a 502.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway.errors import GatewayError, usage_limit
from upstream.sse import split_events

_CREATED: Final = "response.created"
_ITEM: Final = "response.output_item.done"
_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "error"})
_MARKS: Final = (b"output_item.done", b"response.created", b"response.completed", b"response.incomplete")
_FAILURE_MARKS: Final = (b"response.failed", b'"error"')


class _ItemEvent(msgspec.Struct):
    item: Raw
    output_index: int | None = None


class _Fault(msgspec.Struct):
    code: str | None = None
    message: str | None = None
    type: str | None = None
    param: str | None = None
    plan_type: str | None = None
    resets_at: float | None = None


class _FailedResponse(msgspec.Struct):
    error: _Fault | None = None


class _Failure(_Fault):
    """``response.failed`` has the fault in the response, a bare ``error`` at the top or under ``error``."""

    response: _FailedResponse | None = None
    error: _Fault | None = None


class _Envelope(msgspec.Struct):
    response: dict[str, Raw] | None = None


_ITEM_EVENT: Final = msgspec.json.Decoder(_ItemEvent)
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_FAILURE: Final = msgspec.json.Decoder(_Failure)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_OBJECTS: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_RAWS: Final = msgspec.json.Decoder(list[Raw])

_DEFAULTS: Final[dict[str, object]] = {
    "created_at": 0,
    "completed_at": None,
    "incomplete_details": None,
    "model": "",
    "previous_response_id": None,
    "instructions": None,
    "error": None,
    "tools": [],
    "tool_choice": "auto",
    "truncation": "disabled",
    "parallel_tool_calls": True,
    "text": {},
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "top_logprobs": 0,
    "temperature": 1.0,
    "reasoning": {},
    "usage": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "store": False,
    "background": False,
    "service_tier": "default",
    "metadata": {},
    "safety_identifier": None,
    "prompt_cache_key": None,
}
_LABELS: Final = ("metadata", "safety_identifier", "user")
_TOOL: Final[dict[str, object]] = {"description": None, "parameters": None, "strict": None}
_TEXT: Final[dict[str, object]] = {"format": {"type": "text"}}
_REASONING: Final[dict[str, object]] = {"effort": None, "summary": None}
_USAGE: Final[dict[str, object]] = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
_INPUT_DETAILS: Final[dict[str, object]] = {"cached_tokens": 0, "cache_write_tokens": 0}
_OUTPUT_DETAILS: Final[dict[str, object]] = {"reasoning_tokens": 0}
_ITEM_DEFAULTS: Final[dict[bytes, dict[str, object]]] = {
    b'"message"': {"role": "assistant", "status": "completed", "content": []},
    b'"function_call"': {"status": "completed"},
    b'"custom_tool_call"': {"status": "completed"},
    b'"reasoning"': {"summary": []},
}
_PART_DEFAULTS: Final[dict[str, object]] = {"annotations": []}
_NULL: Final = Raw(b"null")


class Aggregator:
    """Feed it every block of the stream, in order, then ask for the result."""

    def __init__(self, echo: dict[str, object]) -> None:
        """``echo`` is what the client sent, by member name (see adapt)."""
        self._echo = echo
        self._created: bytes | None = None
        self._items: list[tuple[int, Raw]] = []
        self._end: tuple[str, bytes] | None = None

    def feed(self, block: bytes) -> None:
        """Takes a block of whole events. Raises GatewayError ``upstream_error`` when an event is not JSON."""
        if not any(mark in block for mark in _MARKS) and not any(mark in block for mark in _FAILURE_MARKS):
            return
        for event in split_events(block):
            kind = event.type
            if kind == _ITEM:
                item = _decoded(_ITEM_EVENT, event.data)
                index = len(self._items) if item.output_index is None else item.output_index
                self._items.append((index, item.item))
            elif kind == _CREATED:
                self._created = event.data
            elif kind in _ENDS and self._end is None:
                self._end = (kind, event.data)

    def result(self) -> bytes:
        """The Response object as JSON. Raises GatewayError when the response failed or has no end."""
        if self._end is None:
            raise GatewayError("upstream_error", "The upstream's stream ended before the response did. Try again.")
        kind, data = self._end
        if kind in ("response.failed", "error"):
            raise _failure(_decoded(_FAILURE, data))
        created = {} if self._created is None else _response(self._created)
        final = _response(data)
        merged = {**created, **{name: raw for name, raw in final.items() if raw != _NULL or name not in created}}
        try:
            return msgspec.json.encode(self._complete(merged, kind.removeprefix("response.")))
        except (msgspec.DecodeError, RecursionError):
            raise GatewayError("upstream_error", "The upstream's response was not understood. Try again.") from None

    def _complete(self, upstream: dict[str, Raw], status: str) -> dict[str, object]:
        whole: dict[str, object] = {"id": "resp_unnamed", "object": "response", "status": status, "output": []}
        whole |= _DEFAULTS
        whole |= self._echo
        whole |= {name: raw for name, raw in upstream.items() if raw != _NULL}
        whole |= {name: self._echo[name] for name in _LABELS if name in self._echo}
        whole |= {"object": "response", "status": status, "store": False, "background": False}
        whole["output"] = self._output(upstream.get("output"))
        whole["tools"] = [_filled(tool, _TOOL) if _is_function(tool) else tool for tool in _objects(whole["tools"])]
        whole["text"] = _filled(whole["text"], _TEXT)
        whole["reasoning"] = _filled(whole["reasoning"], _REASONING)
        whole["usage"] = _usage(whole["usage"])
        for name in ("created_at", "completed_at"):
            whole[name] = _whole_seconds(whole[name])
        if status == "incomplete" and whole["incomplete_details"] is None:
            whole["incomplete_details"] = {"reason": "unknown"}
        return whole

    def _output(self, final: Raw | None) -> list[object]:
        """The last event's items; what they lack comes from the items as they were finished."""
        collected = [raw for _, raw in sorted(self._items, key=lambda pair: pair[0])]
        given = [] if final is None or final == _NULL else _RAWS.decode(final)
        output: list[object] = []
        for index, raw in enumerate(given or collected):
            members = _MEMBERS.decode(raw)
            if "id" not in members and given and index < len(collected):
                members = _MEMBERS.decode(collected[index])
            output.append(_item(members, index))
        return output


def _item(members: dict[str, Raw], index: int) -> dict[str, object]:
    kind = bytes(members.get("type", _NULL))
    item: dict[str, object] = {"id": f"item_{index}", **_ITEM_DEFAULTS.get(kind, {})}
    item |= {name: raw for name, raw in members.items() if raw != _NULL}
    if kind == b'"message"':
        item["content"] = [
            _filled(part, _PART_DEFAULTS) if bytes(part.get("type", _NULL)) == b'"output_text"' else part
            for part in _objects(item["content"])
        ]
    return item


def _objects(value: object) -> list[dict[str, Any]]:
    if isinstance(value, Raw):
        return _OBJECTS.decode(value)
    return value if isinstance(value, list) else []


def _filled(value: object, defaults: dict[str, object]) -> dict[str, object]:
    """The members of ``value`` with the defaults for those that are missing or null."""
    if isinstance(value, Raw):
        value = {} if value == _NULL else _MEMBERS.decode(value)
    members = value if isinstance(value, dict) else {}
    return {**defaults, **{name: member for name, member in members.items() if member != _NULL}}


def _is_function(tool: dict[str, Any]) -> bool:
    kind = tool.get("type")
    return isinstance(kind, Raw) and kind == Raw(b'"function"')


def _usage(value: object) -> dict[str, object] | None:
    if value is None:
        return None
    usage = _filled(value, _USAGE)
    usage["input_tokens_details"] = _filled(usage.get("input_tokens_details"), _INPUT_DETAILS)
    usage["output_tokens_details"] = _filled(usage.get("output_tokens_details"), _OUTPUT_DETAILS)
    return usage


def _whole_seconds(value: object) -> int | None:
    if isinstance(value, Raw):
        value = msgspec.json.decode(value)
    return int(value) if isinstance(value, int | float) else None


def _response(data: bytes) -> dict[str, Raw]:
    response = _decoded(_ENVELOPE, data).response
    return {} if response is None else response


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GatewayError("upstream_error", "The upstream sent an event that is not understood. Try again.") from None


# -- failures ------------------------------------------------------------------------------------------------------

_OVERLOADED: Final = frozenset({"server_is_overloaded", "slow_down"})
_QUOTA: Final = frozenset({"insufficient_quota", "usage_not_included"})
_REQUEST: Final = re.compile(r"context_length_exceeded|invalid_[a-z_]{1,50}|[a-z_]{0,40}(?:policy|image)[a-z_]{0,40}")
_AGAIN: Final = re.compile(r"try again in\s*(\d{1,6}(?:\.\d{1,6})?)\s*(ms|s)", re.IGNORECASE)
_LONGEST_MESSAGE: Final = 1000


def _failure(event: _Failure) -> GatewayError:
    """The HTTP error for a response that failed; request faults keep the upstream's code and words."""
    fault = (event.response.error if event.response is not None else event.error) or event
    code = fault.code or fault.type or ""
    message = (fault.message or "The upstream gave no reason.")[:_LONGEST_MESSAGE]
    if code == "usage_limit_reached":
        return usage_limit(None, fault.resets_at, None, fault.plan_type)
    if code == "rate_limit_exceeded":
        found = _AGAIN.search(message)
        wait_s = 1.0 if found is None else float(found[1]) / (1000.0 if found[2].lower() == "ms" else 1.0)
        return GatewayError("rate_limited", message, retry_after_s=wait_s)
    if code in _OVERLOADED:
        return GatewayError("overloaded", "The upstream is overloaded. Try again soon.", retry_after_s=1.0)
    if code in _QUOTA:
        return GatewayError(code, message)
    if _REQUEST.fullmatch(code):
        param = "input" if code == "context_length_exceeded" else fault.param
        return GatewayError(code, message, status=400, param=param)
    return GatewayError("upstream_error", f"The upstream failed in the middle of the response: {message}")
