"""Every rule of the backend about bodies, with its words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulator.conftest import Peer, asked, output_of

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "t", "arguments": "{}"}


def without(name: str) -> dict[str, Any]:
    body = asked("hi")
    del body[name]
    return body


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "Invalid request body"),
        (without("store"), "Store must be set to false"),
        (asked("hi", store=True), "Store must be set to false"),
        (without("stream"), "Stream must be set to true"),
        (asked("hi", stream=False), "Stream must be set to true"),
        (without("instructions"), "Instructions are required"),
        (asked("hi", input="hi"), "Input must be a list"),
        (asked("hi", max_output_tokens=5), "Unsupported parameter: max_output_tokens"),
        (asked("hi", temperature=1), "Unsupported parameter: temperature"),
        (asked("hi", previous_response_id="resp_1"), "Unsupported parameter: previous_response_id"),
        (asked("hi", {"role": "system", "content": "be nice"}), "System messages are not allowed"),
        (
            asked("hi", model="gpt-4"),
            "The 'gpt-4' model is not supported when using Codex with a ChatGPT account.",
        ),
    ],
)
async def test_the_backends_own_rules_answer_with_a_detail(peer: Peer, body: Any, detail: str) -> None:
    answer = await peer.post(body)
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


async def test_instructions_may_be_absent_behind_a_leading_developer_message(peer: Peer) -> None:
    body = without("instructions")
    body["input"].insert(0, {"type": "message", "role": "developer", "content": "You are Codex."})
    assert (await peer.post(body)).status_code == 200


@pytest.mark.parametrize(
    ("item", "status", "words"),
    [
        ({"type": "function_call_output", "call_id": "call_9", "output": ""}, 400, "No tool call found for function"),
        ({"type": "custom_tool_call_output", "call_id": "c", "output": ""}, 400, "No tool call found for custom tool"),
        ({**CALL, "id": "call_1"}, 400, "Expected an ID that begins with 'fc'"),
        ({"type": "message", "id": "x", "role": "user", "content": ""}, 400, "begins with 'msg'"),
        ({"type": "item_reference", "id": "rs_1"}, 404, "Items are not persisted"),
        ("text", 400, "expected an object"),
    ],
)
async def test_items_are_judged_as_the_platform_does(peer: Peer, item: Any, status: int, words: str) -> None:
    answer = await peer.post(asked("hi", item))
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_tool_output_after_its_call_is_taken(peer: Peer) -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "done"}
    assert (await peer.ask("hi", CALL, output)).status_code == 200


async def test_a_compaction_trigger_goes_last(peer: Peer) -> None:
    trigger = {"type": "compaction_trigger"}
    assert (await peer.ask("hi", trigger, CALL)).status_code == 400
    assert [item["type"] for item in output_of(await peer.ask("hi", trigger))] == ["compaction"]


@pytest.mark.parametrize("prompt", ["sim:reasoning", "hi"])
async def test_sealed_content_is_taken_from_its_own_account_only(peer: Peer, other: Peer, prompt: str) -> None:
    """Encrypted reasoning and compaction come back to their account, and are refused for any other, and broken."""
    trigger = () if prompt == "sim:reasoning" else ({"type": "compaction_trigger"},)
    item = output_of(await peer.ask(prompt, *trigger))[0]
    assert (await peer.ask("hi", item)).status_code == 200
    for answer in (
        await other.ask("hi", item),
        await peer.ask("hi", {**item, "encrypted_content": item["encrypted_content"][:-1]}),
        await peer.ask("hi", {**item, "encrypted_content": 5}),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_encrypted_content"
        assert "could not be verified" in answer.json()["error"]["message"]
    assert other.counts()["foreign_content"] == 1
