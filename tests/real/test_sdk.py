"""The official OpenAI SDK, through the gateway, to the simulated backend: ordinary code, nothing adapted for us."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseReasoningItem

from tests.real.house import House, house

pytestmark = [pytest.mark.slow, pytest.mark.real]

SPEC = json.loads((Path(__file__).parent.parent / "data" / "openresponses-2026-04-24.json").read_text())
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, accounts=3) as running:
        yield running


def check_schema(raw: str) -> None:
    """``raw`` is a ResponseResource of the Open Responses document."""
    jsonschema.Draft202012Validator(
        {"$ref": "#/components/schemas/ResponseResource", "components": SPEC["components"]}
    ).validate(json.loads(raw))


async def test_ordinary_code_gets_an_ordinary_response(home: House) -> None:
    """String input, instructions, limits, labels and ``store=True``: one call, one Response, adaptations named."""
    async with home.sdk() as client:
        raw = await client.responses.with_raw_response.create(
            model="gpt-5.5",
            input='sim:text="Hello, you"',
            instructions="Be kind.",
            temperature=0.3,
            top_p=0.9,
            max_output_tokens=500,
            metadata={"order": "17"},
            user="somebody",
            store=True,
            truncation="auto",
        )
    response = raw.parse()
    assert isinstance(response, Response)
    assert response.output_text == "Hello, you"
    assert (response.status, response.object) == ("completed", "response")
    assert response.to_dict()["store"] is False
    assert response.metadata == {"order": "17"}
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    check_schema(raw.text)
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-relay-attempts"] == "1"
    adapted = raw.headers["x-relay-adapted"].split(", ")
    assert {"store_false", "input_string", "dropped:temperature", "dropped:max_output_tokens"} <= set(adapted)
    assert response._request_id == raw.headers["x-request-id"]


async def test_system_messages_reach_the_backend_in_a_form_that_it_takes(home: House) -> None:
    async with home.sdk() as client:
        response = await client.responses.create(
            model="gpt-5.5",
            input=[
                {"role": "system", "content": "Answer in French."},
                {"role": "user", "content": "sim:text=bonjour"},
            ],
        )
    assert response.output_text == "bonjour"
    sent = home.simulator.state.requests_to("/codex/responses")[-1].json
    assert "system" not in {item.get("role") for item in sent["input"]}
    assert "Answer in French." in json.dumps(sent)


async def test_a_stream_is_typed_numbered_and_ends_with_the_whole_response(home: House) -> None:
    async with (
        home.sdk() as client,
        client.responses.stream(
            model="gpt-5.5", input="sim:reasoning,noise,events=5", include=["reasoning.encrypted_content"]
        ) as stream,
    ):
        events = [event async for event in stream]
        final = await stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") == 5
    assert final.output_text.startswith("The simulated model")
    assert isinstance(final.output[0], ResponseReasoningItem)
    assert final.usage is not None


async def test_plain_create_with_stream_yields_events_that_validate(home: House) -> None:
    async with home.sdk() as client:
        stream = await client.responses.create(model="gpt-5.5", input="hi", stream=True)
        events = [event async for event in stream]
    public = [event for event in events if event.type.startswith("response.")]
    for event in public:
        type(event).model_validate(event.to_dict(), strict=False)
    numbers = [event.sequence_number for event in public]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_tool_call_goes_there_and_back(home: House, streamed: bool) -> None:
    """The call's arguments arrive whole; its output goes up with the call; the next turn is text."""
    messages: list[Any] = [{"role": "user", "content": 'sim:tool=get_weather city="New York"'}]
    async with home.sdk() as client:

        async def turn() -> Response:
            if not streamed:
                return await client.responses.create(model="gpt-5.5", input=messages, tools=[TOOL])
            async with client.responses.stream(model="gpt-5.5", input=messages, tools=[TOOL]) as stream:
                return await stream.get_final_response()

        first = await turn()
        (call,) = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
        assert json.loads(call.arguments) == {"city": "New York"}
        messages += [item.to_dict() for item in first.output]
        messages.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
        second = await turn()
    assert second.output_text
    assert second.status == "completed"


@pytest.mark.parametrize("streamed", [True, False])
async def test_sealed_reasoning_goes_back_to_the_account_that_made_it(home: House, streamed: bool) -> None:
    """Five turns with encrypted reasoning over three accounts: one account serves all, nothing is dropped."""
    messages: list[Any] = [{"role": "user", "content": "sim:reasoning"}]
    options: Any = {"model": "gpt-5.5", "include": ["reasoning.encrypted_content"]}
    async with home.sdk() as client:
        for turn in range(5):
            if streamed:
                async with client.responses.stream(input=messages, **options) as stream:
                    response: Any = await stream.get_final_response()
            else:
                raw = await client.responses.with_raw_response.create(input=messages, **options)
                assert "x-relay-moved" not in raw.headers
                response = raw.parse()
            sealed = [item for item in response.output if isinstance(item, ResponseReasoningItem)]
            assert [bool(item.encrypted_content) for item in sealed] == [True]
            messages += [item.to_dict(exclude_none=True) for item in response.output]
            messages.append({"role": "user", "content": f"sim:reasoning turn {turn}"})
    assert len(set(home.posts())) == 1
    assert len(home.posts()) == 5
    assert all(not account.counts["foreign_content"] for account in home.simulator.state.accounts.values())


async def test_a_conversation_moves_when_its_account_is_out(home: House) -> None:
    """The owner of the sealed reasoning hits its limit: the next turn is served by another account, and says so."""
    options: Any = {"model": "gpt-5.5", "include": ["reasoning.encrypted_content"]}
    async with home.sdk() as client:
        first = await client.responses.create(input="sim:reasoning", **options)
        home.simulator.state.exhaust(home.posts()[0])
        messages: Any = [item.to_dict(exclude_none=True) for item in first.output]
        messages.append({"role": "user", "content": "sim:text=moved"})
        raw = await client.responses.with_raw_response.create(input=messages, **options)
    assert raw.parse().output_text == "moved"
    assert raw.headers["x-relay-moved"] == "1"
    assert raw.headers["x-relay-attempts"] == "2"
    assert home.posts()[-1] != home.posts()[0]


async def test_a_wrong_key_is_an_authentication_error(home: House) -> None:
    async with home.sdk(api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.responses.create(model="gpt-5.5", input="hi")
    assert caught.value.code == "invalid_api_key"
    assert home.posts() == []


async def test_all_accounts_out_is_a_rate_limit_error_with_the_reset(home: House) -> None:
    for account_id in home.accounts:
        home.simulator.state.exhaust(account_id, resets_in_s=1800)
    async with home.sdk() as client:
        with pytest.raises(openai.RateLimitError) as caught:
            await client.responses.create(model="gpt-5.5", input="hi")
        with pytest.raises(openai.RateLimitError):
            await client.responses.create(model="gpt-5.5", input="hi", stream=True)
    error = caught.value
    assert (error.code, error.type) == ("usage_limit_reached", "usage_limit_reached")
    assert isinstance(error.body, dict)
    assert 1700 < error.body["resets_in_seconds"] <= 1800
    assert 1700 < int(error.response.headers["retry-after"]) <= 1800


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"model": "no such model"}, "model"),
        ({"input": 5}, "input"),
        ({"reasoning": "high"}, "reasoning"),
    ],
    ids=str,
)
async def test_a_bad_request_names_its_field(home: House, options: dict[str, Any], param: str) -> None:
    async with home.sdk() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(**{"model": "gpt-5.5", "input": "hi", **options})
    assert caught.value.param == param
    assert home.posts() == []


async def test_the_backends_own_refusal_keeps_code_and_param(home: House) -> None:
    for account_id in home.accounts:
        home.simulator.state.script(account_id, ["http=context_length_exceeded"])
    async with home.sdk() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="gpt-5.5", input="hi")
    assert caught.value.code == "context_length_exceeded"
    assert len(home.posts()) == 1


async def test_a_stream_that_dies_upstream_ends_in_a_failed_response(home: House) -> None:
    """The SDK takes a silent end for success, so it must see ``response.failed``."""
    for account_id in home.accounts:
        home.simulator.state.script(account_id, ["cut=mid,at=3,delay_ms=50"])
    async with home.sdk() as client:
        stream = await client.responses.create(model="gpt-5.5", input="hi", stream=True)
        events: list[Any] = [event async for event in stream]
        assert events[-1].type == "response.failed"
        assert events[-1].response.error.code == "upstream_stream_truncated"
        assert events[-1].sequence_number > events[-2].sequence_number


async def test_without_a_stream_a_dying_upstream_is_an_error(home: House) -> None:
    for account_id in home.accounts:
        home.simulator.state.script(account_id, ["cut=mid,at=3,delay_ms=50"])
    async with home.sdk() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="gpt-5.5", input="hi")
    assert caught.value.code == "upstream_error"


async def test_overload_on_one_account_is_never_seen(home: House) -> None:
    """An account that is overloaded right behind ``response.created`` is replaced before the commit."""
    home.simulator.state.script(home.accounts[0], ["fail=server_is_overloaded,at=0"] * 3)
    async with home.sdk() as client:
        for _ in range(3):
            stream = await client.responses.create(model="gpt-5.5", input="hi", stream=True)
            assert [event.type async for event in stream][-1] == "response.completed"


async def test_models_are_listed_and_found(home: House) -> None:
    async with home.sdk() as client:
        listed = [model.id async for model in client.models.list()]
        assert "gpt-5.5" in listed
        assert (await client.models.retrieve("gpt-5.5")).object == "model"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-none")


def test_the_blocking_client_works_as_well(tmp_path: Path) -> None:
    """The synchronous SDK in a thread of its own, streaming and not."""
    import asyncio

    def call(base_url: str, key: str) -> tuple[str, str]:
        with openai.OpenAI(api_key=key, base_url=base_url, max_retries=0) as client:
            whole = client.responses.create(model="gpt-5.5", input="sim:text=whole").output_text
            with client.responses.stream(model="gpt-5.5", input="sim:text=streamed") as stream:
                return whole, stream.get_final_response().output_text

    async def main() -> tuple[str, str]:
        async with house(tmp_path) as home:
            return await asyncio.to_thread(call, home.base_url, home.key)

    assert asyncio.run(main()) == ("whole", "streamed")


async def test_the_sdks_retries_end_after_a_limit_of_the_key(tmp_path: Path) -> None:
    """A key of two requests a minute: the third is a RateLimitError, and good answers tell what is left."""
    from store.records import Limits

    async with house(tmp_path, key={"limits": Limits(requests_per_minute=2)}) as home, home.sdk() as client:
        raw = await client.responses.with_raw_response.create(model="gpt-5.5", input="hi")
        assert raw.headers["x-ratelimit-limit-requests"] == "2"
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        await client.responses.create(model="gpt-5.5", input="hi")
        with pytest.raises(openai.RateLimitError) as caught:
            await client.responses.create(model="gpt-5.5", input="hi")
        assert caught.value.code == "rate_limited"
        assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
        assert len(home.posts()) == 2
