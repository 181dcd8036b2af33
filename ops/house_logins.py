"""The way in and out for accounts: the importer, the logins, and the issuer that ends them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import httpx

from auth.check import AccountCheck, sole_entry
from auth.device import DeviceClient
from auth.importer import Importer
from auth.landing import Record
from auth.login_book import OnboardingStore
from auth.logins import Login
from auth.oauth import OAuthClient
from auth.onboarding import Onboarding, OnboardingRules
from ops.alerts import Messages
from ops.clock import Clock
from ops.log import get_logger
from ops.settings import Settings
from store.records import Secret
from upstream.client import CodexClient
from upstream.dial import parse_origin
from upstream.errors import UpstreamError

ONBOARD_INTERVAL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Entrance:
    """Ways in (files, logins) and the way out (``oauth.revoke``, by auth.leaving)."""

    importer: Importer
    onboarding: Onboarding
    oauth: OAuthClient


def importer_of(settings: Settings, store: OnboardingStore, codex: CodexClient | None, clock: Clock) -> Importer:
    """The importer; with ``codex`` it asks the backend about each account."""
    origin, _ = parse_origin(settings.upstream.base_url)

    async def check(access_token: Secret, account_id: str) -> AccountCheck | None:
        if codex is None:
            return None
        try:
            entries = await codex.accounts_check(access_token, account_id)
        except UpstreamError:
            return None  # the importer says so, and goes on
        return sole_entry(entries, account_id)

    return Importer(
        store,
        check if codex is not None else None,
        clock,
        home_origin=f"{origin.scheme}://{origin.authority.decode()}",
        allowed_origins=settings.upstream.allowed_origins,
    )


def entrance(
    settings: Settings,
    store: OnboardingStore,
    http: httpx.AsyncClient,
    codex: CodexClient,
    clock: Clock,
    worker: str,
    record: Record | None,
    messages: Messages | None = None,
) -> Entrance:
    """All of it for one process. ``record`` None: the audit log is off; ``messages`` hears of each login's end."""
    oauth = OAuthClient(http, settings.oauth.issuer, settings.oauth.client_id, settings.oauth.refresh_timeout_s)
    importer = importer_of(settings, store, codex, clock)
    onboarding = Onboarding(
        store,
        DeviceClient(http, settings.oauth.issuer, settings.oauth.client_id),
        oauth,
        importer,
        clock,
        OnboardingRules(settings.oauth.issuer, settings.oauth.client_id, worker),
        record=record,
        ended=partial(_tell, messages),
    )
    return Entrance(importer, onboarding, oauth)


def _tell(messages: Messages | None, login: Login) -> None:
    failure = login.failure.code if login.failure is not None else None
    if messages is not None:
        data = {"login": login.id, "account": login.account_id, "requested_by": login.requested_by, "failure": failure}
        text = f"the login that {login.requested_by} asked for is {login.state.value}"
        messages.send(f"login.{login.state.value}", text, data)
    get_logger().info("login_ended", login=login.id, state=login.state.value, account=login.account_id, failure=failure)
