"""Whose fault was it? The one translation from what went wrong upstream to what the router hears.

Only faults of an account (or of one model of it) make it rest. The route, the request, the client and we
ourselves are never held against an account. Pure.
"""

from __future__ import annotations

from typing import Final

from auth.errors import CredentialError
from router.types import ACCOUNT_SCOPE, OK, Cause, Outcome, OutcomeKind, model_scope
from upstream.classify import classify_event
from upstream.errors import FaultKind, UpstreamError
from upstream.sse import Terminal

_KINDS: Final[dict[FaultKind, OutcomeKind]] = {
    FaultKind.CONNECT: OutcomeKind.ROUTE,
    FaultKind.CONNECT_TIMEOUT: OutcomeKind.ROUTE,
    FaultKind.DNS: OutcomeKind.ROUTE,
    FaultKind.TLS: OutcomeKind.ROUTE,
    FaultKind.PROTOCOL: OutcomeKind.ROUTE,
    FaultKind.REDIRECT: OutcomeKind.ROUTE,
    FaultKind.BLOCKED_ROUTE: OutcomeKind.ROUTE,
    FaultKind.RATE_LIMITED: OutcomeKind.RATE_LIMITED,
    FaultKind.AUTH: OutcomeKind.AUTH,
    FaultKind.BLOCKED: OutcomeKind.BLOCKED,
    FaultKind.MODEL: OutcomeKind.MODEL,
    FaultKind.OVERLOADED: OutcomeKind.OVERLOADED,
    FaultKind.SERVER: OutcomeKind.BROKEN,
    FaultKind.LOST: OutcomeKind.BROKEN,
    FaultKind.HEADER_TIMEOUT: OutcomeKind.BROKEN,
    FaultKind.FIRST_EVENT_TIMEOUT: OutcomeKind.BROKEN,
    FaultKind.TRUNCATED: OutcomeKind.BROKEN,
    FaultKind.REQUEST: OutcomeKind.CLIENT_ERROR,
    FaultKind.FOREIGN: OutcomeKind.FOREIGN,
    # a stream that was healthy until it hit a bound of ours or fell silent blames nobody
    FaultKind.IDLE: OutcomeKind.CANCELLED,
    FaultKind.EVENT_TOO_LARGE: OutcomeKind.CANCELLED,
    FaultKind.BUDGET: OutcomeKind.CANCELLED,
}

_PLAIN_SPOKEN: Final = frozenset({FaultKind.RATE_LIMITED, FaultKind.AUTH, FaultKind.BLOCKED, FaultKind.MODEL})
"""What the upstream says of these is about the account, in its own fixed words, and worth reading in ``why``."""
_ENDS: Final = frozenset({FaultKind.IDLE, FaultKind.BUDGET, FaultKind.EVENT_TOO_LARGE, FaultKind.PROTOCOL})


def outcome_of(error: UpstreamError | CredentialError, model: str) -> Outcome:
    """The outcome of an attempt that ended in ``error``; total over both error trees."""
    if isinstance(error, CredentialError):
        # its tokens could not be had, so another refresh is no help: the next account at once
        return Outcome(OutcomeKind.AUTH, cause=Cause.AUTH, evidence=str(error), sent=False, after_refresh=True)
    kind = _KINDS[error.kind]
    by_model = error.scope_model or kind is OutcomeKind.MODEL
    return Outcome(
        kind,
        scope=model_scope(model) if by_model else ACCOUNT_SCOPE,
        evidence=_evidence(error),
        status=error.status,
        sent=error.sent,
        retry_after_s=error.retry_after_s,
        resets_at_s=error.resets_at_s,
        authoritative=error.authoritative,
        plan_type=error.plan_type,
    )


def _evidence(error: UpstreamError) -> str:
    """For logs and records. An answer's words about a request or about itself may quote the prompt: of those its code
    is kept and nothing else. Without an answer the words are ours."""
    if error.status is None or error.kind in _PLAIN_SPOKEN:
        return str(error)[:200]
    word = error.code or error.error_type
    return f"{error.kind.value}: {error.status}{f' {word}' if word else ''}"[:80]


def verdict_of(terminal: Terminal, model: str, now_s: float) -> tuple[Outcome, str]:
    """The outcome of an attempt whose stream came to its end, and the word for that end. ``now_s`` is Unix."""
    if terminal.type in ("response.completed", "response.incomplete"):
        return OK, terminal.type.removeprefix("response.")
    error = classify_event(terminal.type, terminal.data, now_s)
    return (OK if error is None else outcome_of(error, model)), "upstream_failed"


def end_of(error: UpstreamError) -> str:
    """The word for the end of a stream that had begun and died of ``error``."""
    return (error.kind if error.kind in _ENDS else FaultKind.TRUNCATED).value
