"""What a run logs becomes events that the SDK's types and the Open Responses schema accept, numbered without a gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gateway.aggregate import Aggregator
from gateway.x_codex.events import COMMAND_MAX, TEXT_MAX, Translator
from sandbox.types import RunEvent, Usage

COMPONENTS = json.loads((Path(__file__).parents[2] / "data" / "openresponses-2026-04-24.json").read_text())[
    "components"
]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SCHEMAS = {
    schema["properties"]["type"]["enum"][0]: f"#/components/schemas/{name}"
    for name, schema in COMPONENTS["schemas"].items()
    if name.endswith("StreamingEvent")
}
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)


def line(kind: str = "codex.item.completed", source: str = "codex", **item: Any) -> RunEvent:
    return RunEvent(1, 1.0, source, kind, {"item": item})


def translator() -> Translator:
    return Translator("abc", "gpt-5.5", 1_795_000_000.9, "high")


def events(blocks: bytes) -> list[dict[str, Any]]:
    found = []
    for block in blocks.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def check(found: list[dict[str, Any]]) -> None:
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    for event in found:
        EVENT.validate_python(event)
        jsonschema.Draft202012Validator({"$ref": SCHEMAS[event["type"]], "components": COMPONENTS}).validate(event)


MESSAGE = line(type="agent_message", id="item_1", text="All tests pass.")
COMMAND = line(type="command_execution", command="pytest -q", aggregated_output="secret words", exit_code=0)
CHANGE = line(type="file_change", changes=[{"path": "a.py", "kind": "update"}, {"path": "b.py", "kind": "add"}])
THOUGHT = line(type="reasoning", text="Look at the tests first.")


def test_a_whole_run_is_a_valid_stream() -> None:
    work = translator()
    blocks = work.begin() + b"".join(work.feed(one) for one in (THOUGHT, COMMAND, CHANGE, MESSAGE))
    blocks += work.complete(Usage(10, 4, 3), 1_795_000_009.0)
    found = events(blocks)
    check(found)
    message = [
        "response.output_item.added", "response.content_part.added", "response.output_text.delta",
        "response.output_text.done", "response.content_part.done", "response.output_item.done",
    ]  # fmt: skip
    assert [event["type"] for event in found][-7:] == [*message, "response.completed"]
    last = Response.model_validate(found[-1]["response"])
    assert last.output_text == "All tests pass."
    assert [item.type for item in last.output] == ["reasoning", "reasoning", "reasoning", "message"]
    assert last.usage is not None
    assert (last.usage.total_tokens, last.usage.input_tokens_details.cached_tokens) == (13, 4)
    assert (last.status, last.id, last.created_at) == ("completed", "resp_abc", 1_795_000_000)
    summaries = [item["summary"][0]["text"] for item in found[-1]["response"]["output"][:3]]
    assert summaries == ["Look at the tests first.", "Ran: pytest -q (exit code 0)", "Changed: a.py, b.py"]
    assert b"secret words" not in blocks


def test_the_aggregated_object_is_valid_too() -> None:
    work, aggregator = translator(), Aggregator({"metadata": {"a": "b"}})
    for block in (work.begin(), work.feed(COMMAND), work.feed(MESSAGE), work.complete(Usage(1, 0, 1), 9.0)):
        aggregator.feed(block)
    whole = json.loads(aggregator.result())
    schema = {"$ref": "#/components/schemas/ResponseResource", "components": COMPONENTS}
    jsonschema.Draft202012Validator(schema).validate(whole)
    assert Response.model_validate(whole).output_text == "All tests pass."
    assert whole["metadata"] == {"a": "b"}


def test_a_failure_keeps_what_was_said() -> None:
    work = translator()
    found = events(work.begin() + work.feed(MESSAGE) + work.fail("upstream_timeout", "Too long."))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    response = found[-1]["response"]
    assert found[-1]["type"] == "response.failed"
    assert response["error"] == {"code": "upstream_timeout", "message": "Too long."}
    assert response["output"][0]["content"][0]["text"] == "All tests pass."
    jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/ResponseResource", "components": COMPONENTS}
    ).validate(response)


@pytest.mark.parametrize(
    "one",
    [
        line(kind="codex.item.started", type="agent_message", text="no"),
        line(source="setup", type="agent_message", text="no"),
        line(type="agent_message", text=""),
        line(type="agent_message", text=7),
        line(type="error", message="Model metadata not found"),
        line(type="command_execution", command=None),
        line(type="file_change", changes="x"),
        line(type="todo_list", items=[]),
        RunEvent(1, 1.0, "codex", "codex.item.completed", {"item": ["x"]}),
        RunEvent(1, 1.0, "codex", "codex.turn.completed", {"usage": {}}),
    ],
)
def test_the_rest_is_not_told(one: RunEvent) -> None:
    work = translator()
    work.begin()
    assert work.feed(one) == b""
    assert events(work.complete(Usage(), 1.0))[0]["sequence_number"] == 2


def test_an_item_may_lie_flat_in_its_line() -> None:
    flat = RunEvent(1, 1.0, "codex", "codex.item.completed", {"type": "agent_message", "text": "hi"})
    assert b'"delta":"hi"' in translator().feed(flat)


def test_texts_are_bounded() -> None:
    work = translator()
    found = events(work.feed(line(type="agent_message", text="x" * (TEXT_MAX + 5))))
    assert len(found[2]["delta"]) == TEXT_MAX
    found = events(work.feed(line(type="command_execution", command="y" * 10_000)))
    assert found[2]["delta"].count("y") == COMMAND_MAX - 1
    many = [{"path": f"f{n}"} for n in range(30)]
    assert b"and 10 more" in work.feed(line(type="file_change", changes=many))


@given(st.sampled_from(["agent_message", "reasoning", "command_execution", "file_change"]), JSON_LIKE, JSON_LIKE)
def test_whatever_a_container_says_the_stream_stays_valid(kind: str, first: Any, second: Any) -> None:
    work = translator()
    item = {"type": kind, "text": first, "command": first, "exit_code": second, "changes": second}
    blocks = work.begin() + work.feed(line(**item)) + work.complete(Usage(), 1.0)
    found = events(blocks)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert found[-1]["type"] == "response.completed"
    for event in found:
        EVENT.validate_python(event)
