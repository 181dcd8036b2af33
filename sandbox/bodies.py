"""What stands in the sealed body of a task's record and of an attempt's, and how it is written and read.

JSON by msgspec. A private repository's token is part of the task until its set-up is over, then it is taken out; the
environment's secrets are never here: a worker reads them from the environment when it needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from sandbox.types import ArchiveSource, Ended, GitSource, Phase, RunMode, RunResult, TaskSpec
from store.records import Secret

TITLE_MAX: Final = 120


@dataclass(frozen=True, slots=True)
class Review:
    """What people said. ``approved_by`` grows up to what the settings ask for."""

    claimed_by: str | None = None
    approved_by: tuple[str, ...] = ()
    rejected_by: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskBody:
    """``chosen`` is the attempt that a person (or the judge) picked. ``ended`` says how a failed task failed."""

    title: str
    created_by: str
    spec: TaskSpec
    ended: Ended | None = None
    chosen: int | None = None
    review: Review = Review()
    ended_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class AttemptBody:
    """``phase`` and ``container`` are what a worker notes to find its way back; ``base`` is the prepared image.

    ``prompt`` None: the task's own; a follow-up has its own words and goes on with ``thread_id``.
    """

    phase: Phase | None = None
    container: str | None = None
    base: str | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    prompt: str | None = None
    thread_id: str | None = None
    follows: int | None = None
    result: RunResult | None = None
    rank: int | None = None
    reasons: tuple[str, ...] = ()


def title_of(prompt: str) -> str:
    """The first words of the prompt, on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= TITLE_MAX else line[: TITLE_MAX - 1].rstrip() + "…"


def without_token(spec: TaskSpec) -> TaskSpec:
    """The same task without the token that read its repository."""
    source = spec.source
    return replace(spec, source=replace(source, token=None)) if isinstance(source, GitSource) else spec


def write_task(body: TaskBody) -> bytes:
    return msgspec.json.encode(_plain_task(body))


def read_task(data: bytes) -> TaskBody:
    """Raises msgspec.ValidationError for what is not a body of this release or an earlier one."""
    found = msgspec.json.decode(data, type=_StoredTask)
    spec = found.spec
    source: GitSource | ArchiveSource | None = None
    if spec.git is not None:
        url, ref, token = spec.git
        source = GitSource(url, ref, None if token is None else Secret(token))
    elif spec.archive is not None:
        source = ArchiveSource(*spec.archive)
    task = TaskSpec(
        prompt=spec.prompt,
        model=spec.model,
        environment_id=spec.environment_id,
        source=source,
        attempts=spec.attempts,
        starting_diff=spec.starting_diff,
        effort=spec.effort,
        thread_of=spec.thread_of,
        artifacts=spec.artifacts,
        budget_tokens=spec.budget_tokens,
        mode=spec.mode,
    )
    return TaskBody(found.title, found.created_by, task, found.ended, found.chosen, found.review, found.ended_at_s)


def write_attempt(body: AttemptBody) -> bytes:
    return msgspec.json.encode(body)


def read_attempt(data: bytes) -> AttemptBody:
    return msgspec.json.decode(data, type=AttemptBody)


class _StoredSpec(msgspec.Struct):
    prompt: str
    model: str
    environment_id: str
    git: tuple[str, str | None, str | None] | None = None
    archive: tuple[str, str] | None = None
    attempts: int = 1
    starting_diff: str = ""
    effort: str | None = None
    thread_of: str | None = None
    artifacts: tuple[str, ...] = ()
    budget_tokens: int = 0
    mode: RunMode | None = None


class _StoredTask(msgspec.Struct):
    title: str
    created_by: str
    spec: _StoredSpec
    ended: Ended | None = None
    chosen: int | None = None
    review: Review = Review()
    ended_at_s: float | None = None


def _plain_task(body: TaskBody) -> _StoredTask:
    spec, source = body.spec, body.spec.source
    git = archive = None
    if isinstance(source, GitSource):
        git = (source.url, source.ref, None if source.token is None else source.token.reveal())
    elif source is not None:
        archive = (source.blob, source.name)
    stored = _StoredSpec(
        prompt=spec.prompt,
        model=spec.model,
        environment_id=spec.environment_id,
        git=git,
        archive=archive,
        attempts=spec.attempts,
        starting_diff=spec.starting_diff,
        effort=spec.effort,
        thread_of=spec.thread_of,
        artifacts=spec.artifacts,
        budget_tokens=spec.budget_tokens,
        mode=spec.mode,
    )
    return _StoredTask(body.title, body.created_by, stored, body.ended, body.chosen, body.review, body.ended_at_s)
