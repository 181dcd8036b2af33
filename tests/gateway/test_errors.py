"""Every error has one shape, and no mapping leaves a kind out."""

from __future__ import annotations

import json

import pytest
from openai.types.responses import Response, ResponseFailedEvent

from auth.errors import ImportRefused, InvalidKey, LimitExceeded, NeedsReauth, NotConfigured, RefreshUnavailable
from gateway.errors import (
    CODES,
    GatewayError,
    body,
    error_response,
    failed_event,
    from_auth,
    from_limit,
    from_no_account,
    from_upstream,
    headers,
    stream_failure,
    usage_limit,
)
from router.types import NoAccount, NoAccountReason
from upstream.errors import FaultKind, UpstreamError

NOW_S = 1_795_000_000.0


def inner(error: GatewayError) -> dict[str, object]:
    whole = json.loads(body(error))
    assert list(whole) == ["error"]
    found: dict[str, object] = whole["error"]
    return found


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_the_openai_shape(code: str) -> None:
    error = GatewayError(code, "why")
    assert {"message", "type", "code", "param"} <= set(inner(error))
    assert inner(error)["code"] == code
    assert error.status == CODES[code][0]


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_upstream_fault_has_an_answer_that_leaks_nothing(kind: FaultKind) -> None:
    error = from_upstream(UpstreamError(kind, "host 10.1.2.3 account acc_1 token sk-1", status=500), NOW_S, "m")
    assert 400 <= error.status < 600
    text = body(error).decode()
    assert not any(secret in text for secret in ("10.1.2.3", "acc_1", "sk-1"))
    assert error.status not in (401, 403), "the client's own key is not at fault"


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_upstream_fault_ends_a_stream_with_a_code_of_the_closed_set(kind: FaultKind) -> None:
    code, message = stream_failure(UpstreamError(kind, "secret"))
    assert code in {
        "upstream_stream_truncated",
        "upstream_idle_timeout",
        "upstream_protocol_error",
        "event_too_large",
        "stream_budget_exceeded",
    }
    assert message
    assert "secret" not in message


@pytest.mark.parametrize("reason", list(NoAccountReason))
def test_every_reason_for_no_account_has_an_answer(reason: NoAccountReason) -> None:
    error = from_no_account(NoAccount(reason, retry_after_s=7.2), NOW_S, "m")
    assert 400 <= error.status < 600
    if error.status == 503:
        assert dict(headers(error, 1))[b"retry-after"] == b"8"


def test_an_exhausted_pool_is_a_usage_limit_as_the_cli_reads_it() -> None:
    error = from_no_account(
        NoAccount(NoAccountReason.EXHAUSTED, resets_at_s=NOW_S + 3600, plan_type="pro", retry_after_s=5), NOW_S
    )
    assert error.status == 429
    assert inner(error) == {
        "message": "The usage limit has been reached",
        "type": "usage_limit_reached",
        "code": "usage_limit_reached",
        "param": None,
        "plan_type": "pro",
        "resets_at": int(NOW_S) + 3600,
        "resets_in_seconds": 3600,
    }
    assert dict(headers(error, 1))[b"retry-after"] == b"3600"


def test_a_reset_that_nobody_vouched_for_is_left_out() -> None:
    error = usage_limit(NOW_S, None, 5.0, None)
    assert not {"resets_at", "resets_in_seconds", "plan_type"} & set(inner(error))
    assert dict(headers(error, 1))[b"retry-after"] == b"5"


@pytest.mark.fault("B26")
@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_request_fault_keeps_the_upstreams_words(status: int) -> None:
    fault = UpstreamError(FaultKind.REQUEST, status=status, message="Unsupported parameter: n", code="bad", param="n")
    error = from_upstream(fault)
    assert (error.status, error.message, error.code, error.param) == (status, "Unsupported parameter: n", "bad", "n")
    assert error.type == "invalid_request_error"


def test_a_code_that_is_no_word_is_not_passed_on() -> None:
    assert from_upstream(UpstreamError(FaultKind.REQUEST, code="a\r\nb", message="m")).code == "invalid_request"


def test_a_model_that_nobody_has_is_a_400_because_the_cli_repeats_a_404() -> None:
    for error in (
        from_upstream(UpstreamError(FaultKind.MODEL), NOW_S, "m"),
        from_no_account(NoAccount(NoAccountReason.MODEL_UNAVAILABLE), NOW_S, "m"),
    ):
        assert (error.status, error.code, error.param) == (400, "model_not_found", "model")
    assert GatewayError.model_not_found("m").status == 404


def test_a_throttled_account_is_rate_limited_and_a_full_window_is_a_usage_limit() -> None:
    bare = from_upstream(UpstreamError(FaultKind.RATE_LIMITED, retry_after_s=2.5), NOW_S)
    assert (bare.code, bare.status, dict(headers(bare, 0))[b"retry-after"]) == ("rate_limited", 429, b"3")
    full = from_upstream(
        UpstreamError(FaultKind.RATE_LIMITED, error_type="usage_limit_reached", resets_at_s=NOW_S + 9), NOW_S
    )
    assert (full.code, full.fields["resets_in_seconds"]) == ("usage_limit_reached", 9)


def test_refused_callers_get_one_answer_and_a_gateway_without_keys_is_closed() -> None:
    refused = from_auth(InvalidKey("expired"))
    assert (refused.status, refused.code) == (401, "invalid_api_key")
    assert "expired" not in refused.message
    assert (b"www-authenticate", b"Bearer") in headers(refused, 0)
    assert (from_auth(NotConfigured()).status, from_auth(NotConfigured()).code) == (503, "not_configured")
    for error in (NeedsReauth("x"), RefreshUnavailable("x")):
        assert (from_auth(error).status, from_auth(error).code) == (503, "no_accounts")
    assert from_auth(ImportRefused("x", "y")).status == 403
    limited = from_auth(LimitExceeded("streams", "key", 3, 0.2))
    assert (limited.status, dict(headers(limited, 0))[b"retry-after"]) == (429, b"1")
    assert "3 requests at once" in limited.message
    assert "per minute" in from_limit(LimitExceeded("requests", "tenant", 3, 1)).message


def test_the_two_messages_of_an_answer_agree_and_close_when_they_must() -> None:
    start, content = error_response(GatewayError.body_too_large(10))
    fields = dict(start["headers"])
    assert fields[b"content-length"] == str(len(content["body"])).encode()
    assert fields[b"connection"] == b"close"
    assert dict(error_response(GatewayError.method_not_allowed("POST"))[0]["headers"])[b"allow"] == b"POST"
    assert error_response(GatewayError.upgrade_required())[0]["status"] == 426


@pytest.mark.fault("B14")
@pytest.mark.parametrize("known", [None, {"id": "resp_1", "model": "m2", "output": [], "created_at": 5}])
def test_a_failed_event_is_one_whole_block_that_the_sdk_types_accept(known: dict[str, object] | None) -> None:
    block = failed_event("upstream_stream_truncated", "line\none", 7, "m", known)
    assert block.startswith(b"event: response.failed\ndata: ")
    assert block.endswith(b"}\n\n")
    assert block.count(b"\n") == 3
    event = json.loads(block.split(b"data: ")[1])
    assert event["sequence_number"] == 7
    assert event["response"]["error"] == {"code": "upstream_stream_truncated", "message": "line\none"}
    if known:
        assert (event["response"]["id"], event["response"]["model"]) == ("resp_1", "m2")
    event["response"]["error"]["code"] = "server_error"  # the SDK's list of codes is closed on paper only
    Response.model_validate(event["response"])
    ResponseFailedEvent.model_validate(event)
