"""What the admin API says: one type for every answer. The OpenAPI document is made of these.

Times are Unix seconds in fields named ``*_at_s``. No token, password, digest or content is ever a member; what is
shown once (a new key, a one-time link, the secret of a second factor) has a type of its own. Pure data.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class SignInOptions(Answer, frozen=True, kw_only=True):
    password: bool
    oidc: bool
    bootstrap_needed: bool


class PrincipalView(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    tenant_id: str | None


class Features(Answer, frozen=True, kw_only=True):
    sandbox: bool


class SessionAnswer(Answer, frozen=True, kw_only=True):
    """For a key there is no session: no CSRF token is asked of it and no time ends it here."""

    principal: PrincipalView
    csrf_token: str | None
    expires_at_s: float | None
    idle_expires_at_s: float | None
    totp_enabled: bool
    features: Features


class TotpAnswer(Answer, frozen=True, kw_only=True):
    """Shown once. ``uri`` is what an authenticator app reads."""

    secret: str
    uri: str


class SessionItem(Answer, frozen=True, kw_only=True):
    id: str
    created_at_s: float
    seen_at_s: float
    expires_at_s: float
    current: bool
    address: str
    user_agent: str


class SessionList(Answer, frozen=True, kw_only=True):
    items: list[SessionItem]


class AdminAnswer(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    tenant_id: str | None
    enabled: bool
    totp_enabled: bool
    sso: bool
    created_at_s: float
    last_login_at_s: float | None
    version: int


class AdminList(Answer, frozen=True, kw_only=True):
    items: list[AdminAnswer]


class InvitedAdmin(Answer, frozen=True, kw_only=True):
    """``link`` works once and is shown once."""

    admin: AdminAnswer
    link: str


class LinkAnswer(Answer, frozen=True, kw_only=True):
    link: str


class BlockView(Answer, frozen=True, kw_only=True):
    scope: str
    kind: str
    cause: str
    evidence: str
    since_at_s: float | None
    until_at_s: float | None
    next_probe_at_s: float | None


class WindowView(Answer, frozen=True, kw_only=True):
    name: str
    used_percent: float
    window_minutes: int | None
    resets_at_s: float | None
    seen_at_s: float


class AccountAnswer(Answer, frozen=True, kw_only=True):
    """``reasons`` say why the account does not serve, or might soon not, each with its next step. Requests and tokens
    are those of the last seven days."""

    id: str
    label: str
    email: str | None
    plan: str | None
    pool: str
    weight: int
    enabled: bool
    state: str
    status: str
    reasons: list[str]
    blocks: list[BlockView]
    windows: list[WindowView]
    access_expires_at_s: float | None
    refreshed_at_s: float | None
    refresh_state: str | None
    requests: int
    input_tokens: int
    output_tokens: int
    created_at_s: float
    version: int


class AccountList(Answer, frozen=True, kw_only=True):
    items: list[AccountAnswer]


class RemovedAccount(Answer, frozen=True, kw_only=True):
    """``revoked``: the issuer has taken the refresh token back."""

    id: str
    revoked: bool


class ImportItem(Answer, frozen=True, kw_only=True):
    source: str
    outcome: str
    code: str
    message: str
    account_id: str | None
    label: str | None
    warnings: list[str]


class ImportAnswer(Answer, frozen=True, kw_only=True):
    items: list[ImportItem]


class LoginFailure(Answer, frozen=True, kw_only=True):
    code: str
    message: str


class LoginAnswer(Answer, frozen=True, kw_only=True):
    id: str
    kind: Literal["device", "callback"]
    state: Literal["pending", "done", "failed", "expired", "cancelled"]
    requested_by: str
    pool: str | None
    label: str | None
    expect: str | None
    user_code: str | None
    verification_url: str | None
    authorize_url: str | None
    created_at_s: float
    expires_at_s: float
    failure: LoginFailure | None
    account_id: str | None
    account_label: str | None
    version: int


class LoginList(Answer, frozen=True, kw_only=True):
    items: list[LoginAnswer]


class LimitsView(Answer, frozen=True, kw_only=True):
    requests_per_minute: int | None
    concurrent_streams: int | None


class TenantAnswer(Answer, frozen=True, kw_only=True):
    id: str
    name: str
    pools: list[str]
    limits: LimitsView
    enabled: bool
    created_at_s: float
    version: int


class TenantList(Answer, frozen=True, kw_only=True):
    items: list[TenantAnswer]


class Removed(Answer, frozen=True, kw_only=True):
    id: str


class KeyAnswer(Answer, frozen=True, kw_only=True):
    id: str
    tenant_id: str
    name: str
    scopes: list[str]
    models: list[str]
    limits: LimitsView
    expires_at_s: float | None
    revoked_at_s: float | None
    created_at_s: float
    version: int


class KeyList(Answer, frozen=True, kw_only=True):
    items: list[KeyAnswer]


class MintedKey(Answer, frozen=True, kw_only=True):
    """``key`` is shown this once."""

    key: str
    record: KeyAnswer


class AuditItem(Answer, frozen=True, kw_only=True):
    seq: int
    at_s: float
    actor: str
    action: str
    outcome: str
    tenant_id: str | None
    key_id: str | None
    request_id: str | None
    target: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    detail: dict[str, Any]
    prev_hash: str
    hash: str


class AuditPage(Answer, frozen=True, kw_only=True):
    """``next_after_seq`` null: there is no more for now."""

    items: list[AuditItem]
    next_after_seq: int | None


class AuditVerdict(Answer, frozen=True, kw_only=True):
    """``fault`` null: the chain is whole."""

    records: int
    fault: str | None


class AccountCounts(Answer, frozen=True, kw_only=True):
    total: int
    by_state: dict[str, int]


class PoolView(Answer, frozen=True, kw_only=True):
    name: str
    accounts: int
    usable: int
    dry_at_s: float | None


class OverviewAnswer(Answer, frozen=True, kw_only=True):
    """``requests_1h`` and ``tokens_1h`` are of this hour of the clock and the one before."""

    accounts: AccountCounts
    requests_1h: int
    tokens_1h: int
    pools: list[PoolView]
    version: str
    workers: int


class UsageItem(Answer, frozen=True, kw_only=True):
    """``errors`` are requests that did not end well."""

    name: str
    requests: int
    input_tokens: int
    output_tokens: int
    errors: int


class UsageAnswer(Answer, frozen=True, kw_only=True):
    items: list[UsageItem]


class PoolForecast(Answer, frozen=True, kw_only=True):
    """``dry_at_s`` null: not within two weeks."""

    name: str
    dry_at_s: float | None
    confidence: Literal["high", "low"]
    usable: int
    total: int


class ForecastAnswer(Answer, frozen=True, kw_only=True):
    pools: list[PoolForecast]


class ErrorBody(Answer, frozen=True, kw_only=True):
    message: str
    type: str
    code: str
    param: str | None


class ErrorAnswer(Answer, frozen=True, kw_only=True):
    error: ErrorBody
