"""What does an answer that is not a stream of events mean, and whose fault is it?

Two tables, one for answers (`classify`), one for failures inside a stream (`classify_event`). Rules that hold:

* an HTML page is Cloudflare or another box on the way, never the backend's word about an account;
* a limit of the account is believed with the time that the body names, then the headers, then the text;
* what the request did wrong is the client's to see: code, message and param are kept, cut and redacted;
* a moment that cannot be true is taken as not said;
* nothing here raises, whatever the upstream wrote.

Pure. Statuses and codes as observed on the backend and in the Codex CLI; unknown codes inside a stream are left to
the client (None), unknown statuses fall to their class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from ops import redact
from upstream.errors import FaultKind, UpstreamError
from upstream.types import RawHeaders
from upstream.usage import decode_object, number, plausible_reset, windows_from_headers

EXCERPT_CHARS: Final = 200
MESSAGE_CHARS: Final = 1000
_PLAN_LIMIT: Final = "codex"

_AUTH_CODES: Final = frozenset(
    {
        "token_invalidated", "token_expired", "token_revoked", "app_session_terminated", "account_session_expired",
        "invalid_api_key", "unauthorized",
    }
)  # fmt: skip
_GONE_CODES: Final = frozenset(
    {"account_deactivated", "account_suspended", "account_deleted", "deactivated_workspace", "usage_not_included"}
)
_LIMIT_CODES: Final = frozenset({"usage_limit_reached", "rate_limit_exceeded", "insufficient_quota"})
_OVERLOAD_CODES: Final = frozenset({"server_is_overloaded", "slow_down", "overloaded_error", "overloaded"})
_SERVER_CODES: Final = frozenset({"server_error", "internal_error", "internal_server_error"})
_MODEL_CODES: Final = frozenset({"model_not_found", "model_not_available", "unsupported_model"})
_FOREIGN_CODES: Final = frozenset({"invalid_encrypted_content"})

_MODEL_TEXT: Final = re.compile(
    r"model is not supported when using codex|does not exist or you do not have access to it", re.IGNORECASE
)
_FOREIGN_TEXT: Final = re.compile(
    r"encrypted[ _]content.{0,80}(?:could not|cannot|invalid|not be|fail|verif|decrypt)"
    r"|(?:invalid|verif\w*|decrypt\w*).{0,40}encrypted[ _]content"
    r"|invalid signature|thinking[ _]signature|invalid turn[ _-]?state",
    re.IGNORECASE | re.DOTALL,
)
_TRY_AGAIN: Final = re.compile(
    r"(?:try again|retry) (?:in|after) (?:(\d+)m(?!s) ?)?(?:(\d+(?:\.\d+)?) ?(ms|s)\b)?", re.I
)
_HTML: Final = re.compile(
    rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|body|title)\b", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a failure says of itself, whichever of the backend's shapes it has."""

    code: str | None
    error_type: str | None
    message: str | None
    param: str | None
    detail: Mapping[str, Any]

    @property
    def words(self) -> frozenset[str]:
        return frozenset(word for word in (self.code, self.error_type) if word)


def classify(status: int, headers: RawHeaders, body_excerpt: bytes, now_s: float) -> UpstreamError:
    """The error that an answer means which is not a 2xx event stream.

    Args: header names in lower case; ``body_excerpt`` is the start of the body (more than 64 KiB is not looked at).
    """
    body = body_excerpt[:65_536]
    told = dict(reversed(headers))
    answer = decode_object(body) if body[:1] in b"{ \t\r\n" else {}
    said = _said(answer)
    kind = _kind_of_answer(status, told, body, said)
    error = UpstreamError(kind, _excerpt(body), status=status)
    _put_words(error, said)
    if kind in (FaultKind.RATE_LIMITED, FaultKind.OVERLOADED, FaultKind.BLOCKED_ROUTE, FaultKind.SERVER):
        _put_times(error, said, headers, told, now_s)
    if kind is FaultKind.MODEL or (kind is FaultKind.RATE_LIMITED and _of_one_model(told)):
        error.scope_model = True
    return error


def classify_event(kind: str, data: bytes, now_s: float) -> UpstreamError | None:
    """The error that a failure inside a stream means, or None when it is the client's to see.

    Args: ``kind`` is the event's type, ``data`` its JSON. Only ``response.failed`` and ``error`` can mean one.
    None stands for faults of the request (context length, policy, prompt) and for codes that nobody knows.
    """
    if kind not in ("response.failed", "error"):
        return None
    event = decode_object(data)
    response = event.get("response")
    said = _said(response if kind == "response.failed" and isinstance(response, dict) else event)
    fault = _kind_of_words(said)
    if fault is None or fault is FaultKind.REQUEST:
        return None
    error = UpstreamError(fault, _excerpt(_line(said).encode(errors="replace")), status=200)
    _put_words(error, said)
    told = _event_headers(event.get("headers"))
    _put_times(error, said, list(told.items()), told, now_s)
    error.scope_model = fault is FaultKind.MODEL
    return error


def _kind_of_answer(status: int, told: Mapping[bytes, bytes], body: bytes, said: _Said) -> FaultKind:
    if status < 300:
        return FaultKind.PROTOCOL
    if status < 400:
        return FaultKind.REDIRECT
    if status in (401, 403, 429, 503) and _from_the_way(status, told, body):
        return FaultKind.BLOCKED_ROUTE
    by_words = _kind_of_words(said)
    if status < 500:
        return _kind_of_refusal(status, by_words, said)
    if by_words is FaultKind.OVERLOADED or status in (503, 529):
        return FaultKind.OVERLOADED
    return FaultKind.SERVER


def _kind_of_refusal(status: int, by_words: FaultKind | None, said: _Said) -> FaultKind:
    if by_words in (FaultKind.MODEL, FaultKind.FOREIGN):
        return by_words
    if status == 401:
        return FaultKind.BLOCKED if by_words is FaultKind.BLOCKED else FaultKind.AUTH
    if status == 402:
        return FaultKind.BLOCKED if said.words & _GONE_CODES else FaultKind.MODEL
    if status == 403:
        return FaultKind.BLOCKED
    if status == 410:
        return FaultKind.MODEL
    if status == 429:
        return FaultKind.BLOCKED if by_words is FaultKind.BLOCKED else FaultKind.RATE_LIMITED
    return FaultKind.SERVER if status in (408, 425) else FaultKind.REQUEST


def _kind_of_words(said: _Said) -> FaultKind | None:
    words = said.words
    if not words and not said.message:
        return None
    for codes, kind in (
        (_FOREIGN_CODES, FaultKind.FOREIGN),
        (_LIMIT_CODES, FaultKind.RATE_LIMITED),
        (_GONE_CODES, FaultKind.BLOCKED),
        (_OVERLOAD_CODES, FaultKind.OVERLOADED),
        (_AUTH_CODES, FaultKind.AUTH),
        (_MODEL_CODES, FaultKind.MODEL),
        (_SERVER_CODES, FaultKind.SERVER),
    ):
        if words & codes:
            return kind
    message = said.message or ""
    if _MODEL_TEXT.search(message):
        return FaultKind.MODEL
    return FaultKind.FOREIGN if _FOREIGN_TEXT.search(message) else None


def _from_the_way(status: int, told: Mapping[bytes, bytes], body: bytes) -> bool:
    if b"cf-mitigated" in told or _HTML.match(body) or told.get(b"content-type", b"").lower().startswith(b"text/html"):
        return True
    return status == 403 and b"cf-ray" in told and not body.lstrip().startswith(b"{")


def _of_one_model(told: Mapping[bytes, bytes]) -> bool:
    """The limit that was hit is another family than the plan's own: the account goes on for other models."""
    active = told.get(b"x-codex-active-limit", b"").decode("latin-1").strip().lower().replace("_", "-")
    return active not in ("", _PLAN_LIMIT, "primary", "secondary", f"{_PLAN_LIMIT}-primary", f"{_PLAN_LIMIT}-secondary")


def _said(answer: Mapping[str, Any]) -> _Said:
    error = answer.get("error")
    if isinstance(error, str):
        return _Said(error, None, _str(answer.get("error_description")) or _str(answer.get("message")), None, answer)
    if not isinstance(error, dict):
        detail = answer.get("detail")
        if isinstance(detail, str):
            return _Said(None, None, detail, None, {})
        error = detail if isinstance(detail, dict) else answer
    kind = _str(error.get("type"))
    return _Said(
        code=_str(error.get("code")),
        error_type=None if kind == "error" else kind,
        message=_str(error.get("message")),
        param=_str(error.get("param")),
        detail=error,
    )


def _put_words(error: UpstreamError, said: _Said) -> None:
    error.code = _word(said.code)
    error.error_type = _word(said.error_type)
    error.param = _word(said.param)
    error.plan_type = _word(_str(said.detail.get("plan_type")))
    if said.message is not None:
        error.message = redact.text(said.message[:MESSAGE_CHARS])[:MESSAGE_CHARS]


def _put_times(
    error: UpstreamError, said: _Said, headers: RawHeaders, told: Mapping[bytes, bytes], now_s: float
) -> None:
    """Body first, then ``retry-after``, then the text, then full windows."""
    limit = "usage_limit_reached" in said.words
    resets_at_s = plausible_reset(number(said.detail.get("resets_at")), now_s)
    ahead_s = number(said.detail.get("resets_in_seconds"))
    if resets_at_s is None and ahead_s is not None:
        resets_at_s = plausible_reset(now_s + ahead_s, now_s)
    if resets_at_s is None and limit:
        full = [w.resets_at_s for w in windows_from_headers(headers, now_s) if w.used_percent >= 100 and w.resets_at_s]
        resets_at_s = max(full, default=None)
    error.resets_at_s = resets_at_s
    error.authoritative = limit and resets_at_s is not None
    if resets_at_s is not None:
        error.retry_after_s = resets_at_s - now_s
    else:
        error.retry_after_s = retry_after_s(told.get(b"retry-after"), now_s) or _try_again_s(said.message)


def retry_after_s(value: bytes | None, now_s: float) -> float | None:
    """Seconds that a ``retry-after`` header asks for (delta seconds or an HTTP date), None if it says nothing."""
    if value is None:
        return None
    seconds = number(value)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(value.decode("latin-1")).timestamp() - now_s
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return seconds if plausible_reset(now_s + seconds, now_s) is not None else None


def _try_again_s(message: str | None) -> float | None:
    match = _TRY_AGAIN.search(message or "")
    if match is None or not any(match.groups()):
        return None
    minutes, amount, unit = match.groups()
    seconds = float(amount or 0) / (1000 if unit and unit.lower() == "ms" else 1)
    return min(float(minutes or 0) * 60 + seconds, 86_400.0)


def _event_headers(told: object) -> dict[bytes, bytes]:
    if not isinstance(told, dict):
        return {}
    return {
        str(name).lower().encode(errors="replace"): str(value).encode(errors="replace") for name, value in told.items()
    }


def _line(said: _Said) -> str:
    return ": ".join(word for word in (said.code or said.error_type, said.message) if word)


def _excerpt(body: bytes) -> str:
    return redact.text(body[: EXCERPT_CHARS * 4].decode(errors="replace"))[:EXCERPT_CHARS]


def _str(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _word(value: str | None) -> str | None:
    return None if value is None else redact.text(value[:200])
