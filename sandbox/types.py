"""The words of the sandbox: what a task is told, in what it runs, and what comes of it.

Pure data, frozen. Rules that hold:

* every limit is a required field: there is no "unlimited";
* secrets are ``Secret`` values that live in EnvironmentSpec alone; they reach the set-up phase and nothing else;
* an event is one line of the task's log: numbered per attempt, safe to store and to show (what a container says is
  untrusted text, and is never read as anything else).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from store.records import Secret


class Phase(StrEnum):
    """Which of its containers a task is in; each has its own privileges (docs/sandbox-isolation.md)."""

    SETUP = "setup"  # root inside, writable root, internet by allow-list, secrets
    AGENT = "agent"  # uid 10001, read-only root, no secrets, no internet unless the environment says so
    JUDGE = "judge"  # as the agent, without a key: runs the repository's own tests


class Ended(StrEnum):
    """How a run ended. A closed set: metric labels and parts of states."""

    DONE = "done"
    FAILED = "failed"  # the agent or a script said so
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    LIMIT = "limit"  # disk, pids or output
    CANCELLED = "cancelled"
    LOST = "lost"  # the container or its worker is gone
    ENGINE = "engine_unavailable"
    INPUT = "input_refused"  # the source cannot be had or is hostile
    BUDGET = "budget"  # the task's tokens are spent


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use at most. ``disk_mib`` counts what it writes; ``output_mib`` what it says."""

    cpus: float
    memory_mib: int
    pids: int
    disk_mib: int
    wall_s: float
    output_mib: int


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Which internet hosts a phase may reach, through the proxy alone. ``domains``: exact names, or ``*.name`` for
    what is below; empty: none. ``methods``: of plain http; CONNECT is TLS and not looked into."""

    domains: tuple[str, ...] = ()
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    max_mib: int = 2048


@dataclass(frozen=True, slots=True)
class GitSource:
    """A repository by https. ``ref`` is a branch, a tag or a full SHA; None: the default branch. ``token`` reads a
    private one: it lives in the set-up phase's memory only."""

    url: str
    ref: str | None = None
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An uploaded zip or tar, as a checked tar stream in the result store under ``blob``."""

    blob: str
    name: str


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """In what a task runs. ``image`` None: the agent image. ``version`` rises with every change and is part of the
    cache key, as are the versions of its secrets."""

    id: str
    tenant_id: str
    label: str
    repository: str | None = None
    image: str | None = None
    setup_script: str = ""
    maintenance_script: str = ""
    test_command: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = field(default=(), repr=False)
    setup_network: NetworkPolicy = NetworkPolicy()
    agent_network: NetworkPolicy = NetworkPolicy()
    limits: Limits = Limits(cpus=2.0, memory_mib=4096, pids=512, disk_mib=8192, wall_s=3600.0, output_mib=40)
    version: int = 1


class RunLevel(StrEnum):
    """What a synchronous run may do (sandbox.modes has the flags of its container)."""

    READ_ONLY = "read-only"
    WORKSPACE_WRITE = "workspace-write"
    FULL_ACCESS = "danger-full-access"


@dataclass(frozen=True, slots=True)
class RunMode:
    """How a synchronous run is held. ``network``: the environment's egress, for full access alone. ``wall_s``: its
    longest life, whatever the environment allows."""

    level: RunLevel
    network: bool
    wall_s: float


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What is asked for. ``attempts`` 1-4 run side by side. ``starting_diff`` is applied before the agent begins.
    ``thread_of``: the task whose thread this one follows up. ``artifacts``: paths below the workspace to keep.
    ``mode``: somebody waits for it on an open connection; None: a task."""

    prompt: str
    model: str
    environment_id: str
    source: GitSource | ArchiveSource | None = None
    attempts: int = 1
    starting_diff: str = ""
    effort: str | None = None
    thread_of: str | None = None
    artifacts: tuple[str, ...] = ()
    budget_tokens: int = 2_000_000
    mode: RunMode | None = None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One line of an attempt's log. ``source``: runner, codex, setup, egress, worker or judge. ``kind`` is dotted
    (``codex.item.completed``); ``data`` is JSON-ready and bounded."""

    seq: int
    at_s: float
    source: str
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the CLI summed them up."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one attempt came to. ``files`` maps names (diff.patch, last_message.txt, setup.log, artifacts/...) to
    result-store blobs; the diff of a cancelled or timed-out attempt is there as far as it got."""

    ended: Ended
    message: str = ""
    exit_code: int | None = None
    thread_id: str | None = None
    usage: Usage = Usage()
    files: tuple[tuple[str, str], ...] = ()
    files_changed: int = 0
    lines_added: int = 0
    lines_removed: int = 0
    tests_passed: bool | None = None
