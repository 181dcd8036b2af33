"""The HTTP failures of the Codex backend by name: status, body and headers as they were seen.

Pure. ``http_failure`` makes the answer for one account at one moment; an unknown name that is a number is a bare
status. In-stream failures are not here: see ``ops.simulator.streams``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ops.simulator.accounts import Account
from ops.simulator.script import Fail, Plan, UnknownDirective

CHALLENGE = (
    '<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title></head><body><h1>Attention Required'
    "</h1><noscript>Enable JavaScript and cookies to continue</noscript></body></html>"
)
_INVALIDATED = "Your authentication token has been invalidated. Please try signing in again."


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _unauthorized(code: str, message: str = _INVALIDATED) -> Fail:
    return Fail(401, {**error_body(message, "invalid_request_error", code), "status": 401})


def _overloaded(code: str, message: str) -> Fail:
    return Fail(503, error_body(message, "server_error", code))


_HTML = {"content-type": "text/html; charset=UTF-8"}
FIXED: Mapping[str, Fail] = MappingProxyType(
    {
        "usage_not_included": Fail(
            429, {"error": {"type": "usage_not_included", "message": "Your plan does not include Codex."}}
        ),
        "bare_429": Fail(429, b""),
        "insufficient_quota": Fail(
            429, error_body("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")
        ),
        "token_invalidated": _unauthorized("token_invalidated"),
        "token_expired": _unauthorized(
            "token_expired", "Provided authentication token is expired. Please try signing in again."
        ),
        "token_revoked": _unauthorized("token_revoked"),
        "app_session_terminated": _unauthorized("app_session_terminated", "Your session has ended."),
        "account_session_expired": _unauthorized("account_session_expired", "Your session has expired."),
        "account_deactivated": _unauthorized("account_deactivated", "Your account has been deactivated."),
        "account_suspended": _unauthorized("account_suspended", "Your account has been suspended."),
        "account_deleted": _unauthorized("account_deleted", "Your account has been deleted."),
        "unauthorized": Fail(401, {"detail": "Unauthorized"}),
        "deactivated_workspace": Fail(402, {"detail": {"code": "deactivated_workspace"}}),
        "cloudflare": Fail(
            403,
            CHALLENGE,
            {**_HTML, "cf-ray": "8f0c0ffee0000000-FRA", "cf-mitigated": "challenge", "server": "cloudflare"},
        ),
        "forbidden": Fail(403, {"detail": "Workspace is not authorized in this region."}),
        "unsupported_country": Fail(
            403,
            error_body(
                "Country, region, or territory not supported",
                "request_forbidden",
                "unsupported_country_region_territory",
            ),
        ),
        "not_found": Fail(404, {"detail": "Not Found"}),
        "gone": Fail(410, {"detail": "The requested model has been retired."}),
        "too_large": Fail(413, {"detail": "Request Entity Too Large"}),
        "unprocessable": Fail(422, {"detail": [{"loc": ["body"], "msg": "value is not valid", "type": "value_error"}]}),
        "context_length_exceeded": Fail(
            400,
            error_body(
                "Your input exceeds the context window of this model.",
                "invalid_request_error",
                "context_length_exceeded",
                "input",
            ),
        ),
        "cyber_policy": Fail(400, error_body("This request is not allowed.", "invalid_request_error", "cyber_policy")),
        "server_is_overloaded": _overloaded("server_is_overloaded", "Our servers are currently overloaded."),
        "slow_down": _overloaded("slow_down", "Slow down."),
        "server_error": Fail(500, error_body("The server had an error.", "server_error", "server_error")),
        "bad_gateway": Fail(502, "<html><head><title>502 Bad Gateway</title></head></html>", _HTML),
        "unavailable": Fail(503, "upstream connect error or disconnect/reset before headers"),
        "gateway_timeout": Fail(504, "stream timeout"),
        "overloaded_529": Fail(529, error_body("Overloaded", "overloaded_error", None)),
        "html200": Fail(200, CHALLENGE, _HTML),
        "json200": Fail(200, {"object": "response", "status": "completed", "output": []}),
        "no_content": Fail(204, b""),
    }
)
NAMES = frozenset(FIXED) | {"usage_limit_reached", "rate_limit_exceeded", "redirect", "model_not_supported"}


def usage_limit_reached(account: Account, now_s: float, resets_in_s: int | None) -> Fail:
    """The plan's limit is used up; without a time the body carries none."""
    error: dict[str, Any] = {
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": account.plan,
        "eligible_promo": None,
    }
    headers = {"x-codex-active-limit": "primary", "x-codex-primary-used-percent": "100"}
    if resets_in_s is not None:
        error["resets_at"] = int(now_s) + resets_in_s
        error["resets_in_seconds"] = resets_in_s
        headers["x-codex-primary-reset-at"] = str(error["resets_at"])
        headers["x-codex-primary-reset-after-seconds"] = str(resets_in_s)
    return Fail(429, {"error": error}, headers)


def http_failure(name: str, plan: Plan, account: Account, now_s: float, model: str) -> Fail:
    """The named answer, refined by the plan. Raises UnknownDirective for a name that is not there."""
    if name == "usage_limit_reached":
        made = usage_limit_reached(account, now_s, 3_600 if plan.resets_in_s is None else plan.resets_in_s or None)
    elif name == "rate_limit_exceeded":
        wait = plan.retry_after_s or 1
        text = plan.message or f"Rate limit reached. Please try again in {wait}s."
        made = Fail(429, error_body(text, "rate_limit_error", "rate_limit_exceeded"), {"retry-after": str(wait)})
    elif name == "redirect":
        made = Fail(302, b"", {"location": plan.location or "https://chatgpt.com/auth/login"})
    elif name == "model_not_supported":
        text = f"The '{model}' model is not supported when using Codex with a ChatGPT account."
        made = Fail(400, {"detail": text})
    elif name in FIXED:
        made = FIXED[name]
    elif name.isdigit() and 200 <= int(name) <= 599:
        made = Fail(int(name), {"detail": plan.message or f"Simulated {name}"})
    else:
        raise UnknownDirective(f"unknown failure {name!r}")
    headers = dict(made.headers)
    if plan.retry_after_s is not None:
        headers["retry-after"] = str(plan.retry_after_s)
    if plan.location is not None and made.status in {301, 302, 303, 307, 308}:
        headers["location"] = plan.location
    return Fail(made.status, made.body, headers)
