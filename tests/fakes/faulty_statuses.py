"""Answers of the upstream that are not a stream: a status with its scripted body and headers.

The bodies have the shapes of the real backend: ``{"error": {...}}`` for limits and tokens, ``{"detail": ...}`` for
refusals, HTML from the edge. Each function returns a :class:`Mode`; ``status`` makes any other.
"""

from __future__ import annotations

import http
import json
from collections.abc import Mapping

from tests.fakes.faulty_modes import Headers, head, named, steps
from tests.fakes.faulty_wire import Mode, Seen, Send

CHALLENGE = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
)


def _answer(code: int, body: bytes, headers: Headers, content_type: str = "application/json") -> bytes:
    try:
        reason = http.HTTPStatus(code).phrase
    except ValueError:
        reason = "Unknown"
    fields = (("content-type", content_type), ("x-request-id", "req_faulty"), *headers)
    return head(code, fields, framing=f"content-length: {len(body)}", reason=reason) + body


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body).encode()


@named
def status(
    code: int,
    body: bytes | Mapping[str, object] = b"",
    *,
    headers: Headers = (),
    content_type: str = "application/json",
) -> Mode:
    """Any status with any body; a mapping becomes JSON."""
    raw = body if isinstance(body, bytes) else _json(body)
    return steps(Send(_answer(code, raw, headers, content_type)))


@named
def early(code: int = 413) -> Mode:
    """A status that comes before the request's body was read; the connection is closed then."""
    body = _json({"detail": "too large"})
    return steps(Send(_answer(code, body, (("connection", "close"),))), read="head")


@named
def usage_limit(
    *,
    resets_in_s: int | None = None,
    resets_at_s: int | None = None,
    retry_after: str | None = None,
    kind: str = "usage_limit_reached",
    headers: Headers = (),
) -> Mode:
    """429 of a plan's window with the evidence that is named."""
    error: dict[str, object] = {"type": kind, "message": "The usage limit has been reached", "plan_type": "pro"}
    if resets_in_s is not None:
        error["resets_in_seconds"] = resets_in_s
    if resets_at_s is not None:
        error["resets_at"] = resets_at_s
    extra = (("retry-after", retry_after),) if retry_after is not None else ()
    return steps(Send(_answer(429, _json({"error": error}), (*headers, *extra))))


@named
def throttled(*, retry_after: str | None = "1", message: str = "Rate limit reached, try again in 1.5s") -> Mode:
    """429 of short-term throttling: ``rate_limit_exceeded``."""
    extra = (("retry-after", retry_after),) if retry_after is not None else ()
    body = {"error": {"type": "rate_limit_exceeded", "code": "rate_limit_exceeded", "message": message}}
    return steps(Send(_answer(429, _json(body), extra)))


@named
def bare_429() -> Mode:
    """429 without a word."""
    return steps(Send(_answer(429, b"", ())))


@named
def unauthorized(code: str = "token_expired") -> Mode:
    """401 with ``error.code``; an empty code gives ``{"detail": "Unauthorized"}``."""
    message = "Your authentication token has been invalidated. Please try signing in again."
    error = {"message": message, "type": "invalid_request_error", "code": code, "param": None}
    body: dict[str, object] = {"error": error, "status": 401} if code else {"detail": "Unauthorized"}
    return steps(Send(_answer(401, _json(body), ())))


@named
def cloudflare() -> Mode:
    """403 of the edge: a challenge page in HTML."""
    extra = (("cf-mitigated", "challenge"), ("cf-ray", "8f00ba4-AMS"), ("server", "cloudflare"))
    return steps(Send(_answer(403, CHALLENGE, extra, "text/html; charset=UTF-8")))


@named
def forbidden(code: str | None = "unsupported_country_region_territory") -> Mode:
    """403 in JSON: the account, the country or the workspace; without a code ``{"detail": "Forbidden"}``."""
    body: dict[str, object] = {"error": {"code": code, "message": "not allowed"}} if code else {"detail": "Forbidden"}
    return steps(Send(_answer(403, _json(body), ())))


@named
def payment_required(code: str = "deactivated_workspace") -> Mode:
    """402: the plan is gone."""
    return steps(Send(_answer(402, _json({"detail": {"code": code}}), ())))


@named
def refused(code: int = 400, detail: str = "Unsupported parameter: temperature") -> Mode:
    """400, 404, 413, 422: the request is at fault; ``{"detail": ...}``."""
    return steps(Send(_answer(code, _json({"detail": detail}), ())))


@named
def refused_by(code: str = "context_length_exceeded", *, param: str | None = "input") -> Mode:
    """400 with ``error.code``."""
    error = {"code": code, "type": "invalid_request_error", "param": param, "message": f"{code}, says the backend"}
    return steps(Send(_answer(400, _json({"error": error}), ())))


@named
def overloaded(code: str = "server_is_overloaded", *, number: int = 503) -> Mode:
    """503 (or 529): ``server_is_overloaded`` or ``slow_down``."""
    return steps(Send(_answer(number, _json({"error": {"code": code, "message": "at capacity"}}), ())))


@named
def server_error(number: int = 500) -> Mode:
    """5xx with a JSON body."""
    return steps(Send(_answer(number, _json({"error": {"message": "internal", "type": "server_error"}}), ())))


@named
def redirect(code: int = 302) -> Mode:
    """301, 302, 307 or 308 to the canary listener, which counts who follows."""

    def play(seen: Seen) -> list[Send]:
        return [Send(_answer(code, b"", (("location", seen.canary_url),)))]

    return Mode("redirect", play)


@named
def html_200() -> Mode:
    """200 with a page."""
    return steps(Send(_answer(200, b"<html><body>Welcome</body></html>", (), "text/html")))


@named
def json_200() -> Mode:
    """200 with JSON that is no stream."""
    return steps(Send(_answer(200, _json({"ok": True}), ())))
