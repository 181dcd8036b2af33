"""A task, an attempt, a line of the log, an environment: as they are kept, and as they are shown. Pure.

The model and the files are not trusted: everything is put into JSON as it is, and nothing is read out of it.
"""

from __future__ import annotations

import msgspec

from gateway.tasks.answers import (
    AttemptView,
    EnvironmentAnswer,
    FileView,
    LimitsAnswer,
    LogItem,
    NetworkView,
    PolicyView,
    ReviewView,
    SharedTask,
    TaskAnswer,
    UsageView,
)
from sandbox.bodies import Review
from sandbox.environments import EnvironmentEntry
from sandbox.service import Attempt, Task
from sandbox.types import Ended, NetworkPolicy, RunEvent, RunResult
from store.task_records import AttemptState, LogLine

_NOTHING = RunResult(Ended.LOST)


def task_view(task: Task, files: list[FileView]) -> TaskAnswer:
    record, body = task.record, task.body
    return TaskAnswer(
        id=record.id,
        title=body.title,
        state=record.state.value,
        ended=None if body.ended is None else body.ended.value,
        environment_id=record.environment_id,
        created_by=body.created_by,
        created_at_s=record.created_at_s,
        updated_at_s=record.updated_at_s,
        archived=record.archived,
        prompt=body.spec.prompt,
        model=body.spec.model,
        attempts=[attempt_view(one) for one in task.attempts],
        chosen=body.chosen,
        review=review_view(body.review),
        files=files,
        version=record.version,
    )


def shared_view(task: Task, files: list[FileView]) -> SharedTask:
    record, body = task.record, task.body
    return SharedTask(
        id=record.id,
        title=body.title,
        state=record.state.value,
        ended=None if body.ended is None else body.ended.value,
        created_at_s=record.created_at_s,
        updated_at_s=record.updated_at_s,
        prompt=body.spec.prompt,
        model=body.spec.model,
        attempts=[msgspec.structs.replace(attempt_view(one), worker=None) for one in task.attempts],
        chosen=body.chosen,
        files=files,
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    record, body = attempt.record, attempt.body
    result = body.result or _NOTHING
    verdict = attempt.verdict
    return AttemptView(
        number=record.number,
        state=record.state.value,
        ended=None if record.state is not AttemptState.ENDED else ended_of(attempt).value,
        worker=record.worker,
        files_changed=result.files_changed,
        lines_added=result.lines_added,
        lines_removed=result.lines_removed,
        tests_passed=result.tests_passed,
        usage=UsageView(input_tokens=result.usage.input_tokens, output_tokens=result.usage.output_tokens),
        rank=body.rank if verdict is None else verdict.rank,
        reasons=list(body.reasons if verdict is None else verdict.reasons),
        message=result.message,
    )


def ended_of(attempt: Attempt) -> Ended:
    """How an attempt that has ended did; without a result it was cancelled or its worker was lost."""
    if attempt.body.result is not None:
        return attempt.body.result.ended
    return Ended.CANCELLED if attempt.record.cancel else Ended.LOST


def review_view(review: Review) -> ReviewView | None:
    """None as long as nobody has said anything."""
    if review == Review():
        return None
    return ReviewView(
        claimed_by=review.claimed_by,
        approved_by=list(review.approved_by),
        rejected_by=review.rejected_by,
        reason=review.reason,
    )


def file_views(task: Task) -> list[FileView]:
    """Names alone; sizes are the result store's to say."""
    return [
        FileView(attempt=one.record.number, name=name, size_bytes=None)
        for one in task.attempts
        if one.body.result is not None
        for name, _ in one.body.result.files
    ]


def line_view(line: LogLine) -> LogItem:
    event = msgspec.json.decode(line.body, type=RunEvent)
    return LogItem(
        number=line.number, attempt=line.attempt, at_s=event.at_s, source=event.source, kind=event.kind, data=event.data
    )


def environment_view(entry: EnvironmentEntry) -> EnvironmentAnswer:
    spec = entry.spec
    limits = spec.limits
    return EnvironmentAnswer(
        id=spec.id,
        label=spec.label,
        repository=spec.repository,
        image=spec.image,
        setup_script=spec.setup_script,
        maintenance_script=spec.maintenance_script,
        test_command=spec.test_command,
        variables=dict(spec.variables),
        secrets=[name for name, _ in entry.secret_versions],
        network=NetworkView(setup=_policy(spec.setup_network), agent=_policy(spec.agent_network)),
        limits=LimitsAnswer(
            cpus=limits.cpus,
            memory_mib=limits.memory_mib,
            pids=limits.pids,
            disk_mib=limits.disk_mib,
            wall_s=limits.wall_s,
            output_mib=limits.output_mib,
        ),
        version=spec.version,
    )


def _policy(policy: NetworkPolicy) -> PolicyView:
    return PolicyView(domains=list(policy.domains), methods=sorted(policy.methods))
