"""Settings of the administrators' doors: the console, the admin API, single sign-on.

What would leave the door open or shut for everybody is refused at the start: a session that ends before it is idle, a
provider that is not asked over https, scopes without ``openid``.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from auth.provider_url import usable_url
from ops.sections.base import Seconds, Section


class AdminSettings(Section):
    """The admin API and the console. Over plain http the console is served on loopback only."""

    enabled: bool = Field(True, description="Serve /admin/api and /console.")
    session_idle_s: Seconds = Field(1800.0, description="A console session ends after this long without a request.")
    session_max_s: Seconds = Field(43_200.0, description="A console session ends after this long in any case.")
    require_totp: bool = Field(False, description="Password sign-in asks for a one-time code, always.")
    login_failures: int = Field(5, ge=1, description="Failed sign-ins in a row that make a name or an address wait.")
    login_wait_s: Seconds = Field(60.0, description="First wait after too many failed sign-ins; doubles to an hour.")
    bootstrap_ttl_s: Seconds = Field(3600.0, description="A one-time link for a first sign-in works this long.")
    device_login_ttl_s: Seconds = Field(900.0, description="A device sign-in that is not finished ends after this.")

    @model_validator(mode="after")
    def _idle_is_within_max(self) -> Self:
        if self.session_idle_s > self.session_max_s:
            raise ValueError("session_idle_s is longer than session_max_s; make it shorter")
        return self


class OidcSettings(Section):
    """Single sign-on for administrators by OpenID Connect; off until an issuer is named."""

    issuer: str | None = Field(None, description="Issuer URL; discovery is read below it.")
    client_id: str = Field("codex-relay", description="The client id that the provider knows us by.")
    client_secret: SecretStr | None = Field(None, description="Its secret; none for a public client with PKCE.")
    scopes: tuple[str, ...] = Field(("openid", "email", "profile"), description="Scopes that are asked for.")
    groups_claim: str = Field("groups", description="The claim that lists a person's groups.")
    roles: dict[str, Literal["owner", "admin", "auditor", "member"]] = Field(
        default_factory=dict, description="From group to role; the highest wins, and nobody gets in without one."
    )
    ca_file: str | None = Field(None, description="PEM bundle to trust besides the system's.")

    @field_validator("issuer")
    @classmethod
    def _issuer_is_asked_safely(cls, issuer: str | None) -> str | None:
        if issuer is not None and ("?" in issuer or not usable_url(issuer, plain=True)):
            raise ValueError("the issuer is not an https URL (plain http is taken on loopback only) without a query")
        return issuer

    @field_validator("scopes")
    @classmethod
    def _openid_is_asked_for(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes or any(not scope or any(char.isspace() for char in scope) for scope in scopes):
            raise ValueError("scopes must hold openid, and each is one word")
        return scopes
