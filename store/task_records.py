"""The records of the sandbox as they rest in a store. What their bodies mean is the sandbox's matter.

Tasks and attempts have a few plain columns to find, order and lease them by; everything that a person wrote or a
container said is in ``body``, which a durable store keeps sealed. Pure data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class TaskState(StrEnum):
    """created -> queued -> setting_up -> running -> ready -> approved | rejected -> applied, or an end before."""

    CREATED = "created"
    QUEUED = "queued"
    SETTING_UP = "setting_up"
    RUNNING = "running"
    READY = "ready"
    APPROVED = "approved"
    REJECTED = "rejected"
    APPLIED = "applied"
    FAILED = "failed"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    QUEUED = "queued"
    LEASED = "leased"  # a worker has it; see lease_until_s
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task. ``id`` sorts by creation. ``idempotency`` is unique per tenant when it is given."""

    id: str
    tenant_id: str
    environment_id: str
    state: TaskState
    body: bytes = field(repr=False)
    idempotency: str | None = None
    created_at_s: float = 0.0
    updated_at_s: float = 0.0
    archived: bool = False
    version: int = 1


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a task, numbered from 1. ``fence`` rises with every lease: a write under an older one is
    refused. ``cancel`` asks the worker to stop."""

    task_id: str
    number: int
    tenant_id: str
    state: AttemptState
    body: bytes = field(repr=False)
    worker: str | None = None
    fence: int = 0
    lease_until_s: float = 0.0
    leases: int = 0
    cancel: bool = False
    created_at_s: float = 0.0
    version: int = 1


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Newest first. ``before_id`` is the cursor: the last id of the page before."""

    tenant_id: str | None = None
    environment_id: str | None = None
    states: tuple[TaskState, ...] = ()
    archived: bool | None = False
    before_id: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class LogLine:
    """One event of an attempt's log; ``number`` is given by the store and rises over the whole task."""

    task_id: str
    attempt: int
    body: bytes = field(repr=False)
    number: int = 0
