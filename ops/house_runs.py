"""Synchronous runs, built when the settings switch them on. A gateway without them loads none of their modules."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from gateway.revocation import RunningRequests
from ops.clock import Clock
from ops.settings import Settings
from store.base import Store

if TYPE_CHECKING:
    from gateway.x_codex.run import SynchronousRuns
    from sandbox.results import ResultStore

RUNS_INTERVAL_S: Final = 5.0


async def runs_of(
    settings: Settings, store: Store, running: RunningRequests, clock: Clock
) -> SynchronousRuns | None:  # fmt: skip
    """What answers ``x_codex.sandbox``; None: nothing does. The upstream's name is resolved here, once."""
    wanted = settings.sandbox
    if not (wanted.enabled and wanted.synchronous):
        return None
    from gateway.x_codex.near import is_near  # noqa: PLC0415 - loaded when switched on
    from gateway.x_codex.queued import RunQueue  # noqa: PLC0415 - likewise
    from gateway.x_codex.run import RunRules, SynchronousRuns  # noqa: PLC0415 - likewise
    from gateway.x_codex.wish import WishRules  # noqa: PLC0415 - likewise
    from sandbox.environments import Environments  # noqa: PLC0415 - likewise

    near = wanted.local_only and await is_near(settings.upstream.base_url)
    rules = RunRules(
        WishRules(full_access=wanted.full_access, local_only=wanted.local_only, upstream_near=near),
        most=wanted.synchronous_max,
        queue_s=wanted.synchronous_queue_s,
        run_s=wanted.synchronous_run_s,
        heartbeat_s=settings.server.heartbeat_s,
    )
    queue = RunQueue(store.task_store(), functools.cache(functools.partial(_results, settings)), clock)
    return SynchronousRuns(queue, Environments(store, clock), running, clock, rules)


def _results(settings: Settings) -> ResultStore:
    """Where the worker keeps what a run leaves."""
    from ops.house_tasks import results_of  # noqa: PLC0415 - likewise

    return results_of(settings)
