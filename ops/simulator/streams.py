"""One answer of the model as a sequence of steps: bytes to send, and what else happens in between.

``answer_steps`` is a generator without I/O: it yields whole SSE events as bytes, and Pause, Gate, Cut and Hang where
the plan wants them. The event shapes are those that both Codex CLI 0.169.0 and the OpenAI SDK accept; every event
of the Responses API carries a ``sequence_number``, private ones do not.

Faults happen after ``plan.at`` deltas; 0 is right after ``response.created``, and more than there are means right
before the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ops.simulator.script import Plan, ToolCall
from ops.simulator.tools import fit_call

WORDS = ("The ", "simulated ", "model ", "answers ", "with ", "plain ", "words, ", "again. ")
COMPACTED = 1 << 30
REASONING_SUMMARY = "**Thinking it over** The simulated model weighs its next step."


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Gate:
    name: str


@dataclass(frozen=True, slots=True)
class Cut:
    """``fin`` | ``rst`` | ``mid`` | ``eof``; ``tail`` is the half event that ``mid`` still sends."""

    how: str
    tail: bytes = b""


@dataclass(frozen=True, slots=True)
class Hang:
    pass


Step = bytes | Pause | Gate | Cut | Hang


@dataclass(frozen=True, slots=True)
class Answer:
    """What the steps are made of. ``seal`` turns a purpose into encrypted content of the answering account."""

    plan: Plan
    body: dict[str, Any]
    model: str
    created_at_s: float
    input_tokens: int
    cached_tokens: int
    rate_limits: dict[str, Any] | None
    new_id: Callable[[str], str]
    seal: Callable[[str], str]


def tool_turn(items: list[Any]) -> int:
    """How many tool outputs follow the last user message: the number of the model's turn in its loop.

    A compaction item after it stands for all of them: what was asked for is taken as done.
    """
    turn = 0
    for item in items:
        if not isinstance(item, dict):
            continue
        if item.get("role") == "user":
            turn = 0
        elif str(item.get("type", "")).endswith("call_output"):
            turn += 1
        elif item.get("type") == "compaction":
            turn = COMPACTED
    return turn


def text_of(item: dict[str, Any]) -> str:
    """The text of a message item, whichever of its two shapes."""
    content = item.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def last_user_text(items: list[Any]) -> str:
    for item in reversed(items):
        if isinstance(item, dict) and item.get("role") == "user":
            return text_of(item)
    return ""


class _Encoder:
    """Numbers the events of one stream."""

    def __init__(self) -> None:
        self._sequence = 0
        self._encode = msgspec.json.Encoder().encode

    def event(self, kind: str, **members: Any) -> bytes:
        data = self._encode({"type": kind, **members, "sequence_number": self._sequence})
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def private(self, kind: str, members: dict[str, Any]) -> bytes:
        return b"event: " + kind.encode() + b"\ndata: " + self._encode({"type": kind, **members}) + b"\n\n"


def response_object(answer: Answer, response_id: str) -> dict[str, Any]:
    """The Response at its beginning; what the request chose is echoed."""
    body = answer.body
    text = body.get("text") or {}
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(answer.created_at_s),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": None,
        "metadata": {},
        "model": answer.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": "medium", "summary": None, **(body.get("reasoning") or {})},
        "safety_identifier": None,
        "service_tier": body.get("service_tier") or "default",
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


class _Stream:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.plan = answer.plan
        self.encoder = _Encoder()
        self.response = response_object(answer, answer.new_id("resp_"))
        self.output: list[dict[str, Any]] = []
        self.deltas = 0
        self.fault_done = False
        self.characters = 0

    # -- the frame

    def steps(self) -> Iterator[Step]:
        plan, event = self.plan, self.encoder.event
        yield event("response.created", response=self.response)
        yield from self._faults(last=False)
        if self.answer.rate_limits is not None:
            yield self.encoder.private("codex.rate_limits", self.answer.rate_limits)
        if plan.noise:
            yield from self._noise()
        yield event("response.in_progress", response=self.response)
        for make in self._items():
            yield from make
        yield from self._faults(last=True)
        done = {
            **self.response,
            "status": "completed",
            "output": [] if plan.no_output else self.output,
            "usage": self._usage(),
        }
        yield event("response.completed", response=done)

    def _items(self) -> Iterator[Iterator[Step]]:
        items = self.answer.body["input"]
        if items and isinstance(items[-1], dict) and items[-1].get("type") == "compaction_trigger":
            yield self._compaction()
            return
        if self.plan.reasoning:
            yield self._reasoning()
        turn = tool_turn(items)
        if turn < len(self.plan.tools):
            yield self._tool(fit_call(self.plan.tools[turn], self.answer.body))
        else:
            yield self._message()

    def _usage(self) -> dict[str, Any]:
        plan = self.plan
        reasoning = plan.reasoning_tokens if plan.reasoning_tokens is not None else 64 * plan.reasoning
        read = self.answer.input_tokens
        if plan.input_tokens is not None and tool_turn(self.answer.body["input"]) < COMPACTED:
            read = plan.input_tokens
        cached = plan.cached_tokens if plan.cached_tokens is not None else min(self.answer.cached_tokens, read)
        written = plan.output_tokens if plan.output_tokens is not None else -(-self.characters // 4) + reasoning
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": read + written,
        }

    # -- what goes wrong

    def _faults(self, *, last: bool) -> Iterator[Step]:
        """Once, when ``at`` deltas are out or the end is near. A terminal fault ends the stream by Cut("eof")."""
        plan = self.plan
        if self.fault_done or plan.at < 0 or (self.deltas < plan.at and not last):
            return
        self.fault_done = True
        if plan.gate is not None:
            yield Gate(plan.gate)
        if plan.fail is not None:
            error: dict[str, Any] = {"code": plan.fail, "message": plan.message or f"Simulated {plan.fail}."}
            if plan.resets_in_s is not None:
                error["resets_at"] = int(self.answer.created_at_s) + plan.resets_in_s
                error["resets_in_seconds"] = plan.resets_in_s
            failed = {**self.response, "status": "failed", "error": error}
            yield self.encoder.event("response.failed", response=failed)
            yield Cut("eof")
        if plan.error is not None:
            text = plan.message or f"Simulated {plan.error}."
            flat = {"code": plan.error, "message": text, "param": None}
            members = {"error": {"type": plan.error, **flat}} if plan.nested else flat
            yield self.encoder.event("error", **members)
            yield Cut("eof")
        if plan.incomplete is not None:
            stopped = {
                **self.response,
                "status": "incomplete",
                "incomplete_details": {"reason": plan.incomplete},
                "output": self.output,
                "usage": self._usage(),
            }
            yield self.encoder.event("response.incomplete", response=stopped)
            yield Cut("eof")
        if plan.cut is not None:
            half = self.encoder.event("response.output_text.delta", item_id="msg_cut", delta="never whole")
            yield Cut(plan.cut, half[: len(half) // 2])
        if plan.hang == "stream":
            yield Hang()

    def _noise(self) -> Iterator[Step]:
        yield b": keep-alive\n\n"
        yield self.encoder.private("keepalive", {})
        yield self.encoder.private("response.metadata", {"headers": {"openai-model": self.answer.model}})
        yield self.encoder.private("codex.simulated_noise", {"note": "unknown on purpose"})

    def _delta(self, kind: str, **members: Any) -> Iterator[Step]:
        if self.plan.delay_ms:
            yield Pause(self.plan.delay_ms / 1000)
        self.characters += len(members["delta"])
        yield self.encoder.event(kind, **members)
        self.deltas += 1
        yield from self._faults(last=False)

    # -- output items

    def _added(self, item: dict[str, Any]) -> bytes:
        return self.encoder.event("response.output_item.added", output_index=len(self.output), item=item)

    def _done(self, item: dict[str, Any]) -> bytes:
        self.output.append(item)
        return self.encoder.event("response.output_item.done", output_index=len(self.output) - 1, item=item)

    def _pieces(self) -> Iterator[str]:
        plan = self.plan
        padding = "x" * plan.pad
        text = plan.text
        if text is None and plan.echo:
            text = last_user_text(self.answer.body["input"])
        if text is None:
            for n in range(plan.events):
                yield WORDS[n % len(WORDS)] + padding
            return
        size = max(1, -(-len(text) // max(1, plan.events)))
        for start in range(0, len(text), size):
            yield text[start : start + size] + padding

    def _message(self) -> Iterator[Step]:
        event = self.encoder.event
        place = {"item_id": self.answer.new_id("msg_"), "output_index": len(self.output), "content_index": 0}
        item = {"id": place["item_id"], "type": "message", "role": "assistant"}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        yield self._added({**item, "status": "in_progress", "content": []})
        yield event("response.content_part.added", **place, part=part)
        said: list[str] = []
        for piece in self._pieces():
            said.append(piece)
            yield from self._delta("response.output_text.delta", **place, delta=piece, logprobs=[])
        text = "".join(said)
        yield event("response.output_text.done", **place, text=text, logprobs=[])
        whole = {**part, "text": text}
        yield event("response.content_part.done", **place, part=whole)
        yield self._done({**item, "status": "completed", "content": [whole]})

    def _reasoning(self) -> Iterator[Step]:
        event = self.encoder.event
        place = {"item_id": self.answer.new_id("rs_"), "output_index": len(self.output), "summary_index": 0}
        item = {"id": place["item_id"], "type": "reasoning"}
        part = {"type": "summary_text", "text": REASONING_SUMMARY}
        yield self._added({**item, "summary": [], "encrypted_content": None})
        yield event("response.reasoning_summary_part.added", **place, part={**part, "text": ""})
        half = len(REASONING_SUMMARY) // 2
        for piece in (REASONING_SUMMARY[:half], REASONING_SUMMARY[half:]):
            yield event("response.reasoning_summary_text.delta", **place, delta=piece)
        yield event("response.reasoning_summary_text.done", **place, text=REASONING_SUMMARY)
        yield event("response.reasoning_summary_part.done", **place, part=part)
        asked = "reasoning.encrypted_content" in (self.answer.body.get("include") or ())
        sealed = self.answer.seal("reasoning") if asked else None
        yield self._done({**item, "summary": [part], "encrypted_content": sealed})

    def _tool(self, call: ToolCall) -> Iterator[Step]:
        event = self.encoder.event
        kind, key = ("custom_tool_call", "input") if call.custom else ("function_call", "arguments")
        stem = "response.custom_tool_call_input" if call.custom else "response.function_call_arguments"
        place = {"item_id": self.answer.new_id("ctc_" if call.custom else "fc_"), "output_index": len(self.output)}
        item = {
            "id": place["item_id"],
            "type": kind,
            "status": "in_progress",
            "call_id": self.answer.new_id("call_"),
            "name": call.name,
        }
        if call.namespace is not None:
            item["namespace"] = call.namespace
        yield self._added({**item, key: ""})
        half = len(call.arguments) // 2
        for piece in (call.arguments[:half], call.arguments[half:]):
            yield from self._delta(f"{stem}.delta", **place, delta=piece)
        name = {} if call.custom else {"name": call.name}
        yield event(f"{stem}.done", **place, **name, **{key: call.arguments})
        yield self._done({**item, "status": "completed", key: call.arguments})

    def _compaction(self) -> Iterator[Step]:
        item = {"id": self.answer.new_id("cmp_"), "type": "compaction"}
        yield self._added({**item, "encrypted_content": ""})
        yield self._done({**item, "encrypted_content": self.answer.seal("compaction")})


def answer_steps(answer: Answer) -> Iterator[Step]:
    """The whole answer; after a Cut or Hang nothing more is to be taken."""
    return _Stream(answer).steps()
