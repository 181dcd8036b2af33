"""What a client may say of tasks, environments and uploads: one closed type for every body and every query.

The rules are those of gateway.admin.bodies: a member that is not named is refused, texts and numbers are bounded. What
``codex cloud`` sends is read more widely (``Lenient``): a release of it may add members, and those are passed over.
Pure data.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.admin.bodies import Closed, Id, Label, Model, Query, Version

NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$(?!\n)"
DOMAIN = r"^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$(?!\n)"
PATH = r"^[^\x00-\x1f\x7f\\]+$(?!\n)"
PROMPT_CHARS = 256 * 1024
SCRIPT_CHARS = 256 * 1024
DIFF_CHARS = 8 * 1024 * 1024

Prompt = Annotated[str, Meta(min_length=1, max_length=PROMPT_CHARS)]
Script = Annotated[str, Meta(max_length=SCRIPT_CHARS)]
Url = Annotated[str, Meta(min_length=1, max_length=2048, pattern=PATH)]
Ref = Annotated[str, Meta(min_length=1, max_length=255, pattern=PATH)]
Value = Annotated[str, Meta(max_length=32 * 1024)]
Name = Annotated[str, Meta(pattern=NAME)]
Domain = Annotated[str, Meta(pattern=DOMAIN)]
State = Literal[
    "created", "queued", "setting_up", "running", "ready", "approved", "rejected", "applied", "failed", "cancelled"
]


class GitBody(Closed, frozen=True):
    """``token`` reads a private repository; it is never shown again."""

    url: Url
    ref: Ref | None = None
    token: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None


class SourceBody(Closed, frozen=True):
    """Exactly one of both."""

    git: GitBody | None = None
    upload: Id | None = None


class NewTask(Closed, frozen=True):
    """``environment`` is an id or a label. Without ``source``: the environment's repository."""

    environment: Id
    prompt: Prompt
    model: Model | None = None
    attempts: Annotated[int, Meta(ge=1, le=4)] = 1
    source: SourceBody | None = None
    starting_diff: Annotated[str, Meta(max_length=DIFF_CHARS)] = ""
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    artifacts: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=255, pattern=PATH)], ...], Meta(max_length=64)
    ] = ()
    budget_tokens: Annotated[int, Meta(ge=1000, le=1_000_000_000)] | None = None


class ApproveBody(Closed, frozen=True):
    """``attempt`` is the one that is taken; without it, the judge's first."""

    attempt: Annotated[int, Meta(ge=1, le=1000)] | None = None


class RejectBody(Closed, frozen=True):
    reason: Annotated[str, Meta(max_length=2000)] = ""


class ArchiveBody(Closed, frozen=True):
    archived: bool = True


class FollowUpBody(Closed, frozen=True):
    prompt: Prompt


class ShareBody(Closed, frozen=True):
    expires_in_s: Annotated[float, Meta(gt=0, le=90 * 86_400)] = 86_400.0


class PolicyBody(Closed, frozen=True):
    domains: Annotated[tuple[Domain, ...], Meta(max_length=256)] = ()
    methods: Annotated[
        tuple[Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"], ...], Meta(max_length=7)
    ] = ("GET", "HEAD")


class NetworkBody(Closed, frozen=True):
    """Which internet hosts each phase may reach; a phase that is not named may reach none."""

    setup: PolicyBody = PolicyBody()
    agent: PolicyBody = PolicyBody()


class LimitsBody(Closed, frozen=True):
    """What is not named is what the gateway's settings allow at most."""

    cpus: Annotated[float, Meta(gt=0, le=256)] | None = None
    memory_mib: Annotated[int, Meta(ge=64, le=2**24)] | None = None
    pids: Annotated[int, Meta(ge=16, le=2**20)] | None = None
    disk_mib: Annotated[int, Meta(ge=16, le=2**24)] | None = None
    wall_s: Annotated[float, Meta(gt=0, le=7 * 86_400)] | None = None
    output_mib: Annotated[int, Meta(ge=1, le=1024)] | None = None


class NewEnvironment(Closed, frozen=True):
    """``secrets`` reach the set-up phase alone, and are never shown again."""

    label: Label
    repository: Url | None = None
    image: Annotated[str, Meta(min_length=1, max_length=255, pattern=PATH)] | None = None
    setup_script: Script = ""
    maintenance_script: Script = ""
    test_command: Script = ""
    variables: Annotated[dict[Name, Value], Meta(max_length=128)] = msgspec.field(default_factory=dict)
    secrets: Annotated[dict[Name, Value], Meta(max_length=128)] = msgspec.field(default_factory=dict)
    network: NetworkBody = NetworkBody()
    limits: LimitsBody = LimitsBody()


class EnvironmentChange(Closed, frozen=True):
    """What is left out stays. Of ``secrets`` a null takes one away; those not named stay."""

    label: Label | UnsetType = UNSET
    repository: Url | UnsetType | None = UNSET
    image: Annotated[str, Meta(min_length=1, max_length=255, pattern=PATH)] | UnsetType | None = UNSET
    setup_script: Script | UnsetType = UNSET
    maintenance_script: Script | UnsetType = UNSET
    test_command: Script | UnsetType = UNSET
    variables: Annotated[dict[Name, Value], Meta(max_length=128)] | UnsetType = UNSET
    secrets: Annotated[dict[Name, Value | None], Meta(max_length=128)] | UnsetType = UNSET
    network: NetworkBody | UnsetType = UNSET
    limits: LimitsBody | UnsetType = UNSET
    version: Version | None = None


# queries


class TenantQuery(Query, frozen=True):
    """``tenant``: for whom, said by an administrator, who belongs to none."""

    tenant: Id | None = None


class TasksQuery(Query, frozen=True):
    """``before`` is the ``next_before`` of the page before."""

    state: State | None = None
    environment: Id | None = None
    archived: Literal["no", "yes", "all"] = "no"
    before: Id | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    tenant: Id | None = None


class LogQuery(Query, frozen=True):
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


class DiffQuery(Query, frozen=True):
    attempt: Annotated[int, Meta(ge=1, le=1000)] | None = None


# what codex cloud says


class Lenient(msgspec.Struct, frozen=True):
    """Base: members that are not named are passed over."""


class CloudListQuery(Lenient, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    task_filter: Annotated[str, Meta(max_length=64)] = "current"
    cursor: Id | None = None
    environment_id: Id | None = None


class CloudNewTask(Lenient, frozen=True):
    environment_id: Id
    branch: Annotated[str, Meta(max_length=255)] | None = None


class CloudText(Lenient, frozen=True):
    text: Annotated[str, Meta(max_length=PROMPT_CHARS)] = ""


class CloudDiff(Lenient, frozen=True):
    diff: Annotated[str, Meta(max_length=DIFF_CHARS)] = ""


class CloudInput(Lenient, frozen=True):
    """A ``message`` with texts, or a ``pre_apply_patch`` with a diff."""

    type: Annotated[str, Meta(max_length=64)] = "message"
    role: Annotated[str, Meta(max_length=64)] = "user"
    content: Annotated[tuple[CloudText, ...], Meta(max_length=64)] = ()
    output_diff: CloudDiff | None = None


class CloudMetadata(Lenient, frozen=True):
    best_of_n: Annotated[int, Meta(ge=1, le=4)] = 1


class CloudCreate(Lenient, frozen=True):
    new_task: CloudNewTask
    input_items: Annotated[tuple[CloudInput, ...], Meta(min_length=1, max_length=64)]
    metadata: CloudMetadata | None = None
