"""The admin API in one process, behind the gateway's real frames: real people, sessions and records, a made-up world.

``House.ask`` is one request as a browser or a script sends it. ``Someone`` is who sends it: a person with a session,
or a key. What goes to the issuer and the upstream is answered by :class:`World`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyotp

from auth.admins import Admin, AdminDirectory
from auth.device import DeviceCode, PollAnswer, PollVerdict
from auth.importer import Importer
from auth.keys import PEPPER_BYTES, PEPPER_NAME, KeyDirectory, KeyRing
from auth.oauth import TokenAnswer, Verdict
from auth.onboarding import Onboarding, OnboardingRules
from auth.passwords import PasswordCost, Passwords
from auth.roles import Role
from auth.sessions import Sessions
from auth.signin import SignIn
from auth.throttle import LoginThrottle
from gateway.admin.access import PLAIN_COOKIE, SECURE_COOKIE, Access
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
from gateway.admin.openapi import Described
from gateway.admin.overview import About, Overview
from gateway.admin.session import SignInDoor
from gateway.admin.tenants import Tenants
from gateway.admin.types import Handler
from gateway.admin.usage import Usage
from gateway.app import Endpoints, Frames, build_app
from gateway.exchange import Exchange, exchange_of
from gateway.guard import Guard
from ops.usage import UsageBook
from store.memory import MemoryStore
from store.records import Account, Credential, Limits, Secret, Tenant
from tests.fakes.clock import FakeClock
from tests.fakes.line import Line, call, scope_of
from tests.fakes.logins import access_jwt
from tests.fakes.records import make_account, make_credential
from upstream.errors import UpstreamError
from upstream.types import AccountUsage, RateLimitWindow

PASSWORD = "a plain long password"
CHEAP = PasswordCost(passes=1, memory_kib=8)
HOST = "127.0.0.1:8080"
STATE = "acct-1"


@dataclass
class World:
    """The issuer and the upstream. ``fault`` is raised instead of an answer."""

    clock: FakeClock
    store: MemoryStore
    fault: Exception | None = None
    revoked: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    allowed: bool = True

    async def get(self, account: Account) -> Credential:
        found = await self.store.credential(account.id)
        assert found is not None
        return found

    async def force(self, account: Account) -> Credential:
        if self.fault is not None:
            raise self.fault
        return await self.get(account)

    def invalidate(self, account_id: str) -> None:
        self.forgotten.append(account_id)

    async def usage(self, account: Account, credential: Credential) -> AccountUsage:
        if isinstance(self.fault, UpstreamError):
            raise self.fault
        window = RateLimitWindow("primary", 12.0, 300, self.clock.now_s() + 600)
        return AccountUsage("pro", (window,), self.allowed, not self.allowed)

    async def revoke(self, refresh_token: Secret) -> bool:
        self.revoked.append(refresh_token.reveal())
        return True

    async def exchange_code(self, code: Secret, code_verifier: Secret, redirect_uri: str) -> TokenAnswer:
        token = access_jwt("chatgpt-new", self.clock.now_s())
        return TokenAnswer(
            Verdict.ROTATED, status=200, access_token=Secret(token), refresh_token=Secret("rt.new"), id_token=None
        )

    async def begin(self, now_s: float) -> DeviceCode:
        return DeviceCode(Secret("device-secret"), "ABCD-1234", "https://issuer.example/device", 5.0, now_s + 900)

    async def poll(self, device_auth_id: Secret, user_code: str) -> PollAnswer:
        return PollAnswer(PollVerdict.PENDING)


@dataclass
class Someone:
    """Who asks. ``cookie`` and ``csrf`` of a session, or ``key`` with its scheme."""

    cookie: str | None = None
    csrf: str | None = None
    key: str | None = None
    admin: Admin | None = None


NOBODY = Someone()


class House:
    """Everything, empty; :meth:`furnish` puts accounts, tenants and keys in."""

    tasks: Any = None
    """The tasks' door, where a test has one."""

    def __init__(self, *, audit: bool = True, public_url: str | None = None, sandbox: bool = False) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        self.world = World(self.clock, self.store)
        self.directory = KeyDirectory(KeyRing(bytes(PEPPER_BYTES)), Limits(), Limits())
        self.people = AdminDirectory(self.store, self.clock)
        self.sessions = Sessions(self.store, self.people, self.clock, 1800.0, 43_200.0)
        throttle = LoginThrottle(self.store, self.clock, failures=5, wait_s=60.0)
        self.signin = SignIn(
            self.store, self.people, Passwords(CHEAP), throttle, self.clock, require_totp=False, link_ttl_s=3600.0
        )
        self.acts = Acts(self.store, self.clock, enabled=audit)
        self.seen: list[Exchange] = []
        self.crashes: list[Exception] = []
        self.access = Access(self.directory, self.sessions, self.clock, public_url)
        self.importer = Importer(self.store, None, self.clock, home_origin="https://chatgpt.com")
        self.onboarding = Onboarding(
            self.store, self.world, self.world, self.importer, self.clock,
            OnboardingRules("https://issuer.example", "client", "w0"),
        )  # fmt: skip
        self.api = AdminApi(self.access, self.handlers(public_url, sandbox=sandbox), oidc=False)
        self.app = self.framed()

    def handlers(self, public_url: str | None, *, sandbox: bool) -> dict[str, Handler]:
        store, acts, clock = self.store, self.acts, self.clock
        accounts = Accounts(store, Outside(self.world, self.world, self.world), acts, clock)
        self.door = SignInDoor(self.people, self.sessions, self.signin, acts, oidc=False, sandbox=sandbox)
        return {
            **self.door.handlers(),
            **Me(self.people, self.sessions, self.signin, acts).handlers(),
            **Admins(self.people, self.signin, store, acts, public_url).handlers(),
            **accounts.handlers(),
            **Imports(self.importer, acts).handlers(),
            **LoginDesk(self.onboarding, acts).handlers(),
            **Tenants(store, acts, clock).handlers(),
            **Keys(store, acts, clock).handlers(),
            **Audit(store).handlers(),
            **Overview(accounts, store, About("1.2.3", lambda: 2), clock).handlers(),
            **Usage(store, clock).handlers(),
            **Forecasts(store, clock).handlers(),
            **Described("1.2.3").handlers(),
        }

    def framed(self) -> Any:
        nothing: Any = None
        endpoints = Endpoints(
            responses=nothing, models=nothing, native_models=nothing, codex_paths=nothing, ready=nothing, metrics=None,
            admin=self.api, console=ConsoleDoor(self.access, page), tasks=self.tasks,
        )  # fmt: skip
        frames = Frames(
            guard=partial(Guard, max_headers=50, max_header_bytes=16_384, max_body_bytes=8 * 1024 * 1024),
            keys=self.directory,
            clock=self.clock,
            observer=self,
            max_inflight=100,
            on_shed=lambda reason: None,
            audit_full=lambda: False,
            metrics_open=True,
        )
        return build_app(endpoints, frames)[0]

    def finished(self, exchange: Exchange) -> None:
        self.seen.append(exchange)

    def crashed(self, exchange: Exchange, error: Exception) -> None:
        self.crashes.append(error)

    async def furnish(self) -> House:
        """Two accounts (acct-1, acct-2), tenants ten-1 and ten-2, and a relay key in each."""
        for name in ("acct-1", "acct-2"):
            expires_at_s = self.clock.now_s() + 3600
            await self.store.add_account(
                make_account(name, enabled=True), make_credential(name, expires_at_s=expires_at_s)
            )  # fmt: skip
        for name in ("ten-1", "ten-2"):
            await self.store.add_tenant(Tenant(name, f"name of {name}", created_at_s=self.clock.now_s()))
        await self.store.sealed_value(PEPPER_NAME, bytes(PEPPER_BYTES))
        self.keys = {name: await self.key(name, {"relay"}) for name in ("ten-1", "ten-2")}
        return self

    async def key(self, tenant: str, scopes: set[str], models: tuple[str, ...] = ()) -> Someone:
        secret, record = KeyRing(bytes(PEPPER_BYTES)).mint(
            tenant, now_s=self.clock.now_s(), scopes=frozenset(scopes), models=models
        )
        await self.store.add_key(record)
        await self.reload()
        return Someone(key=secret.reveal())

    async def reload(self) -> None:
        """What the background does when a key has changed."""
        self.directory.load(await self.store.keys(), await self.store.tenants())

    async def person(self, name: str, role: Role, tenant_id: str | None = None, *, password: bool = False) -> Someone:
        """Somebody with an open session (and a password, which costs time)."""
        admin = await self.people.create(name, role, tenant_id)
        if password:
            admin = await self.signin.set_password(admin, Secret(PASSWORD))
        return await self.opened(admin)

    async def opened(self, admin: Admin) -> Someone:
        cookie, _ = await self.sessions.open(admin, address="127.0.0.1", user_agent="test")
        return Someone(cookie.reveal(), self.sessions.csrf_token(cookie), admin=admin)

    async def ask(
        self,
        method: str,
        path: str,
        who: Someone = NOBODY,
        body: Any = None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        without: frozenset[str] = frozenset(),
        scheme: str = "http",
        host: str = HOST,
    ) -> Line:
        """One request. ``headers`` are added or replace; ``without`` names some that are left out."""
        sent = {"host": host, "origin": f"{scheme}://{host}"}
        if body is not None:
            sent["content-type"] = "application/json"
        if who.cookie is not None:
            sent["cookie"] = f"{SECURE_COOKIE if scheme == 'https' else PLAIN_COOKIE}={who.cookie}"
        if who.csrf is not None:
            sent["x-csrf-token"] = who.csrf
        if who.key is not None:
            sent["authorization"] = f"Bearer {who.key}"
        sent |= headers or {}
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        scope = scope_of(method, path, query=query.encode())
        scope["scheme"] = scheme
        scope["headers"] = [(name.encode(), value.encode()) for name, value in sent.items() if name not in without]
        return await call(self.app, scope, data)

    async def used(self, account_id: str, times: int) -> None:
        """So many requests went through the account: 10 tokens in and 2 out each, the first of them failed."""
        book = UsageBook(self.store, f"w-{account_id}", self.clock)
        for number in range(times):
            book.count((account_id, "ten-1", "key-1", "m"), failed=number == 0, input_tokens=10, output_tokens=2)
        await book.flush()

    async def audited(self, action: str = "*") -> list[tuple[str, str, str]]:
        """(actor, action, outcome) of every record."""
        found = await self.store.search_audit(action=None if action == "*" else action)
        return [(one.actor, one.action, one.outcome) for one in found]


async def page(scope: Any, receive: Any, send: Any) -> None:
    """Stands where the console's pages are."""
    exchange_of(scope).status = 200
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<!doctype html>", "more_body": False})


def code_of(secret: str, clock: FakeClock) -> str:
    """The one-time code that an app shows now."""
    return pyotp.TOTP(secret).at(int(clock.now_s()))
