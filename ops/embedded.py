"""A whole gateway inside the running event loop: for the demo and for tests, through its real front door.

Nothing differs from ``serve`` but who owns the process: the same settings, store, server and drain, on a loopback
socket. The key file and the schema are made as at any first start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from auth.authfile import Source
from auth.importer import Importer, ImportOptions, ImportResult
from auth.keys import PEPPER_BYTES, KeyRing
from ops.clock import Clock, SystemClock
from ops.house import Gateway, open_gateway
from ops.main import listen, prepare, server_for, server_values
from ops.metrics import Metrics
from ops.seat import Seat
from ops.server import serve_until
from ops.settings import Settings
from ops.stop import Stop
from ops.version import VERSION
from store.records import ClientKey, Limits, Secret, Tenant


@dataclass(slots=True)
class Embedded:
    """A gateway that listens. ``url`` has no path; ``stop`` drains it; ``ended`` is its end."""

    url: str
    gateway: Gateway
    stop: Stop
    ended: asyncio.Task[None]
    clock: Clock

    async def import_accounts(self, documents: Sequence[dict[str, Any]]) -> list[ImportResult]:
        """Takes auth.json contents in, as ``accounts import`` does, without asking the backend."""
        importer = Importer(self.gateway.store, None, self.clock, home_origin="https://chatgpt.com")
        sources = [Source(f"account {n}", msgspec.json.encode(one), ()) for n, one in enumerate(documents, 1)]
        results = await importer.take(sources, ImportOptions())
        await self.gateway.background.share()
        return results

    async def make_key(
        self,
        tenant: str = "demo",
        *,
        models: tuple[str, ...] = (),
        scopes: frozenset[str] = frozenset({"relay"}),
        limits: Limits | None = None,
        tenant_limits: Limits | None = None,
        expires_at_s: float | None = None,
    ) -> tuple[Secret, ClientKey]:
        """A client key (and its tenant, when it is new)."""
        store = self.gateway.store
        if tenant not in {one.id for one in await store.tenants()}:
            await store.add_tenant(Tenant(tenant, tenant, tenant_limits or Limits(), created_at_s=self.clock.now_s()))
        ring = KeyRing(await store.sealed_value("pepper", bytes(PEPPER_BYTES)))
        secret, key = ring.mint(
            tenant,
            now_s=self.clock.now_s(),
            scopes=scopes,
            models=models,
            limits=limits or Limits(),
            expires_at_s=expires_at_s,
        )
        await store.add_key(key)
        await self.gateway.background.share()
        return secret, key


@contextlib.asynccontextmanager
async def embedded_gateway(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Embedded]:
    """Listens on ``settings.server`` (port 0: a free one) until the block ends; then it is stopped at once.

    Raises SettingsError when the port is taken, StoreError.
    """
    clock = clock or SystemClock()
    await prepare(settings)
    sock = listen(settings.server.host, settings.server.port, "server.port")
    stop = Stop(clock)
    async with open_gateway(settings, Seat(), clock, Metrics(version=VERSION)) as gateway:
        values = server_values(settings)
        listening = asyncio.Event()
        server = server_for(settings, gateway.app, values)
        ended = asyncio.create_task(serve_until(stop, server, [sock], gateway, values, listening.set))
        await listening.wait()
        host, port = sock.getsockname()[:2]
        try:
            yield Embedded(f"http://{host}:{port}", gateway, stop, ended, clock)
        finally:
            stop.drain.set()
            stop.quick.set()
            await ended
