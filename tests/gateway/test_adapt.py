"""From the client's dialect to the backend's: what changes, what is said about it, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapt import (
    Adapted,
    Mode,
    Terms,
    adapt,
    with_installation,
    without_foreign_reasoning,
)
from gateway.errors import GatewayError
from gateway.jsongate import parse_object
from gateway.models import ModelTable
from tests.gateway.test_jsongate import JSON

RELAXED = Terms(ModelTable({"fast": "gpt-5.5-low"}), frozenset({"gpt-5.5"}), Mode.RELAXED)
STRICT = Terms(RELAXED.table, RELAXED.known, Mode.STRICT)
ITEMS = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]
RIGHT: dict[str, Any] = {"model": "gpt-5.5", "instructions": "", "input": ITEMS, "stream": True, "store": False}


def run(body: dict[str, Any], terms: Terms = RELAXED, codex: bool = False) -> Adapted:
    return adapt(parse_object(json.dumps(body).encode()), terms, codex, lambda value: value[:4])


def upstream(adapted: Adapted, installation_id: str = "", codex: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(with_installation(adapted, installation_id, codex)))
    return found


def refusal(body: dict[str, Any], terms: Terms = RELAXED, codex: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        run(body, terms, codex)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    return caught.value


@pytest.mark.parametrize("terms", [RELAXED, STRICT])
def test_a_request_that_is_right_already_passes_in_both_modes_without_a_word(terms: Terms) -> None:
    adapted = run(RIGHT, terms)
    assert adapted.adaptations == ()
    assert upstream(adapted) == RIGHT
    assert adapted.echo == {}


CHANGED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"input": "hi"}, {"input": ITEMS}, "input_string", "input"),
    (
        {"input": [{"role": "system", "content": "be kind"}, *ITEMS]},
        {"input": [{"role": "developer", "content": "be kind"}, *ITEMS]},
        "system_to_developer",
        "input[0]",
    ),
    (
        {"input": [*ITEMS, {"type": "message", "id": "abc", "role": "assistant", "content": []}]},
        {"input": [*ITEMS, {"type": "message", "role": "assistant", "content": []}]},
        "item_ids_dropped",
        "input[1]",
    ),
    (
        {"input": [{"role": "assistant", "content": "x", "tool_calls": [], "reasoning_content": "y"}]},
        {"input": [{"role": "assistant", "content": "x"}]},
        "message_keys_dropped",
        "input[0]",
    ),
    (
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}, *ITEMS]},
        {"input": ITEMS},
        "reasoning_dropped",
        "input[0]",
    ),
    ({"store": True}, {}, "store_false", "store"),
    ({"max_output_tokens": 100}, {}, "dropped:max_output_tokens", "max_output_tokens"),
    ({"temperature": 0.1}, {}, "dropped:temperature", "temperature"),
    ({"top_p": 0.1}, {}, "dropped:top_p", "top_p"),
    ({"metadata": {"a": "b"}}, {}, "dropped:metadata", "metadata"),
    ({"user": "u"}, {}, "dropped:user", "user"),
    ({"truncation": "auto"}, {}, "dropped:truncation", "truncation"),
    ({"stream_options": {}}, {}, "dropped:stream_options", "stream_options"),
    ({"safety_identifier": "u"}, {}, "dropped:safety_identifier", "safety_identifier"),
    ({"api_base": "http://169.254.169.254/"}, {}, "dropped:other", "api_base"),
    (
        {"include": ["reasoning.encrypted_content", "odd"]},
        {"include": ["reasoning.encrypted_content"]},
        "include_filtered",
        "include",
    ),
    (
        {"tools": [{"type": "function", "name": "f"}, {"type": "web_search_preview", "size": 1}]},
        {"tools": [{"type": "function", "name": "f"}, {"type": "web_search", "size": 1}]},
        "tool_alias",
        "tools",
    ),
    (
        {"tool_choice": {"type": "web_search_preview"}},
        {"tool_choice": {"type": "web_search"}},
        "tool_alias",
        "tool_choice",
    ),
]


@pytest.mark.parametrize(("given_fields", "expected", "word", "param"), CHANGED)
def test_relaxed_fits_and_says_so_strict_refuses_with_the_field(
    given_fields: dict[str, Any], expected: dict[str, Any], word: str, param: str
) -> None:
    adapted = run(RIGHT | given_fields)
    assert adapted.adaptations == (word,)
    assert upstream(adapted) == RIGHT | expected
    assert refusal(RIGHT | given_fields, STRICT).param == param


QUIET: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    ({"service_tier": "fast"}, {"service_tier": "priority"}, ("service_tier",)),
    ({"service_tier": "auto"}, {}, ()),
    ({"service_tier": "flex"}, {"service_tier": "flex"}, ()),
    ({"truncation": "disabled"}, {}, ()),
    ({"metadata": {}}, {}, ()),
    ({"metadata": None, "temperature": None, "tools": None, "reasoning": None, "previous_response_id": None}, {}, ()),
    ({"background": False}, {}, ()),
    ({"x_codex": {"any": "thing"}}, {}, ("dropped:x_codex",)),
    ({"model": "gpt-5.5-high"}, {"reasoning": {"effort": "high"}}, ("effort_from_model",)),
    ({"model": "fast", "reasoning": {"summary": "auto"}}, {"reasoning": {"summary": "auto", "effort": "low"}},
     ("effort_from_model",)),
    ({"model": "fast", "reasoning": {"effort": "xhigh"}}, {"reasoning": {"effort": "xhigh"}}, ()),
    ({"tool_choice": "auto", "parallel_tool_calls": True}, {"tool_choice": "auto", "parallel_tool_calls": True}, ()),
    ({"text": {"format": {"type": "text"}}}, {"text": {"format": {"type": "text"}}}, ()),
    ({"client_metadata": {"a": "b"}}, {"client_metadata": {"a": "b"}}, ()),
]  # fmt: skip


@pytest.mark.parametrize("terms", [RELAXED, STRICT])
@pytest.mark.parametrize(("given_fields", "expected", "words"), QUIET)
def test_what_changes_nothing_for_the_client_is_never_refused(
    given_fields: dict[str, Any], expected: dict[str, Any], words: tuple[str, ...], terms: Terms
) -> None:
    adapted = run(RIGHT | given_fields, terms)
    assert adapted.adaptations == words
    assert upstream(adapted) == RIGHT | expected


def test_what_an_sdk_leaves_out_is_filled_in_and_said() -> None:
    adapted = run({"model": "gpt-5.5", "input": ITEMS}, STRICT)
    assert adapted.adaptations == ("store_false", "stream_true", "instructions_added")
    assert upstream(adapted) == RIGHT
    assert not adapted.stream


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "c"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"background": True}, "background"),
    ({"background": "yes"}, "background"),
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"model": 5}, "model"),
    ({"model": "a\r\nb"}, "model"),
    ({"model": "x" * 129}, "model"),
    ({"model": "módel"}, "model"),
    ({"input": None}, "input"),
    ({"input": 5}, "input"),
    ({"input": {}}, "input"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": [ITEMS[0], {"role": 5}]}, "input[1].role"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ({"stream": "true"}, "stream"),
    ({"store": 1}, "store"),
    ({"instructions": ["x"]}, "instructions"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_output_tokens": int("9" * 4000)}, "max_output_tokens"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"truncation": "maybe"}, "truncation"),
    ({"tools": {}}, "tools"),
    ({"tools": [1]}, "tools"),
    ({"tools": [{"type": "function"}, {"type": "file_search"}]}, "tools[1].type"),
    ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
    ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
    ({"tool_choice": 5}, "tool_choice"),
    ({"include": "x"}, "include"),
    ({"reasoning": "high"}, "reasoning"),
    ({"text": []}, "text"),
    ({"client_metadata": "x"}, "client_metadata"),
    ({"prompt_cache_key": 5}, "prompt_cache_key"),
    ({"service_tier": 5}, "service_tier"),
]


@pytest.mark.parametrize("terms", [RELAXED, STRICT])
@pytest.mark.parametrize(("given_fields", "param"), REFUSED)
def test_what_cannot_be_served_is_refused_with_the_field_in_both_modes(
    given_fields: dict[str, Any], param: str, terms: Terms
) -> None:
    assert refusal(RIGHT | given_fields, terms).param == param


CODEX: dict[str, Any] = {
    "model": "gpt-5.5",
    "stream": True,
    "store": False,
    "input": [
        {"type": "message", "id": "odd", "role": "developer", "content": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAnew"},
        {"type": "compaction_trigger"},
    ],
    "tools": [{"type": "namespace", "name": "n", "tools": []}],
    "tool_choice": "auto",
    "include": ["future.value"],
    "some_future_member": {"a": [1, 2]},
    "prompt_cache_key": "thread",
    "client_metadata": {"x-codex-installation-id": "mine", "turn_id": "t"},
}


@pytest.mark.parametrize("terms", [RELAXED, STRICT])
def test_a_codex_client_passes_as_it_is_unknown_members_too(terms: Terms) -> None:
    adapted = run(CODEX, terms, codex=True)
    assert adapted.adaptations == ()
    assert adapted.sealed == ((2, b"gAAA"),)
    assert adapted.prompt_cache_key == "thread"
    expected = CODEX | {"client_metadata": {"x-codex-installation-id": "ours", "turn_id": "t"}}
    assert upstream(adapted, "ours", codex=True) == expected


@pytest.mark.fault("B49")
def test_a_duplicate_member_cannot_mean_two_things() -> None:
    body = json.dumps(RIGHT)[:-1] + ',"store":true,"st\\u006fre":false,"stream":true}'
    adapted = adapt(parse_object(body.encode()), RELAXED, False, lambda value: value)
    text = b"".join(with_installation(adapted, "", False))
    assert text.count(b'"store"') == 1
    assert json.loads(text)["store"] is False


def test_the_echo_is_what_the_client_sent_and_only_when_there_is_no_stream() -> None:
    sent = {"metadata": {"a": "b"}, "temperature": 0.5, "max_output_tokens": 50, "user": "u"}
    body = {**RIGHT, **sent, "stream": False, "tools": [{"type": "function", "name": "f"}]}
    echo = run(body).echo
    assert echo["model"] == "gpt-5.5"
    assert {name: echo[name] for name in sent} == sent
    assert run(body | {"stream": True}).echo == {}


@pytest.mark.fault("B49")
@pytest.mark.parametrize("name", ["input", "tools", "client_metadata", "metadata", "text", "other"])
def test_nesting_at_the_edge_of_the_stack_is_a_refusal_and_no_crash(name: str) -> None:
    outcomes = set()
    for depth in range(820, 1000):
        nested = b'[{"a":' * (depth // 2) + b"1" + b"}]" * (depth // 2)
        value = nested[1:-1] if name in ("client_metadata", "metadata", "text") else nested
        text = b'{"model":"m","input":[],"client_metadata":{},"%s":%s}' % (name.encode(), value)
        try:
            adapted = adapt(parse_object(text), RELAXED, True, lambda digest: digest)
            with_installation(adapted, "iid", True)
            outcomes.add("taken")
        except GatewayError as error:
            outcomes.add(error.code)
    assert outcomes <= {"taken", "invalid_json", "invalid_request"}
    assert "invalid_json" in outcomes


# -- whatever comes ------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [
        *RIGHT, "tools", "tool_choice", "reasoning", "text", "include", "metadata", "temperature", "client_metadata",
        "service_tier", "prompt_cache_key", "background", "x_codex", "other", "truncation", "max_output_tokens",
    ]
)  # fmt: skip
ODD_ITEMS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "role", "id", "call_id", "encrypted_content", "content", "output", "tool_calls"]),
        st.sampled_from(
            ["message", "system", "reasoning", "function_call", "function_call_output", "x", "", None, 1, []]
        ),
    ),
    max_size=5,
)


@given(st.dictionaries(NAMES, JSON, max_size=6), ODD_ITEMS, st.booleans(), st.booleans())
def test_whatever_the_json_the_answer_is_a_request_or_a_refusal(
    odd: dict[str, Any], items: list[dict[str, Any]], codex: bool, strict: bool
) -> None:
    body = json.dumps(RIGHT | {"input": items} | odd).encode()
    try:
        fields = parse_object(body)
    except GatewayError:
        return  # a lone surrogate
    refused: GatewayError | None = None
    try:
        adapted = adapt(fields, STRICT if strict else RELAXED, codex, lambda value: value)
    except GatewayError as error:
        refused = error
    if refused is not None:
        assert refused.status == 400
        assert refused.param
        return
    for one in (adapted, without_foreign_reasoning(adapted, {digest for _, digest in adapted.sealed})):
        sent = json.loads(b"".join(with_installation(one, "iid", codex)))
        assert sent["store"] is False
        assert sent["stream"] is True
        assert isinstance(sent["input"], list)
        assert all(isinstance(sent["input"][index], dict) for index, _ in one.sealed)
