"""The worker's part of the house: settings in, a worker for tasks out. It alone opens the engine's socket.

Never imported by a process that serves the web. The worker shares the store, the results and the service of tasks
with the gateway; it serves the socket that containers see, and passes what belongs to the gateway on to it. A worker's
name stays the same over restarts, for by it the containers of its former life are found.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auth.keys import PEPPER_BYTES, PEPPER_NAME, KeyRing
from auth.task_keys import TaskKeys
from ops.clock import Clock, SystemClock
from ops.house_store import keys_of
from ops.house_tasks import results_of, task_service
from ops.house_watch import webhooks_of
from ops.log import configure, get_logger
from ops.metrics import Metrics
from ops.settings import Settings, SettingsError
from ops.stop import Stop
from ops.version import VERSION
from ops.webhooks import Webhooks
from sandbox.docker import DockerEngine
from sandbox.egress import EgressServer, GatewayAddress
from sandbox.egress_policy import Decision
from sandbox.engine import EngineError
from sandbox.environments import Environments, NoSuchEnvironment, cache_key
from sandbox.run_log import RunLog
from sandbox.run_step import Tools
from sandbox.secret_scan import secrets_in
from sandbox.types import EnvironmentSpec
from sandbox.worker import Worker, WorkerValues
from store.base import Store
from store.errors import StoreError
from store.open import open_store
from store.records import Secret

EGRESS_KEY: Final = "sandbox_egress"
SOCKET: Final = "gw.sock"
WEBHOOK_INTERVAL_S: Final = 2.0


def worker_name(settings: Settings, name: str | None) -> str:
    """``name``, or one of this host and this folder: the same after a restart, another for another installation."""
    if name is not None:
        return name
    folder = hashlib.blake2b(bytes(settings.sandbox.folder.resolve()), digest_size=4).hexdigest()
    return f"{socket.gethostname()}-{folder}"


def run_worker(settings: Settings, name: str | None, listen_for_stop: Callable[[Stop], None]) -> int:
    """Works until told to stop; 0 after an orderly end, 1 when the start is refused."""
    configure(settings.log.level, settings.log.format)
    try:
        asyncio.run(_work(settings, worker_name(settings, name), listen_for_stop))
    except (StoreError, SettingsError, EngineError, ValueError, OSError) as error:
        print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal
        return 1
    return 0


async def _work(settings: Settings, name: str, listen_for_stop: Callable[[Stop], None]) -> None:
    clock = SystemClock()
    stop = Stop(clock)
    listen_for_stop(stop)
    async with open_worker(settings, name, clock) as worker:
        get_logger().info("worker_ready", name=name, max_tasks=settings.sandbox.max_tasks, version=VERSION)
        await worker.run(stop.drain, stop.quick)


@contextlib.asynccontextmanager
async def open_worker(settings: Settings, name: str, clock: Clock) -> AsyncIterator[Worker]:
    """Everything a worker needs, open as long as the block lasts. Raises StoreError, EngineError, ValueError, OSError
    before anything is leased. Starts one task, which sends webhooks."""
    values, given = settings.store, settings.sandbox
    async with contextlib.AsyncExitStack() as stack:
        store = await open_store(
            values.url,
            keys=keys_of(settings),
            busy_timeout_s=values.busy_timeout_s,
            verify=False,
            prefix=values.redis_prefix,
            create=False,
        )
        stack.push_async_callback(store.close)
        engine = await DockerEngine.open(given.engine_url, given.runtime)
        stack.push_async_callback(engine.close)
        logs: dict[str, RunLog] = {}
        folder = socket_folder(given.folder, name)
        gateway = GatewayAddress.of(given.gateway_url or f"http://127.0.0.1:{settings.server.port}")
        egress = EgressServer(folder / SOCKET, gateway, clock, lambda decision: _tell(logs, decision))
        await egress.start()
        stack.push_async_callback(egress.close)
        webhooks = await webhooks_of(settings, store, clock, f"tasks/{name}", Metrics(version=VERSION), stack)
        results = results_of(settings)
        token_key = await store.sealed_value(EGRESS_KEY, secrets.token_bytes(32))
        ring = KeyRing(await store.sealed_value(PEPPER_NAME, secrets.token_bytes(PEPPER_BYTES)))
        tools = Tools(
            engine=engine,
            tasks=store.task_store(),
            results=results,
            environments=_Source(store, clock),
            keys=TaskKeys(store, ring, clock),
            egress=egress,
            token=lambda task_id, attempt, step: _token(token_key, f"{task_id}/{attempt}/{step}"),
            cache_key=cache_key,
            leaked=_leaked,
            clock=clock,
            owner=name,
            socket_folder=folder,
            image=given.image,
            runtime=given.runtime,
            cache_s=given.cache_s,
            logs=logs,
        )
        service = task_service(settings, store, results, clock, webhooks)
        if webhooks is not None:
            stack.push_async_callback(_ended, asyncio.create_task(_send(webhooks, clock)))
        yield Worker(tools, service, _values(settings, name))


def socket_folder(folder: Path, name: str) -> Path:
    """Where the socket that containers see lies: short, absolute, one for each worker of a host."""
    return folder.resolve() / f"gw-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _values(settings: Settings, name: str) -> WorkerValues:
    given = settings.sandbox
    return WorkerValues(
        name, given.max_tasks, given.tenant_tasks, given.lease_s, settings.server.drain_s, given.retention_s
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """Environments as a worker asks for them: with their secrets."""

    store: Store
    clock: Clock

    async def get(self, tenant_id: str, environment_id: str) -> EnvironmentSpec | None:
        try:
            return await Environments(self.store, self.clock).full(tenant_id, environment_id)
        except NoSuchEnvironment:
            return None


def _token(key: bytes, name: str) -> Secret:
    return Secret(hmac.new(key, name.encode(), "sha256").hexdigest())


async def _leaked(tar: AsyncIterator[bytes], given: Sequence[tuple[str, Secret]]) -> str | None:
    found = await secrets_in(tar, given)
    return min(found) if found else None


def _tell(logs: dict[str, RunLog], decision: Decision) -> None:
    log = logs.get(decision.name)
    if log is not None:
        log.decided(
            allowed=decision.allowed,
            host=decision.host,
            port=decision.port,
            method=decision.method,
            reason=decision.reason,
            sent_bytes=decision.sent_bytes,
            received_bytes=decision.received_bytes,
        )


async def _send(webhooks: Webhooks, clock: Clock) -> None:
    while True:
        try:
            await webhooks.step()
        except StoreError as error:
            get_logger().warning("webhooks_wait", reason=str(error)[:300])
        await clock.sleep(WEBHOOK_INTERVAL_S)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
