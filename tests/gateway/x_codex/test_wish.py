"""A wish is understood exactly or refused by the name of its member; settings and key grant it together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auth.types import Caller
from gateway.adapt import Adapted, Terms, adapt
from gateway.errors import GatewayError
from gateway.jsongate import parse_object
from gateway.models import ModelTable
from gateway.x_codex.wish import PROMPT_MAX_BYTES, Errand, Wish, WishRules, check, errand_of, switched_off, wish_of
from sandbox.types import RunLevel
from store.records import Limits

FULL = Wish(RunLevel.FULL_ACCESS, "env", None, network=True)
READ = Wish(RunLevel.READ_ONLY, "env")


def said(**members: Any) -> bytes:
    return json.dumps(members).encode()


def caller(*scopes: str) -> Caller:
    return Caller("t", "t", "k", frozenset(scopes), (), (), Limits(), Limits())


def adapted(**members: Any) -> Adapted:
    body = json.dumps({"model": "gpt-5.5", **members}).encode()
    return adapt(parse_object(body), Terms(ModelTable({})), False, lambda _: b"digest")


@pytest.mark.parametrize("extension", [b"{}", said(sandbox=None, environment="e"), said(any="thing", environment=3)])
def test_without_a_sandbox_it_is_no_wish(extension: bytes) -> None:
    assert wish_of(extension) is None


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"sandbox": "read-only"}, READ),
        ({"sandbox": "read-only", "network_access": False}, READ),
        ({"sandbox": "workspace-write", "reasoning_effort": "low"}, Wish(RunLevel.WORKSPACE_WRITE, "env", "low")),
        ({"sandbox": "danger-full-access"}, FULL),
        ({"sandbox": "danger-full-access", "network_access": True}, FULL),
        ({"sandbox": "danger-full-access", "network_access": False}, Wish(RunLevel.FULL_ACCESS, "env")),
    ],
)
def test_a_wish_is_read(members: dict[str, Any], expected: Wish) -> None:
    assert wish_of(said(environment="env", **members)) == expected


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"sandbox": "none"}, "x_codex.sandbox"),
        ({"sandbox": 1}, "x_codex.sandbox"),
        ({"sandbox": ["read-only"]}, "x_codex.sandbox"),
        ({"environment": None}, "x_codex.environment"),
        ({"environment": ""}, "x_codex.environment"),
        ({"environment": "e" * 129}, "x_codex.environment"),
        ({"environment": 7}, "x_codex.environment"),
        ({"reasoning_effort": 'high"\nkey="x'}, "x_codex.reasoning_effort"),
        ({"network_access": True}, "x_codex.network_access"),
        ({"network_access": "yes"}, "x_codex.network_access"),
        ({"network": True}, "x_codex"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        wish_of(said(**{"sandbox": "read-only", "environment": "env", **members}))
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_nothing_else_is_ever_raised(extension: bytes) -> None:
    codes: list[str] = []
    try:
        wish_of(extension)
    except GatewayError as error:
        codes.append(error.code)
    assert codes in ([], ["invalid_request"])


def test_a_key_needs_both_scopes() -> None:
    for scopes in (("relay",), ("tasks",), ("task",), ("relay", "admin")):
        with pytest.raises(GatewayError) as refused:
            check(READ, caller(*scopes), WishRules())
        assert refused.value.code == "forbidden"
    check(READ, caller("relay", "tasks"), WishRules())


def test_full_access_needs_the_setting_too() -> None:
    with pytest.raises(GatewayError, match=r"sandbox\.full_access"):
        check(FULL, caller("relay", "tasks"), WishRules())
    check(FULL, caller("relay", "tasks"), WishRules(full_access=True))


def test_local_only_wants_a_near_upstream() -> None:
    with pytest.raises(GatewayError, match=r"sandbox\.local_only"):
        check(READ, caller("relay", "tasks"), WishRules(local_only=True))
    check(READ, caller("relay", "tasks"), WishRules(local_only=True, upstream_near=True))


def test_a_gateway_without_runs_names_its_settings() -> None:
    error = switched_off()
    assert (error.status, error.param) == (400, "x_codex.sandbox")
    assert "sandbox.enabled" in error.message
    assert "sandbox.synchronous" in error.message


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"input": "Fix it."}, Errand("Fix it.", None)),
        ({"input": "Fix it.", "reasoning": {"effort": "high"}}, Errand("Fix it.", "high")),
        ({"input": "Fix.", "instructions": "Be brief."}, Errand("[instructions]\nBe brief.\n\n[user]\nFix.", None)),
        (
            {
                "input": [
                    {"role": "developer", "content": "Rules."},
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "One."}]},
                    {"type": "reasoning", "summary": [], "encrypted_content": "x"},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
                    {"role": "user", "content": [{"type": "input_text", "text": text} for text in "34"]},
                ]
            },
            Errand("[developer]\nRules.\n\n[user]\nOne.\n\n[assistant]\nTwo.\n\n[user]\n3\n4", None),
        ),
    ],
)  # fmt: skip
def test_messages_become_one_prompt(members: dict[str, Any], expected: Errand) -> None:
    assert errand_of(READ, adapted(**members)) == expected


def test_the_wish_overrules_the_effort_of_the_request() -> None:
    wish = Wish(RunLevel.READ_ONLY, "env", "low")
    assert errand_of(wish, adapted(input="x", reasoning={"effort": "high"})).effort == "low"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": "  "}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "developer", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": 3}]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
        ({"input": "x", "tools": [{"type": "function", "name": "f", "parameters": {}}]}, "tools"),
        ({"input": "x", "reasoning": {"effort": "extreme"}}, "reasoning.effort"),
        ({"input": "x" * (PROMPT_MAX_BYTES + 1)}, "input"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_as_text_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(GatewayError) as refused:
        errand_of(READ, adapted(**members))
    assert (refused.value.code, refused.value.param) == ("invalid_request", param)
