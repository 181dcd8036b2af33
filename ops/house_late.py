"""The administrators' doors, built when somebody first knocks.

A gateway that only relays never loads what sign-in, the console and the admin API need: some megabytes in every worker.
The first request to them waits for the modules, which a thread loads, so that streams go on meanwhile; then the parts
are built once.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from auth.keys import KeyDirectory
from auth.tokens import TokenSource
from gateway.app import Endpoints
from gateway.middleware import App, Receive, Scope, Send
from ops.clock import Clock
from ops.house_logins import Entrance
from store.base import Store
from upstream.client import CodexClient


@dataclass(frozen=True, slots=True)
class Shared:
    """What the process has anyway and the administrators use too."""

    store: Store
    keys: KeyDirectory
    tokens: TokenSource
    codex: CodexClient
    entrance: Entrance
    clock: Clock
    workers: Callable[[], int]
    """How many worker processes there are, over all replicas."""


Build = Callable[[], Awaitable[Endpoints]]


class LateDoors:
    """``build`` gives the endpoints with the doors in them; ``module`` is what it will import."""

    def __init__(self, build: Build, module: str) -> None:
        self._build = build
        self._module = module
        self._building = asyncio.Lock()
        self._built: Endpoints | None = None

    async def admin(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _through((await self._doors()).admin)(scope, receive, send)

    async def console(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _through((await self._doors()).console)(scope, receive, send)

    async def tasks(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _through((await self._doors()).tasks)(scope, receive, send)

    async def _doors(self) -> Endpoints:
        if self._built is None:
            async with self._building:
                if self._built is None:
                    await asyncio.to_thread(importlib.import_module, self._module)
                    self._built = await self._build()
        return self._built


def _through(door: App | None) -> App:
    assert door is not None
    return door


def with_late_doors(endpoints: Endpoints, doors: LateDoors) -> Endpoints:
    return replace(endpoints, admin=doors.admin, console=doors.console)
