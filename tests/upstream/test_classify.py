"""Every answer that is no stream, and every failure inside one, gets its kind, its time and its words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upstream.classify import classify, classify_event, retry_after_s
from upstream.errors import FaultKind

NOW = 1_795_000_000.0
JSON = (b"content-type", b"application/json")
HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"


def err(**fields: object) -> bytes:
    return json.dumps({"error": fields}).encode()


def detail(value: object) -> bytes:
    return json.dumps({"detail": value}).encode()


MODEL_TEXT = "The 'gpt-9' model is not supported when using Codex with a ChatGPT account."

CASES = [
    (200, HTML, FaultKind.PROTOCOL),
    (204, b"", FaultKind.PROTOCOL),
    (301, b"", FaultKind.REDIRECT),
    (307, HTML, FaultKind.REDIRECT),
    (400, detail("Store must be set to false"), FaultKind.REQUEST),
    (400, err(code="context_length_exceeded", type="invalid_request_error", param="input"), FaultKind.REQUEST),
    (400, err(code="cyber_policy"), FaultKind.REQUEST),
    (400, detail(MODEL_TEXT), FaultKind.MODEL),
    (400, err(code="invalid_encrypted_content", message="x"), FaultKind.FOREIGN),
    (400, err(message="The encrypted content for item rs_1 could not be verified."), FaultKind.FOREIGN),
    (400, err(message="Invalid signature in reasoning item"), FaultKind.FOREIGN),
    (400, b"", FaultKind.REQUEST),
    (401, err(code="token_invalidated", type="invalid_request_error"), FaultKind.AUTH),
    (401, detail("Unauthorized"), FaultKind.AUTH),
    (401, b"", FaultKind.AUTH),
    (401, HTML, FaultKind.BLOCKED_ROUTE),
    (401, err(code="account_deactivated"), FaultKind.BLOCKED),
    (401, detail(MODEL_TEXT), FaultKind.MODEL),
    (402, detail({"code": "deactivated_workspace"}), FaultKind.BLOCKED),
    (402, detail("Payment required"), FaultKind.MODEL),
    (403, HTML, FaultKind.BLOCKED_ROUTE),
    (403, detail("Workspace is not permitted"), FaultKind.BLOCKED),
    (403, err(code="unsupported_country_region_territory"), FaultKind.BLOCKED),
    (404, detail("Not Found"), FaultKind.REQUEST),
    (404, err(code="model_not_found"), FaultKind.MODEL),
    (408, b"", FaultKind.SERVER),
    (410, detail("gone"), FaultKind.MODEL),
    (413, b"", FaultKind.REQUEST),
    (422, detail([{"loc": ["body"]}]), FaultKind.REQUEST),
    (429, err(type="usage_limit_reached", resets_in_seconds=60), FaultKind.RATE_LIMITED),
    (429, err(type="usage_not_included"), FaultKind.BLOCKED),
    (429, err(code="rate_limit_exceeded"), FaultKind.RATE_LIMITED),
    (429, b"", FaultKind.RATE_LIMITED),
    (429, HTML, FaultKind.BLOCKED_ROUTE),
    (500, b"oops", FaultKind.SERVER),
    (500, err(code="server_is_overloaded"), FaultKind.OVERLOADED),
    (502, HTML, FaultKind.SERVER),
    (503, err(code="slow_down"), FaultKind.OVERLOADED),
    (503, b"", FaultKind.OVERLOADED),
    (503, HTML, FaultKind.BLOCKED_ROUTE),
    (504, b"", FaultKind.SERVER),
    (520, HTML, FaultKind.SERVER),
    (529, b"", FaultKind.OVERLOADED),
]


@pytest.mark.fault("B21")
@pytest.mark.fault("B22")
@pytest.mark.fault("B23")
@pytest.mark.fault("B24")
@pytest.mark.fault("B26")
@pytest.mark.fault("B27")
@pytest.mark.fault("B28")
@pytest.mark.fault("B29")
@pytest.mark.parametrize(("status", "body", "kind"), CASES)
def test_every_status_has_its_kind(status: int, body: bytes, kind: FaultKind) -> None:
    """Whose fault it is follows from status and body together."""
    error = classify(status, [JSON] if body[:1] == b"{" else [], body, NOW)
    assert error.kind is kind
    assert error.status == status
    assert error.scope_model is (kind is FaultKind.MODEL)
    assert error.sent


@pytest.mark.fault("B22")
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"cf-mitigated", b"challenge"), (b"content-type", b"application/json")], b"{}"),
        ([(b"content-type", b"text/html; charset=UTF-8")], b"blocked"),
        ([(b"cf-ray", b"8f-AMS")], b"error code: 1020"),
        ([], b"  <html><body>Attention Required"),
    ],
)
def test_a_page_of_the_way_blames_no_account(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Cloudflare speaks for the route, whatever it looks like."""
    assert classify(403, headers, body, NOW).kind is FaultKind.BLOCKED_ROUTE


@pytest.mark.fault("B22")
def test_a_cloudflare_header_on_the_backends_own_json_is_the_backends() -> None:
    """cf-ray is on every answer; alone it says nothing."""
    assert classify(403, [(b"cf-ray", b"8f"), JSON], detail("no"), NOW).kind is FaultKind.BLOCKED


@pytest.mark.fault("B19")
@pytest.mark.parametrize(
    ("headers", "body", "resets_at_s", "retry_s", "authoritative"),
    [
        ([], err(type="usage_limit_reached", resets_at=NOW + 90, plan_type="pro"), NOW + 90, 90, True),
        ([], err(type="usage_limit_reached", resets_in_seconds=30), NOW + 30, 30, True),
        ([(b"retry-after", b"7")], err(type="usage_limit_reached", resets_at=NOW + 90), NOW + 90, 90, True),
        ([(b"retry-after", b"7")], err(type="usage_limit_reached", resets_at=5), None, 7, False),
        ([(b"retry-after", b"7")], b"", None, 7, False),
        ([], err(code="rate_limit_exceeded", message="Please try again in 1.5s."), None, 1.5, False),
        ([], err(code="rate_limit_exceeded", message="Please try again in 500ms."), None, 0.5, False),
        ([], err(code="rate_limit_exceeded", message="Please try again in 2m30s."), None, 150, False),
        ([], err(type="usage_limit_reached", resets_at=1e300, resets_in_seconds=-4), None, None, False),
        (
            [(b"x-codex-primary-used-percent", b"100"), (b"x-codex-primary-reset-at", b"1795000300")],
            err(type="usage_limit_reached"),
            NOW + 300,
            300,
            True,
        ),
    ],
)
def test_when_to_come_back(
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    resets_at_s: float | None,
    retry_s: float | None,
    authoritative: bool,
) -> None:
    """The body's word first, then the header, then the text, then full windows; nonsense is not said."""
    error = classify(429, headers, body, NOW)
    assert error.kind is FaultKind.RATE_LIMITED
    assert (error.resets_at_s, error.retry_after_s, error.authoritative) == (resets_at_s, retry_s, authoritative)


@pytest.mark.fault("B20")
def test_a_bare_429_names_no_time() -> None:
    """The router's own back-off decides."""
    error = classify(429, [], b"Too Many Requests", NOW)
    assert (error.resets_at_s, error.retry_after_s, error.authoritative) == (None, None, False)


@pytest.mark.fault("B19")
def test_a_limit_of_another_family_is_the_models() -> None:
    """The account goes on for other models."""
    body = err(type="usage_limit_reached", resets_in_seconds=60)
    assert classify(429, [(b"x-codex-active-limit", b"codex_bengalfox")], body, NOW).scope_model
    for own in (b"codex", b"primary", b"codex_secondary"):
        assert not classify(429, [(b"x-codex-active-limit", own)], body, NOW).scope_model


def test_retry_after_as_a_date() -> None:
    """An HTTP date is turned into seconds; the past and nonsense say nothing."""
    later = format_datetime(datetime.fromtimestamp(NOW + 120, UTC), usegmt=True).encode()
    past = format_datetime(datetime.fromtimestamp(NOW - 120, UTC), usegmt=True).encode()
    assert retry_after_s(later, NOW) == 120
    for value in (past, b"-1", b"soon", b"nan", b"9" * 30, b"", None):
        assert retry_after_s(value, NOW) is None


@pytest.mark.fault("B26")
def test_the_clients_own_fault_keeps_its_words() -> None:
    """Code, type, param and message go on to the client."""
    error = classify(400, [JSON], err(code="invalid_value", type="invalid_request_error", param="a", message="m"), NOW)
    assert (error.code, error.error_type, error.param, error.message) == (
        "invalid_value",
        "invalid_request_error",
        "a",
        "m",
    )
    assert classify(400, [JSON], detail("Store must be set to false"), NOW).message == "Store must be set to false"


def test_nothing_secret_and_nothing_unprintable_in_excerpt_or_message() -> None:
    """A body that echoes a credential or tries to forge a log line."""
    token = "eyJhbGciOi" + "J" * 60
    body = err(code="x", message=f"bad Authorization: Bearer {token}\r\nforged\x1b[31m" + "y" * 5000)
    error = classify(400, [JSON], body, NOW)
    assert error.message is not None
    for text in (error.excerpt, error.message, str(error)):
        assert token not in text
        assert text.isprintable()
    assert len(error.excerpt) <= 200
    assert len(error.message) <= 1000


EVENTS = [
    ("rate_limit_exceeded", FaultKind.RATE_LIMITED),
    ("usage_limit_reached", FaultKind.RATE_LIMITED),
    ("insufficient_quota", FaultKind.RATE_LIMITED),
    ("usage_not_included", FaultKind.BLOCKED),
    ("server_is_overloaded", FaultKind.OVERLOADED),
    ("slow_down", FaultKind.OVERLOADED),
    ("token_expired", FaultKind.AUTH),
    ("account_deactivated", FaultKind.BLOCKED),
    ("model_not_found", FaultKind.MODEL),
    ("invalid_encrypted_content", FaultKind.FOREIGN),
    ("server_error", FaultKind.SERVER),
    ("context_length_exceeded", None),
    ("invalid_prompt", None),
    ("cyber_policy", None),
    ("something_new", None),
    (None, None),
]


@pytest.mark.fault("B16")
@pytest.mark.parametrize(("code", "kind"), EVENTS)
def test_failures_inside_a_stream(code: str | None, kind: FaultKind | None) -> None:
    """What another account could do better is an error; what the request did wrong is the client's to see."""
    failed = {"type": "response.failed", "response": {"error": {"code": code, "message": "try again in 2s"}}}
    flat = {"type": "error", "code": code, "message": "m"}
    nested = {"type": "error", "error": {"code": code, "message": "m"}}
    for event in (failed, flat, nested):
        error = classify_event(str(event["type"]), json.dumps(event).encode(), NOW)
        assert (None if error is None else error.kind) is kind
    if kind is FaultKind.RATE_LIMITED:
        limited = classify_event("response.failed", json.dumps(failed).encode(), NOW)
        assert limited is not None
        assert limited.retry_after_s == 2


def test_other_events_mean_no_error() -> None:
    """Whatever stands in them."""
    data = json.dumps({"type": "response.completed", "response": {"error": {"code": "slow_down"}}}).encode()
    assert classify_event("response.completed", data, NOW) is None
    assert classify_event("error", b"not json", NOW) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "detail", "code", "type", "message", "resets_at", "resets_in_seconds", "headers"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.integers(200, 999), json_values)
def test_no_body_breaks_the_classifier(status: int, value: object) -> None:
    """Any JSON of any shape under any status."""
    body = json.dumps(value).encode()
    error = classify(status, [JSON, (b"retry-after", body[:20])], body, NOW)
    assert isinstance(error.kind, FaultKind)
    classify_event("error", body, NOW)
    classify_event("response.failed", body, NOW)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_classifier(body: bytes) -> None:
    """Random bytes as a body."""
    for status in (400, 401, 403, 429, 503):
        assert classify(status, [], body, NOW).excerpt.isprintable()
