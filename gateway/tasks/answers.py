"""What the gateway says of tasks, environments and uploads: one type for every answer.

Times are Unix seconds in fields named ``*_at_s``. Secrets, tokens and the paths of results are no members: of secrets
the names are shown, of files their names and sizes. What a container or a model said (title, message, reasons, names
of files) is untrusted text; whoever shows it escapes it. Pure data.
"""

from __future__ import annotations

from typing import Any

from gateway.admin.answers import Answer


class UsageView(Answer, frozen=True, kw_only=True):
    input_tokens: int
    output_tokens: int


class AttemptView(Answer, frozen=True, kw_only=True):
    """``rank`` 1 is the judge's first; null: it has not ended well, or not at all."""

    number: int
    state: str
    ended: str | None
    worker: str | None
    files_changed: int
    lines_added: int
    lines_removed: int
    tests_passed: bool | None
    usage: UsageView
    rank: int | None
    reasons: list[str]
    message: str


class ReviewView(Answer, frozen=True, kw_only=True):
    claimed_by: str | None
    approved_by: list[str]
    rejected_by: str | None
    reason: str


class FileView(Answer, frozen=True, kw_only=True):
    """``size_bytes`` null: not looked up, as in lists."""

    attempt: int
    name: str
    size_bytes: int | None


class TaskAnswer(Answer, frozen=True, kw_only=True):
    id: str
    title: str
    state: str
    ended: str | None
    environment_id: str
    created_by: str
    created_at_s: float
    updated_at_s: float
    archived: bool
    prompt: str
    model: str
    attempts: list[AttemptView]
    chosen: int | None
    review: ReviewView | None
    files: list[FileView]
    version: int


class TaskPage(Answer, frozen=True, kw_only=True):
    """Newest first. ``next_before`` null: there is no more."""

    items: list[TaskAnswer]
    next_before: str | None


class SharedTask(Answer, frozen=True, kw_only=True):
    """A task as somebody with a link sees it: without people, workers and environments."""

    id: str
    title: str
    state: str
    ended: str | None
    created_at_s: float
    updated_at_s: float
    prompt: str
    model: str
    attempts: list[AttemptView]
    chosen: int | None
    files: list[FileView]


class LogItem(Answer, frozen=True, kw_only=True):
    """``number`` rises over the task and is the cursor; ``attempt`` 0: the task as a whole."""

    number: int
    attempt: int
    at_s: float
    source: str
    kind: str
    data: dict[str, Any]


class LogPage(Answer, frozen=True, kw_only=True):
    """``next_after`` is what to ask with for the next page, or for what comes later."""

    items: list[LogItem]
    next_after: int


class ShareAnswer(Answer, frozen=True, kw_only=True):
    """``url`` is shown this once."""

    id: str
    url: str
    expires_at_s: float


class ShareItem(Answer, frozen=True, kw_only=True):
    id: str
    made_by: str
    expires_at_s: float


class ShareList(Answer, frozen=True, kw_only=True):
    items: list[ShareItem]


class UploadAnswer(Answer, frozen=True, kw_only=True):
    """``size_bytes`` of the checked archive as it is kept; ``files`` how many are in it."""

    id: str
    size_bytes: int
    files: int


class PolicyView(Answer, frozen=True, kw_only=True):
    domains: list[str]
    methods: list[str]


class NetworkView(Answer, frozen=True, kw_only=True):
    setup: PolicyView
    agent: PolicyView


class LimitsAnswer(Answer, frozen=True, kw_only=True):
    cpus: float
    memory_mib: int
    pids: int
    disk_mib: int
    wall_s: float
    output_mib: int


class EnvironmentAnswer(Answer, frozen=True, kw_only=True):
    """``secrets`` are names alone."""

    id: str
    label: str
    repository: str | None
    image: str | None
    setup_script: str
    maintenance_script: str
    test_command: str
    variables: dict[str, str]
    secrets: list[str]
    network: NetworkView
    limits: LimitsAnswer
    version: int


class EnvironmentList(Answer, frozen=True, kw_only=True):
    items: list[EnvironmentAnswer]
