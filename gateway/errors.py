"""Every error of ours: its status, its OpenAI-shaped body, its Retry-After, and its shape inside a stream. One table.

Rules that hold:

* a body is ``{"error": {"message", "type", "code", "param"}}``, never HTML, never a traceback;
* a message names the cause and the next step, and leaks no account, host or secret;
* ``usage_limit_reached`` is both type and code and carries ``plan_type``, ``resets_at`` and ``resets_in_seconds``,
  because the Codex CLI reads them there and then stops instead of retrying;
* an upstream 401 or 403 never reaches the client as such: it is about our account, not about the client's key, and
  the CLI would throw its own login away;
* a model that nobody may use is a 400: the CLI repeats a 404 six times and a 400 not at all;
* inside a stream that has begun only ``response.failed`` helps: SDKs and the CLI both understand it, and the CLI
  tries again for every code that it does not know.

What maps where: ``from_*`` functions, each total over its error tree. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from auth.errors import AuthError, CredentialError, InvalidKey, LimitExceeded, NotConfigured
from gateway import error_codes
from gateway.exchange import Exchange
from router.types import NoAccount, NoAccountReason
from upstream.errors import FaultKind, UpstreamError

RawHeader = tuple[bytes, bytes]

CODES: Final[dict[str, tuple[int, str]]] = error_codes.TABLE
"""Code to (status, type). A code that is not here is the upstream's own word about the request: 400."""

_CLIENT_CODE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_DRAIN_RETRY_S: Final = 2.0
_OVERLOAD_RETRY_S: Final = 1.0
_ACCOUNTS_RETRY_S: Final = 30.0


class GatewayError(Exception):
    """One refusal as the client will see it. Nothing of it is secret.

    ``fields`` are further members of the error object. ``close`` ends the connection after the answer, because
    what still comes on it cannot be trusted or is not wanted. ``allow`` is the Allow header of a 405.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        fields: Mapping[str, Any] | None = None,
        close: bool = False,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        known_status, self.type = CODES.get(code, (400, error_codes.INVALID))
        self.code = code
        self.message = message
        self.status = known_status if status is None else status
        self.param = param
        self.retry_after_s = retry_after_s
        self.fields = dict(fields or {})
        self.close = close
        self.allow = allow

    @classmethod
    def invalid(cls, message: str, param: str | None = None) -> GatewayError:
        return cls("invalid_request", message, param=param)

    @classmethod
    def invalid_json(cls, why: str) -> GatewayError:
        return cls("invalid_json", f"The body is not acceptable JSON: {why}. Send one UTF-8 JSON object.")

    @classmethod
    def forbidden(cls, why: str) -> GatewayError:
        return cls("forbidden", f"This key may not do that: {why}.")

    @classmethod
    def not_found(cls) -> GatewayError:
        return cls("not_found", "There is nothing at this path. The API is under /v1.")

    @classmethod
    def model_not_found(cls, model: str, *, for_call: bool = False) -> GatewayError:
        """``for_call``: 400 instead of 404, so that a client that retries every 404 gives up at once."""
        return cls(
            "model_not_found",
            f"No account can serve the model {model!r}. GET /v1/models lists what there is.",
            status=400 if for_call else None,
            param="model",
        )

    @classmethod
    def method_not_allowed(cls, allow: str) -> GatewayError:
        return cls("method_not_allowed", f"This path takes {allow}.", allow=allow)

    @classmethod
    def upgrade_required(cls) -> GatewayError:
        return cls("upgrade_required", "WebSocket is not spoken here: send the same call as POST over HTTP.")

    @classmethod
    def body_too_large(cls, limit_bytes: int) -> GatewayError:
        return cls("body_too_large", f"The body is larger than {limit_bytes} bytes, the limit here.", close=True)

    @classmethod
    def internal(cls) -> GatewayError:
        return cls("internal_error", "The gateway failed on this request. The log has it under this request id.")

    @classmethod
    def key_revoked(cls) -> GatewayError:
        return cls("invalid_api_key", "The API key has been revoked or has expired while the request ran.")

    @classmethod
    def draining(cls) -> GatewayError:
        return cls(
            "draining", "This gateway is shutting down. Try again now.", retry_after_s=_DRAIN_RETRY_S, close=True
        )

    @classmethod
    def budget_exhausted(cls, retry_after_s: float | None) -> GatewayError:
        """``retry_after_s``: tokens that running calls hold may come back; None: they will not."""
        return cls("budget_exhausted", "The task's budget of tokens is used up.", retry_after_s=retry_after_s)

    @classmethod
    def overloaded(cls) -> GatewayError:
        return cls(
            "overloaded", "The gateway has all the work it can take. Try again soon.", retry_after_s=_OVERLOAD_RETRY_S
        )

    @classmethod
    def store_unavailable(cls) -> GatewayError:
        return cls("store_unavailable", "The gateway's store does not answer. Try again soon.", retry_after_s=5.0)


def body(error: GatewayError) -> bytes:
    """The JSON body of ``error``."""
    inner = {"message": error.message, "type": error.type, "code": error.code, "param": error.param, **error.fields}
    return msgspec.json.encode({"error": inner})


def headers(error: GatewayError, size_bytes: int) -> list[RawHeader]:
    """Header fields of the answer whose body has ``size_bytes``."""
    fields: list[RawHeader] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(size_bytes).encode()),
        (b"cache-control", b"no-store"),
    ]
    if error.retry_after_s is not None:
        fields.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if error.status == 401:
        fields.append((b"www-authenticate", b"Bearer"))
    if error.status == 426:
        fields.append((b"upgrade", b"HTTP/1.1"))
    if error.allow is not None:
        fields.append((b"allow", error.allow.encode()))
    if error.close or error.status == 426:
        fields.append((b"connection", b"close"))
    return fields


def error_response(error: GatewayError, exchange: Exchange | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two ASGI messages that answer with ``error``; the request id and the attempts come from ``exchange``."""
    content = body(error)
    fields = headers(error, len(content))
    if exchange is not None:
        fields.append((b"x-request-id", exchange.id.encode()))
        if exchange.attempts:
            fields.append((b"x-relay-attempts", str(exchange.attempts).encode()))
        fields += exchange.extra_headers
    return (
        {"type": "http.response.start", "status": error.status, "headers": fields},
        {"type": "http.response.body", "body": content, "more_body": False},
    )


# -- translations ------------------------------------------------------------------------------------------------


def from_auth(error: AuthError) -> GatewayError:
    """One answer for every key that does not open; a gateway without keys is closed, not open."""
    if isinstance(error, LimitExceeded):
        return from_limit(error)
    if isinstance(error, NotConfigured):
        return GatewayError(
            "not_configured", "No client key exists yet. The operator makes one with: codex-relay keys create"
        )
    if isinstance(error, CredentialError):
        return GatewayError(
            "no_accounts",
            "The account for this request needs its operator: its login does not work now.",
            retry_after_s=_ACCOUNTS_RETRY_S,
        )
    if isinstance(error, InvalidKey):
        return GatewayError(
            "invalid_api_key", "The API key is missing or not valid. Send it as: Authorization: Bearer <key>"
        )
    return GatewayError.forbidden("the request was refused")


def from_limit(error: LimitExceeded) -> GatewayError:
    """A limit of the caller's own; says which, and when to come back."""
    what = "requests per minute" if error.limit_name == "requests" else "requests at once"
    return GatewayError(
        "rate_limited",
        f"The limit of this {error.scope} is reached: {error.limit} {what}. "
        f"Try again in {max(1, math.ceil(error.retry_after_s))}s.",
        retry_after_s=error.retry_after_s,
    )


def usage_limit(
    now_s: float | None, resets_at_s: float | None, retry_after_s: float | None, plan_type: str | None
) -> GatewayError:
    """``usage_limit_reached`` as the CLI reads it; what is not known is left out. ``now_s`` is Unix, None: unknown."""
    fields: dict[str, Any] = {}
    if plan_type is not None:
        fields["plan_type"] = plan_type
    if resets_at_s is not None:
        fields["resets_at"] = math.ceil(resets_at_s)
        if now_s is not None:
            retry_after_s = fields["resets_in_seconds"] = max(0, math.ceil(resets_at_s - now_s))
    return GatewayError(
        "usage_limit_reached", "The usage limit has been reached", retry_after_s=retry_after_s, fields=fields
    )


_NO_ACCOUNT: Final[dict[NoAccountReason, tuple[str, str, float | None]]] = {
    NoAccountReason.NONE_CONFIGURED: (
        "no_accounts",
        "No account is there for this key. The operator adds one with: codex-relay accounts import",
        None,
    ),
    NoAccountReason.UNUSABLE: (
        "no_accounts",
        "Every account is disabled or needs a new login. The operator sees which: codex-relay accounts list",
        _ACCOUNTS_RETRY_S,
    ),
    NoAccountReason.BUSY: ("overloaded", "Every account has all the streams it may. Try again soon.", 1.0),
    NoAccountReason.OWNER_OUT: (
        "no_accounts",
        "The account that holds this conversation cannot serve now. Try later, or leave its reasoning items out.",
        _ACCOUNTS_RETRY_S,
    ),
    NoAccountReason.ROUTE_DOWN: ("upstream_error", "The upstream cannot be reached now. Try again soon.", 5.0),
    NoAccountReason.EXCLUDED: ("upstream_error", "Every account was tried and none could serve. Try again.", 1.0),
}


def from_no_account(error: NoAccount, now_s: float, model: str = "") -> GatewayError:
    """Why nobody could take the request. ``now_s`` is Unix."""
    if error.reason is NoAccountReason.EXHAUSTED:
        return usage_limit(now_s, error.resets_at_s, error.retry_after_s, error.plan_type)
    if error.reason is NoAccountReason.MODEL_UNAVAILABLE:
        return GatewayError.model_not_found(model, for_call=True)
    code, message, retry_after_s = _NO_ACCOUNT[error.reason]
    if error.retry_after_s is not None:
        retry_after_s = error.retry_after_s
    return GatewayError(code, message, retry_after_s=retry_after_s)


_UPSTREAM: Final[dict[FaultKind, tuple[str, str]]] = {
    FaultKind.CONNECT: ("upstream_error", "The upstream refused the connection. Try again soon."),
    FaultKind.CONNECT_TIMEOUT: ("upstream_error", "The upstream did not take the connection in time. Try again."),
    FaultKind.DNS: ("upstream_error", "The upstream's name does not resolve from the gateway."),
    FaultKind.TLS: ("upstream_error", "No trusted TLS connection to the upstream is possible from the gateway."),
    FaultKind.PROTOCOL: ("upstream_error", "The upstream's answer was not understood. Try again."),
    FaultKind.REDIRECT: ("upstream_error", "The upstream answered with a redirect, which is never followed."),
    FaultKind.BLOCKED_ROUTE: (
        "upstream_blocked",
        "The upstream's edge blocks the gateway's network. The operator has to look at it.",
    ),
    FaultKind.AUTH: ("no_accounts", "The account for this request needs its operator: its login does not work now."),
    FaultKind.BLOCKED: ("no_accounts", "The upstream refuses the accounts that could serve this request."),
    FaultKind.OVERLOADED: ("overloaded", "The upstream is overloaded. Try again soon."),
    FaultKind.SERVER: ("upstream_error", "The upstream failed. Try again."),
    FaultKind.LOST: ("upstream_error", "The upstream closed the connection before it answered. Try again."),
    FaultKind.HEADER_TIMEOUT: ("upstream_timeout", "The upstream did not answer in time. Try again."),
    FaultKind.FIRST_EVENT_TIMEOUT: ("upstream_timeout", "The upstream did not answer in time. Try again."),
    FaultKind.FOREIGN: (
        "invalid_encrypted_content",
        "The conversation holds encrypted reasoning that cannot be opened. Send it without its reasoning items.",
    ),
    FaultKind.TRUNCATED: ("upstream_error", "The upstream's stream ended before the response did. Try again."),
    FaultKind.IDLE: ("upstream_timeout", "The upstream fell silent before the response ended. Try again."),
    FaultKind.EVENT_TOO_LARGE: ("upstream_error", "The upstream sent a single event larger than the limit here."),
    FaultKind.BUDGET: ("upstream_error", "The response was longer than the limit here, in time or in bytes."),
}


def from_upstream(error: UpstreamError, now_s: float | None = None, model: str = "") -> GatewayError:
    """What a failed exchange means for the client. ``now_s`` is Unix; without it a reset has no distance."""
    if error.kind is FaultKind.REQUEST:
        return _request_fault(error)
    if error.kind is FaultKind.MODEL:
        return GatewayError.model_not_found(model, for_call=True)
    if error.kind is FaultKind.RATE_LIMITED:
        if "usage_limit_reached" in (error.error_type, error.code) or error.authoritative:
            return usage_limit(now_s, error.resets_at_s, error.retry_after_s, error.plan_type)
        return GatewayError(
            "rate_limited",
            "The upstream throttles this account. Try again soon.",
            retry_after_s=error.retry_after_s or 1.0,
        )
    code, message = _UPSTREAM[error.kind]
    retry_after_s = error.retry_after_s
    if retry_after_s is None and code == "overloaded":
        retry_after_s = _OVERLOAD_RETRY_S
    return GatewayError(code, message, retry_after_s=retry_after_s)


def _request_fault(error: UpstreamError) -> GatewayError:
    """The upstream's own words about the request, in our shape."""
    code = error.code if error.code and _CLIENT_CODE.fullmatch(error.code) else "invalid_request"
    status = error.status if error.status in (400, 404, 413, 422) else 400
    message = error.message or "The upstream refused the request and did not say why."
    return GatewayError(code, message, status=status, param=error.param)


# -- inside a stream -----------------------------------------------------------------------------------------------

_STREAM_CODES: Final[dict[FaultKind, str]] = {
    FaultKind.IDLE: "upstream_idle_timeout",
    FaultKind.PROTOCOL: "upstream_protocol_error",
    FaultKind.EVENT_TOO_LARGE: "event_too_large",
    FaultKind.BUDGET: "stream_budget_exceeded",
}


def stream_failure(error: UpstreamError) -> tuple[str, str]:
    """(code, message) for a stream that has begun and cannot go on."""
    code = _STREAM_CODES.get(error.kind, "upstream_stream_truncated")
    kind = error.kind if error.kind in _STREAM_CODES else FaultKind.TRUNCATED
    return code, _UPSTREAM[kind][1]


def failed_event(
    code: str, message: str, sequence_number: int, model: str = "", response: Mapping[str, Any] | None = None
) -> bytes:
    """An SSE block of ``response.failed``, complete enough for the SDK's types and the CLI's parser.

    ``response`` is the Response object as last seen in this stream, if it was seen; its id and fields are kept.
    """
    failed: dict[str, Any] = {
        "id": "resp_failed",
        "object": "response",
        "created_at": 0,
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        "incomplete_details": None,
        "metadata": {},
    }
    failed |= dict(response or {})
    failed |= {"status": "failed", "error": {"code": code, "message": message}}
    event = {"type": "response.failed", "sequence_number": sequence_number, "response": failed}
    return b"event: response.failed\ndata: " + msgspec.json.encode(event) + b"\n\n"
