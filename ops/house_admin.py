"""The administrators' part of the house: who may sign in, what brings accounts in, the admin API and the console.

Built from the settings and from parts that the relay has anyway (store, keys, tokens, client of the upstream). It
shares nothing with the hot path but the process. With ``[admin] enabled = false`` nothing of it is built.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx

from auth.admins import AdminDirectory
from auth.oidc import CALLBACK_PATH, OidcPolicy, OidcSignIn
from auth.passwords import Passwords
from auth.roles import Role
from auth.sessions import Sessions
from auth.signin import SignIn
from auth.throttle import LoginThrottle
from gateway.admin.access import Access
from gateway.admin.accounts import Accounts, Outside
from gateway.admin.acts import Acts
from gateway.admin.admins import Admins
from gateway.admin.app import AdminApi, ConsoleDoor
from gateway.admin.audit import Audit
from gateway.admin.forecast import Forecasts
from gateway.admin.imports import Imports
from gateway.admin.keys import Keys
from gateway.admin.logins import LoginDesk
from gateway.admin.me import Me
from gateway.admin.oidc import OidcDoor
from gateway.admin.openapi import Described
from gateway.admin.overview import About, Overview
from gateway.admin.session import SignInDoor
from gateway.admin.tenants import Tenants
from gateway.admin.types import Handler
from gateway.admin.usage import Usage
from gateway.app import Endpoints
from gateway.console.app import ConsoleApp
from gateway.tasks.routes import REST
from ops.clock import Clock
from ops.house_late import Shared
from ops.settings import Settings
from ops.version import VERSION
from store.base import Store
from store.records import Secret
from upstream.dial import tls_context

OIDC_TIMEOUT_S: Final = 10.0


async def with_admin(
    endpoints: Endpoints, settings: Settings, shared: Shared, stack: contextlib.AsyncExitStack
) -> Endpoints:
    """``endpoints`` and, where the settings have them, the admin API and the console; their connections are closed
    with ``stack``."""
    if not settings.admin.enabled:
        return endpoints
    store, clock = shared.store, shared.clock
    people = AdminDirectory(store, clock)
    sessions = Sessions(store, people, clock, settings.admin.session_idle_s, settings.admin.session_max_s)
    acts = Acts(store, clock, enabled=settings.audit.enabled)
    signin = sign_in(settings, store, people, clock)
    accounts = Accounts(store, Outside(shared.tokens, shared.codex, shared.entrance.oauth), acts, clock)
    oidc = await _oidc(settings, store, people, clock, stack)
    door = SignInDoor(
        people, sessions, signin, acts, oidc=oidc is not None, sandbox=settings.sandbox.enabled
    )  # fmt: skip
    handlers: dict[str, Handler] = {
        **door.handlers(),
        **Me(people, sessions, signin, acts).handlers(),
        **Admins(people, signin, store, acts, settings.server.public_url).handlers(),
        **accounts.handlers(),
        **Imports(shared.entrance.importer, acts).handlers(),
        **LoginDesk(shared.entrance.onboarding, acts).handlers(),
        **Tenants(store, acts, clock).handlers(),
        **Keys(store, acts, clock).handlers(),
        **Audit(store).handlers(),
        **Overview(accounts, store, About(VERSION, shared.workers), clock).handlers(),
        **Usage(store, clock).handlers(),
        **Forecasts(store, clock).handlers(),
        **Described(VERSION, REST if settings.sandbox.enabled else ()).handlers(),
    }
    if oidc is not None:
        handlers |= OidcDoor(oidc, door).handlers()
    access = Access(shared.keys, sessions, clock, settings.server.public_url)
    api = AdminApi(access, handlers, oidc=oidc is not None)
    return replace(endpoints, admin=api, console=ConsoleDoor(access, ConsoleApp()))


def sign_in(settings: Settings, store: Store, people: AdminDirectory, clock: Clock) -> SignIn:
    admin = settings.admin
    return SignIn(
        store,
        people,
        Passwords(),
        LoginThrottle(store, clock, failures=admin.login_failures, wait_s=admin.login_wait_s),
        clock,
        require_totp=admin.require_totp,
        link_ttl_s=admin.bootstrap_ttl_s,
    )


async def _oidc(
    settings: Settings, store: Store, people: AdminDirectory, clock: Clock, stack: contextlib.AsyncExitStack
) -> OidcSignIn | None:
    given, server = settings.oidc, settings.server
    if given.issuer is None:
        return None
    ca_file = Path(given.ca_file) if given.ca_file else None
    http = await stack.enter_async_context(
        httpx.AsyncClient(verify=tls_context(ca_file), timeout=OIDC_TIMEOUT_S, follow_redirects=False, trust_env=False)
    )
    scheme = "http" if server.tls_cert_file is None else "https"
    home = server.public_url or f"{scheme}://localhost:{server.port}"
    policy = OidcPolicy(
        issuer=given.issuer,
        client_id=given.client_id,
        redirect_uri=home.rstrip("/") + CALLBACK_PATH,
        client_secret=None if given.client_secret is None else Secret(given.client_secret.get_secret_value()),
        scopes=given.scopes,
        groups_claim=given.groups_claim,
        roles={group: Role(role) for group, role in given.roles.items()},
    )
    return OidcSignIn(policy, http, store, people, clock)
