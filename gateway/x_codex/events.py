"""Lines of a run's log in, events of the Responses API out. Pure; one Translator per run.

    log of the run                     events
    agent_message                      a message: output_item.added, content_part.added, output_text.delta (one: the
                                       CLI gives whole messages), output_text.done, content_part.done,
                                       output_item.done
    reasoning, command_execution,      a reasoning item with one summary text (what was thought, which command ended
    file_change                        how, which files changed); never what a command printed
    everything else                    nothing

Rules that hold:

* sequence numbers begin at 0 and have no gap; ids are made of the response's, so a run translated twice is the same;
* what a container says is untrusted text: it is bounded, and becomes JSON strings and nothing else;
* ``complete`` and ``fail`` repeat every finished item in the Response object, which satisfies the Open Responses
  schema and the SDK's types;
* text comes from messages alone, so ``output_text`` of a client library is what the agent said.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sandbox.types import RunEvent, Usage

TEXT_MAX: Final = 1_000_000
SUMMARY_MAX: Final = 4_000
COMMAND_MAX: Final = 400
FILES_MAX: Final = 20
_COMPLETED: Final = "codex.item.completed"
_BARE: Final[dict[str, Any]] = {
    "background": False,
    "completed_at": None,
    "error": None,
    "frequency_penalty": 0.0,
    "incomplete_details": None,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "object": "response",
    "parallel_tool_calls": True,
    "presence_penalty": 0.0,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "usage": None,
}


class Translator:
    """``begin``, then ``feed`` for every line, then ``complete`` or ``fail`` once. Each gives whole SSE blocks."""

    def __init__(self, name: str, model: str, created_at_s: float, effort: str | None = None) -> None:
        """``name`` is what ids are made of; ``created_at_s`` is Unix."""
        self._name = name
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._response: dict[str, Any] = {
            **_BARE,
            "id": f"resp_{name}",
            "created_at": int(created_at_s),
            "model": model,
            "reasoning": {"effort": effort, "summary": None},
        }

    def begin(self) -> bytes:
        response = self._whole("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def feed(self, line: RunEvent) -> bytes:
        """The events of one line; empty when it says nothing to the client."""
        if line.source != "codex" or line.kind != _COMPLETED:
            return b""
        item = line.data.get("item", line.data)
        if not isinstance(item, dict):
            return b""
        kind = item.get("type")
        if kind == "agent_message":
            text = _string(item.get("text"), TEXT_MAX)
            return self._message(text) if text else b""
        summary = _summary(kind, item)
        return self._reasoning(summary) if summary else b""

    def complete(self, usage: Usage, completed_at_s: float) -> bytes:
        response = self._whole("completed")
        response["completed_at"] = int(completed_at_s)
        response["usage"] = {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_input_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        return self._event("response.completed", response=response)

    def fail(self, code: str, message: str) -> bytes:
        response = self._whole("failed")
        response["error"] = {"code": code, "message": message}
        return self._event("response.failed", response=response)

    def _whole(self, status: str) -> dict[str, Any]:
        return {**self._response, "status": status, "output": list(self._output)}

    def _event(self, kind: str, **members: Any) -> bytes:
        event = {"type": kind, "sequence_number": self._number, **members}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), msgspec.json.encode(event))

    def _message(self, text: str) -> bytes:
        index = len(self._output)
        part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"id": f"msg_{self._name}_{index}", "type": "message", "role": "assistant"}
        done = {**item, "status": "completed", "content": [part]}
        self._output.append(done)
        where = {"item_id": item["id"], "output_index": index, "content_index": 0}
        return b"".join(
            (
                self._added(index, {**item, "status": "in_progress", "content": []}),
                self._event("response.content_part.added", **where, part={**part, "text": ""}),
                self._event("response.output_text.delta", **where, delta=text, logprobs=[]),
                self._event("response.output_text.done", **where, text=text, logprobs=[]),
                self._event("response.content_part.done", **where, part=part),
                self._event("response.output_item.done", output_index=index, item=done),
            )
        )

    def _reasoning(self, text: str) -> bytes:
        index = len(self._output)
        part = {"type": "summary_text", "text": text}
        item = {"id": f"rs_{self._name}_{index}", "type": "reasoning"}
        done = {**item, "summary": [part]}
        self._output.append(done)
        where = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        return b"".join(
            (
                self._added(index, {**item, "summary": []}),
                self._event("response.reasoning_summary_part.added", **where, part={**part, "text": ""}),
                self._event("response.reasoning_summary_text.delta", **where, delta=text),
                self._event("response.reasoning_summary_text.done", **where, text=text),
                self._event("response.reasoning_summary_part.done", **where, part=part),
                self._event("response.output_item.done", output_index=index, item=done),
            )
        )

    def _added(self, index: int, item: dict[str, Any]) -> bytes:
        return self._event("response.output_item.added", output_index=index, item=item)


def _summary(kind: object, item: dict[str, Any]) -> str:
    """One short text about what is not a message; empty for what is not told."""
    if kind == "reasoning":
        return _string(item.get("text"), SUMMARY_MAX)
    if kind == "command_execution":
        command = _string(item.get("command"), COMMAND_MAX)
        code = item.get("exit_code")
        ended = f"exit code {code}" if isinstance(code, int) else "no exit code"
        return f"Ran: {command} ({ended})" if command else ""
    if kind == "file_change":
        changes = item.get("changes")
        known = changes if isinstance(changes, list) else []
        paths = [_string(one.get("path"), COMMAND_MAX) for one in known if isinstance(one, dict)]
        more = f" and {len(paths) - FILES_MAX} more" if len(paths) > FILES_MAX else ""
        return f"Changed: {', '.join(paths[:FILES_MAX])}{more}" if paths else ""
    return ""


def _string(value: object, longest: int) -> str:
    """The text without what JSON cannot carry, cut at ``longest`` characters."""
    if not isinstance(value, str):
        return ""
    text = value.encode(errors="replace").decode()
    return text if len(text) <= longest else text[: longest - 1] + "…"
