"""The tasks' part of the house: the service over the store, where files rest, the tasks' door, and who hears of news.

Built when somebody first knocks, and not at all with ``[sandbox] enabled = false``. The engine is never opened here:
that is a worker's (ops.cli.worker), which shares store, results and ``task_service`` with this process.

A webhook carries ids and states. The title is somebody's own words, so it stays out.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from auth.admins import AdminDirectory
from auth.roles import Principal
from auth.sessions import Sessions, SessionView
from gateway.admin.acts import Acts
from gateway.admin.types import SessionFinder
from gateway.app import Endpoints
from gateway.tasks.app import tasks_app
from gateway.tasks.desk import EnvironmentDesk
from gateway.tasks.types import Kind, TaskValues, Workshop
from ops.clock import Clock
from ops.house_late import Shared
from ops.settings import Settings
from ops.webhooks import Webhooks
from sandbox.archives import ArchiveRules, checked_tar
from sandbox.environments import EnvironmentRules, Environments
from sandbox.giturl import checked_git
from sandbox.results import LocalResults, ResultStore, open_s3
from sandbox.service import Task, TaskRules, TaskService
from sandbox.share import KEY_BYTES, KEY_NAME, Shares
from sandbox.types import GitSource, Limits
from store.base import Store
from store.records import Secret

MIB: Final = 1024 * 1024
RESULTS: Final = "results"


async def with_tasks(
    endpoints: Endpoints,
    settings: Settings,
    shared: Shared,
    webhooks: Webhooks | None,
    draining: Callable[[], bool],
) -> Endpoints:
    """``endpoints`` and the tasks' door."""
    store, clock = shared.store, shared.clock
    results = results_of(settings)
    sandbox = settings.sandbox
    key = await store.sealed_value(KEY_NAME, secrets.token_bytes(KEY_BYTES))
    shop = Workshop(
        service=task_service(settings, store, results, clock, webhooks),
        results=results,
        environments=EnvironmentDesk(environments_of(settings, store, clock), partial(_tenant_ids, store)),
        shares=Shares(store, key, clock),
        acts=Acts(store, clock, enabled=settings.audit.enabled),
        clock=clock,
        values=TaskValues(sandbox.model, sandbox.upload_mib * MIB, limits_of(settings), settings.server.public_url),
        check_tar=partial(_checked_tar, ArchiveRules(archive_bytes=sandbox.upload_mib * MIB)),
        check_git=_checked_git,
        tenant_named=partial(_tenant_named, store),
        draining=draining,
    )
    return replace(endpoints, tasks=tasks_app(shop, shared.keys, _sessions(settings, store, clock)))


def environments_of(settings: Settings, store: Store, clock: Clock) -> Environments:
    """The environments, within the settings' bounds; the same for this process and for a worker."""
    return Environments(store, clock, EnvironmentRules(limits_of(settings), frozenset({settings.sandbox.image})))


def task_service(
    settings: Settings, store: Store, results: ResultStore, clock: Clock, webhooks: Webhooks | None
) -> TaskService:
    """The service as the settings want it; the same for this process and for a worker."""
    rules = TaskRules(queue_max=settings.sandbox.queue_max, two_persons=settings.sandbox.two_persons)
    return TaskService(store.task_store(), results, clock, rules, partial(notify, webhooks))


def results_of(settings: Settings) -> ResultStore:
    """Where the settings say that results rest. Raises ValueError for S3 without a usable URL."""
    given = settings.sandbox
    if given.results == "local":
        return LocalResults(given.folder / RESULTS)
    secret = None if given.s3_secret_key is None else given.s3_secret_key.get_secret_value()
    return open_s3(
        given.s3_url or "",
        endpoint=given.s3_endpoint,
        region=given.s3_region,
        access_key=given.s3_access_key,
        secret_key=secret,
    )


def limits_of(settings: Settings) -> Limits:
    """What one container may use at most."""
    given = settings.sandbox
    return Limits(given.cpus, given.memory_mib, given.pids, given.disk_mib, given.wall_s, given.output_mib)


def notify(webhooks: Webhooks | None, what: str, task: Task) -> None:
    """Tells the webhooks, where there are some."""
    if webhooks is None:
        return
    record = task.record
    data = {
        "task_id": record.id,
        "tenant_id": record.tenant_id,
        "environment_id": record.environment_id,
        "state": record.state.value,
        "ended": None if task.body.ended is None else task.body.ended.value,
        "attempts": len(task.attempts),
    }
    webhooks.send(what, f"Task {record.id} is {record.state.value.replace('_', ' ')}.", data)


class _Nobody:
    """Where there is no console, no cookie is anybody's."""

    async def find(self, cookie: Secret) -> tuple[Principal, SessionView] | None:
        return None

    def csrf_fits(self, cookie: Secret, given: str) -> bool:
        return False


def _sessions(settings: Settings, store: Store, clock: Clock) -> SessionFinder:
    admin = settings.admin
    if not admin.enabled:
        return _Nobody()
    return Sessions(store, AdminDirectory(store, clock), clock, admin.session_idle_s, admin.session_max_s)


def _checked_tar(rules: ArchiveRules, data: AsyncIterator[bytes], kind: Kind) -> AsyncIterator[bytes]:
    return checked_tar(data, kind, rules)


async def _checked_git(url: str, ref: str | None, token: Secret | None) -> GitSource:
    return await checked_git(url, ref, token=token)


async def _tenant_ids(store: Store) -> list[str]:
    return [one.id for one in await store.tenants()]


async def _tenant_named(store: Store, named: str) -> str | None:
    tenants = await store.tenants()
    found = [one.id for one in tenants if one.id == named] or [one.id for one in tenants if one.name == named]
    return found[0] if found else None
