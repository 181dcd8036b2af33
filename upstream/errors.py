"""What can go wrong between us and the Codex backend, said once.

One class with a kind; the tree of kinds::

    nobody's account            an account or a model              the request
      CONNECT  refused/unreach    RATE_LIMITED  429                  REQUEST   400/404/413/422
      CONNECT_TIMEOUT             AUTH          401                  FOREIGN   invalid_encrypted_content
      DNS                         BLOCKED       402/403 JSON
      TLS                         MODEL         no entitlement
      PROTOCOL  not HTTP/SSE      OVERLOADED    503/529/in-stream
      REDIRECT                    SERVER        other 5xx
      BLOCKED_ROUTE Cloudflare    LOST          reset/closed before an answer
                                  TIMEOUT       headers or first event
    after the answer began (streams)
      TRUNCATED  IDLE  EVENT_TOO_LARGE  BUDGET
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    CONNECT = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    DNS = "dns_error"
    TLS = "tls_error"
    PROTOCOL = "protocol_error"
    REDIRECT = "redirect"
    BLOCKED_ROUTE = "upstream_blocked"
    RATE_LIMITED = "rate_limited"
    AUTH = "auth"
    BLOCKED = "blocked"
    MODEL = "model"
    OVERLOADED = "overloaded"
    SERVER = "server_error"
    LOST = "conn_lost_pre"
    HEADER_TIMEOUT = "header_timeout"
    FIRST_EVENT_TIMEOUT = "ttfb_timeout"
    REQUEST = "request"
    FOREIGN = "foreign_reasoning"
    TRUNCATED = "truncated"
    IDLE = "idle"
    EVENT_TOO_LARGE = "event_too_large"
    BUDGET = "budget"


@dataclass(eq=False)
class UpstreamError(Exception):
    """One failed exchange with the upstream.

    ``sent``: some of the request may have reached the upstream. ``reused``: it failed on a pooled connection
    before any byte of an answer. ``status`` is the upstream's, None without an answer. ``code``, ``message`` and
    ``param`` are the upstream's own words (message cut to 1,000 characters and redacted), for request faults only
    meant for the client. ``excerpt`` is a short redacted piece for logs and evidence. ``retry_after_s`` is
    relative; ``resets_at_s`` Unix seconds from the body; ``authoritative``: about the plan's window.
    ``scope_model``: only the requested model is out, not the account.
    """

    kind: FaultKind
    excerpt: str = ""
    status: int | None = field(default=None, kw_only=True)
    sent: bool = field(default=True, kw_only=True)
    reused: bool = field(default=False, kw_only=True)
    code: str | None = field(default=None, kw_only=True)
    error_type: str | None = field(default=None, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    param: str | None = field(default=None, kw_only=True)
    retry_after_s: float | None = field(default=None, kw_only=True)
    resets_at_s: float | None = field(default=None, kw_only=True)
    authoritative: bool = field(default=False, kw_only=True)
    plan_type: str | None = field(default=None, kw_only=True)
    scope_model: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.excerpt}" if self.excerpt else self.kind.value
