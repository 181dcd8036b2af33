"""Every code of an error of ours, with the status and the type that go with it. One table, no logic.

docs/errors.md says of each what it means and what helps; a test holds the two together. How an error is made, worded
and sent is in gateway.errors.
"""

from __future__ import annotations

from typing import Final

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"

TABLE: Final[dict[str, tuple[int, str]]] = {
    "invalid_json": (400, INVALID),
    "invalid_request": (400, INVALID),
    "invalid_encrypted_content": (400, INVALID),
    "invalid_api_key": (401, "authentication_error"),
    "not_signed_in": (401, "authentication_error"),
    "wrong_credentials": (401, "authentication_error"),
    "code_required": (401, "authentication_error"),
    "link_invalid": (401, "authentication_error"),
    "forbidden": (403, "permission_error"),
    "csrf_failed": (403, "permission_error"),
    "https_required": (403, "permission_error"),
    "not_found": (404, INVALID),
    "model_not_found": (404, INVALID),
    "method_not_allowed": (405, INVALID),
    "request_timeout": (408, INVALID),
    "conflict": (409, INVALID),
    "last_owner": (409, INVALID),
    "body_too_large": (413, INVALID),
    "uri_too_long": (414, INVALID),
    "unsupported_media_type": (415, INVALID),
    "upgrade_required": (426, INVALID),
    "usage_limit_reached": (429, "usage_limit_reached"),
    "usage_not_included": (429, "usage_not_included"),
    "rate_limited": (429, "rate_limit_error"),
    "budget_exhausted": (429, "insufficient_quota"),
    "queue_full": (429, "rate_limit_error"),
    "login_throttled": (429, "rate_limit_error"),
    "insufficient_quota": (429, "insufficient_quota"),
    "headers_too_large": (431, INVALID),
    "internal_error": (500, SERVER),
    "upstream_error": (502, SERVER),
    "upstream_blocked": (502, SERVER),
    "not_configured": (503, SERVER),
    "no_accounts": (503, SERVER),
    "overloaded": (503, SERVER),
    "draining": (503, SERVER),
    "store_unavailable": (503, SERVER),
    "upstream_timeout": (504, SERVER),
}
