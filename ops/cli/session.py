"""What a command that needs records gets: the settings, the store, a clock, and a line in the audit log.

Rules that hold:

* an act is refused before it begins when the store cannot take a durable write, so that nothing is done that could
  not be recorded; it is recorded as ``ok`` or ``failed`` afterwards;
* the actor is ``cli:<name of the operating system's user>``; details are scalars and never secret;
* whatever the store, the vault or the settings object to becomes one line and exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from auth.errors import AuthError
from ops.cli.opening import open_store
from ops.cli.output import fail
from ops.clock import Clock, SystemClock
from ops.settings import Settings, SettingsError, load
from store.base import Store
from store.errors import StoreError
from store.records import Account, AuditRecord, Tenant
from upstream.errors import UpstreamError

T = TypeVar("T")
Opener = Callable[[Settings, Clock], AbstractAsyncContextManager[Store]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a command takes from outside; a test passes its own as ``obj``."""

    opener: Opener = open_store
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True, slots=True)
class Session:
    """One command's view of the gateway's records."""

    settings: Settings
    store: Store
    clock: Clock
    actor: str

    @asynccontextmanager
    async def act(self, action: str, target: str | None = None, **detail: Any) -> AsyncIterator[dict[str, Any]]:
        """Records what the body does. The body may add scalars to the mapping that it gets."""
        if self.settings.audit.enabled:
            await self.store.check()
        outcome = "failed"
        try:
            yield detail
            outcome = "ok"
        finally:
            await self.record(action, outcome, target, **detail)

    async def record(
        self, action: str, outcome: str, target: str | None, *, tenant_id: str | None = None, **detail: Any
    ) -> None:
        """One line in the audit log, unless it is turned off. ``detail`` holds scalars."""
        if self.settings.audit.enabled:
            record = AuditRecord(
                at_s=self.clock.now_s(),
                actor=self.actor,
                action=action,
                outcome=outcome,
                target=target,
                tenant_id=tenant_id,
                detail=tuple(sorted(detail.items())),
            )
            await self.store.append_audit([record])

    async def account(self, given: str) -> Account:
        """The account whose id, label or e-mail address is ``given``."""
        every = await self.store.accounts()
        found = [one for one in every if one.id == given]
        found = found or [one for one in every if given in {one.label, one.email, one.chatgpt_account_id}]
        if not found:
            fail(f"no account {given!r}; codex-relay accounts list shows the ids")
        if len(found) > 1:
            fail(f"{given!r} names {len(found)} accounts; use an id of codex-relay accounts list")
        return found[0]

    async def tenant(self, given: str) -> Tenant:
        """The tenant whose id or name is ``given``."""
        tenant = await self.find_tenant(given)
        if tenant is None:
            fail(f"no tenant {given!r}; codex-relay tenants list shows the names")
        return tenant

    async def find_tenant(self, given: str) -> Tenant | None:
        every = await self.store.tenants()
        return next((one for one in every if one.id == given), None) or next(
            (one for one in every if one.name == given), None
        )


def settings_of(config: Path | None) -> Settings:
    """The settings, or exit code 1 with the line that says what is wrong with them."""
    try:
        return load(config)
    except SettingsError as error:
        fail(str(error))


def run(config: Path | None, body: Callable[[Session], Awaitable[T]]) -> T:
    """Opens a session, runs ``body`` in it and closes the store; errors become one line."""
    surroundings = click.get_current_context().find_object(Surroundings) or Surroundings()
    settings = settings_of(config)

    async def inside() -> T:
        async with surroundings.opener(settings, surroundings.clock) as store:
            return await body(Session(settings, store, surroundings.clock, actor()))

    try:
        return asyncio.run(inside())
    except (StoreError, AuthError, UpstreamError) as error:
        fail(str(error))


def actor() -> str:
    """Who acts: the user of the operating system by its own records, not by the environment's claim."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"
