"""Whose fault was it: a verdict for everything that can go wrong, and nobody is blamed for what is not theirs."""

from __future__ import annotations

import pytest

from auth.errors import CredentialError, NeedsReauth, RefreshUnavailable
from gateway.attribution import end_of, outcome_of, verdict_of
from ops.metrics import END_REASONS
from router.types import ACCOUNT_SCOPE, Cause, OutcomeKind
from tests.fakes.routing import MODEL
from upstream.errors import FaultKind, UpstreamError
from upstream.sse import Terminal

BLAME = {
    OutcomeKind.ROUTE: {"CONNECT", "CONNECT_TIMEOUT", "DNS", "TLS", "PROTOCOL", "REDIRECT", "BLOCKED_ROUTE"},
    OutcomeKind.RATE_LIMITED: {"RATE_LIMITED"},
    OutcomeKind.AUTH: {"AUTH"},
    OutcomeKind.BLOCKED: {"BLOCKED"},
    OutcomeKind.MODEL: {"MODEL"},
    OutcomeKind.OVERLOADED: {"OVERLOADED"},
    OutcomeKind.BROKEN: {"SERVER", "LOST", "HEADER_TIMEOUT", "FIRST_EVENT_TIMEOUT", "TRUNCATED"},
    OutcomeKind.CLIENT_ERROR: {"REQUEST"},
    OutcomeKind.FOREIGN: {"FOREIGN"},
    OutcomeKind.CANCELLED: {"IDLE", "EVENT_TOO_LARGE", "BUDGET"},
}


def test_every_fault_has_exactly_one_blame() -> None:
    listed = [name for names in BLAME.values() for name in names]
    assert sorted(listed) == sorted(FaultKind.__members__)


@pytest.mark.parametrize(("kind", "names"), BLAME.items(), ids=[kind.value for kind in BLAME])
def test_the_blame_of_a_fault(kind: OutcomeKind, names: set[str]) -> None:
    for name in names:
        assert outcome_of(UpstreamError(FaultKind[name]), MODEL).kind is kind, name


def subclasses(of: type[CredentialError]) -> list[type[CredentialError]]:
    return [of, *(deeper for one in of.__subclasses__() for deeper in subclasses(one))]


@pytest.mark.parametrize("kind", subclasses(CredentialError))
def test_tokens_that_cannot_be_had_are_the_accounts_fault_and_no_reason_to_refresh(kind: type[CredentialError]) -> None:
    outcome = outcome_of(kind("why"), MODEL)
    assert (outcome.kind, outcome.cause, outcome.after_refresh) == (OutcomeKind.AUTH, Cause.AUTH, True)
    assert not outcome.sent
    assert outcome.evidence == "why"


def test_the_credential_errors_are_those_that_are_known() -> None:
    assert set(subclasses(CredentialError)) == {CredentialError, NeedsReauth, RefreshUnavailable}


def test_what_the_upstream_said_travels_on_to_the_router() -> None:
    error = UpstreamError(
        FaultKind.RATE_LIMITED,
        "usage_limit_reached",
        status=429,
        sent=True,
        retry_after_s=7.0,
        resets_at_s=1e9,
        authoritative=True,
        plan_type="pro",
    )
    outcome = outcome_of(error, MODEL)
    assert (outcome.status, outcome.retry_after_s, outcome.resets_at_s) == (429, 7.0, 1e9)
    assert (outcome.authoritative, outcome.plan_type, outcome.sent) == (True, "pro", True)
    assert outcome.scope == ACCOUNT_SCOPE
    assert outcome.after_refresh is False


@pytest.mark.parametrize(
    ("error", "scope"),
    [
        (UpstreamError(FaultKind.MODEL), f"model:{MODEL}"),
        (UpstreamError(FaultKind.RATE_LIMITED, scope_model=True), f"model:{MODEL}"),
        (UpstreamError(FaultKind.RATE_LIMITED), ACCOUNT_SCOPE),
        (UpstreamError(FaultKind.SERVER), ACCOUNT_SCOPE),
    ],
)
def test_only_what_is_about_the_model_rests_the_model(error: UpstreamError, scope: str) -> None:
    assert outcome_of(error, MODEL).scope == scope


def test_evidence_is_short_however_much_the_upstream_wrote() -> None:
    assert len(outcome_of(UpstreamError(FaultKind.SERVER, "x" * 10_000), MODEL).evidence) == 200


@pytest.mark.parametrize(
    ("kind", "data", "outcome", "word"),
    [
        ("response.completed", b"{}", OutcomeKind.OK, "completed"),
        ("response.incomplete", b"{}", OutcomeKind.OK, "incomplete"),
        ("response.failed", b'{"response":{"error":{"code":"slow_down"}}}', OutcomeKind.OVERLOADED, "upstream_failed"),
        ("response.failed", b'{"response":{"error":{"code":"who_knows"}}}', OutcomeKind.OK, "upstream_failed"),
        ("response.failed", b"not json", OutcomeKind.OK, "upstream_failed"),
        ("error", b'{"error":{"code":"server_is_overloaded"}}', OutcomeKind.OVERLOADED, "upstream_failed"),
    ],
)
def test_the_verdict_on_a_stream_that_came_to_its_end(kind: str, data: bytes, outcome: OutcomeKind, word: str) -> None:
    found, end = verdict_of(Terminal(kind, data, len(data)), MODEL, 1e9)
    assert (found.kind, end) == (outcome, word)


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_that_a_stream_can_die_of_is_a_word_that_the_metrics_know(kind: FaultKind) -> None:
    assert end_of(UpstreamError(kind)) in END_REASONS


def test_a_connection_that_is_lost_in_mid_stream_has_truncated_it() -> None:
    assert end_of(UpstreamError(FaultKind.LOST)) == "truncated"
    assert end_of(UpstreamError(FaultKind.IDLE)) == "idle"


@pytest.mark.parametrize(
    "kind", [FaultKind.REQUEST, FaultKind.FOREIGN, FaultKind.SERVER, FaultKind.OVERLOADED, FaultKind.PROTOCOL]
)
def test_evidence_keeps_the_code_of_an_answer_that_may_quote_the_prompt_and_none_of_its_words(kind: FaultKind) -> None:
    quoting = UpstreamError(
        kind, "I do not like: my secret plan", status=400, code="bad_prompt", message="my secret plan"
    )
    assert outcome_of(quoting, MODEL).evidence == f"{kind.value}: 400 bad_prompt"
    assert outcome_of(UpstreamError(kind, "my secret plan", status=400), MODEL).evidence == f"{kind.value}: 400"


def test_evidence_about_an_account_is_what_the_upstream_said() -> None:
    said = UpstreamError(FaultKind.RATE_LIMITED, "The usage limit has been reached", status=429)
    assert "The usage limit has been reached" in outcome_of(said, MODEL).evidence


def test_evidence_without_an_answer_is_in_our_own_words() -> None:
    assert outcome_of(UpstreamError(FaultKind.CONNECT, "refused"), MODEL).evidence == "connect_refused: refused"
