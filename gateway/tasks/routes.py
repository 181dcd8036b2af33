"""Every route of the tasks' API, as data: the same table as the admin API's, for another door.

    /v1/tasks, /v1/environments, /v1/uploads     a key with scope tasks (its tenant), or a person signed in
    /share/{token}                               whoever has the link; for reading one task
    /backend-api/wham/..., /api/codex/...        what ``codex cloud`` asks of its backend, by a key with scope tasks

Dispatch, authorisation, the OpenAPI document and the matrix of roles in the tests are made from it.
"""

from __future__ import annotations

from typing import Final

from auth.roles import Permission
from gateway.admin.bodies import Closed
from gateway.admin.routes import MIB, OPEN, Route
from gateway.tasks import answers, bodies

TASKS: Final = "/v1/tasks"
ENVIRONMENTS: Final = "/v1/environments"
UPLOADS: Final = "/v1/uploads"
SHARE: Final = "/share"
CLOUD: Final = ("/backend-api/wham", "/api/codex")
DOORS: Final = (
    TASKS, ENVIRONMENTS, UPLOADS, SHARE,
    *(f"{base}/{what}" for base in CLOUD for what in ("tasks", "environments")),
)  # fmt: skip
"""What is behind them finds out itself who comes."""

ARCHIVES: Final = ("application/zip", "application/x-tar")
BYTES: Final = "application/octet-stream"
DIFF: Final = "text/x-diff"
_R = Permission.TASKS_READ
_W = Permission.TASKS_WRITE
_A = answers
_B = bodies
_ONE: Final = f"{TASKS}/{{id}}"


def _act(name: str, text: str, body: type[Closed] | None = None) -> Route:
    path = f"{_ONE}/{name}"
    return Route(
        f"tasks.{name.replace('-', '_')}", "POST", path, _W, _A.TaskAnswer, text, body=body, whole=False,
        errors=("not_found", "conflict"),
    )  # fmt: skip


_TASKS: Final = (
    Route(
        "tasks.create", "POST", TASKS, _W, _A.TaskAnswer,
        "A new task. The same Idempotency-Key again gives the same task.", body=_B.NewTask, query=_B.TenantQuery,
        status=201, whole=False, max_body_bytes=10 * MIB, errors=("not_found", "queue_full"),
    ),
    Route("tasks.list", "GET", TASKS, _R, _A.TaskPage, "Tasks, newest first.", query=_B.TasksQuery, whole=False),
    Route("tasks.show", "GET", _ONE, _R, _A.TaskAnswer, "One task.", whole=False, errors=("not_found",)),
    _act("cancel", "Ask what runs to stop; what was changed so far is kept."),
    _act("retry", "One more attempt at the same."),
    _act("follow-up", "One more attempt that goes on from the best one, with new words.", _B.FollowUpBody),
    _act("claim", "Say that one reviews it."),
    _act("approve", "Say yes to it; the task is approved when enough people have.", _B.ApproveBody),
    _act("reject", "Say no to it.", _B.RejectBody),
    _act("applied", "Say that its diff is where it belongs."),
    _act("archive", "Put it out of the lists, or back in.", _B.ArchiveBody),
    Route(
        "tasks.log", "GET", f"{_ONE}/log", _R, _A.LogPage,
        "What happened, in order. With Accept: text/event-stream as it happens, until the task ends; Last-Event-ID "
        "resumes.",
        query=_B.LogQuery, whole=False, errors=("not_found",),
    ),
    Route(
        "tasks.diff", "GET", f"{_ONE}/diff", _R, None, "The diff of the best attempt, or of the one named.",
        query=_B.DiffQuery, whole=False, media=DIFF, errors=("not_found",),
    ),
    Route(
        "tasks.file", "GET", f"{_ONE}/attempts/{{number}}/files/{{name}}", _R, None, "One file of an attempt.",
        whole=False, tail=True, media=BYTES, errors=("not_found",),
    ),
    Route(
        "tasks.share", "POST", f"{_ONE}/share", _W, _A.ShareAnswer, "A link by which anybody may read this task.",
        body=_B.ShareBody, whole=False, status=201, errors=("not_found",),
    ),
    Route("tasks.shares", "GET", f"{_ONE}/share", _R, _A.ShareList, "Its links.", whole=False, errors=("not_found",)),
    Route(
        "tasks.unshare", "DELETE", f"{_ONE}/share/{{share}}", _W, None, "Take a link back.", whole=False, status=204,
        errors=("not_found",),
    ),
)  # fmt: skip

_SURROUNDINGS: Final = (
    Route(
        "uploads.create", "POST", UPLOADS, _W, _A.UploadAnswer, "A zip or tar to work on; checked while it comes.",
        query=_B.TenantQuery, status=201, whole=False, streamed=True, media_in=ARCHIVES,
        errors=("body_too_large", "unsupported_media_type", "not_found"),
    ),
    Route(
        "environments.create", "POST", ENVIRONMENTS, _W, _A.EnvironmentAnswer, "A new environment.",
        body=_B.NewEnvironment, query=_B.TenantQuery, status=201, whole=False, max_body_bytes=8 * MIB,
        errors=("not_found", "conflict"),
    ),
    Route(
        "environments.list", "GET", ENVIRONMENTS, _R, _A.EnvironmentList, "All environments.", query=_B.TenantQuery,
        whole=False,
    ),
    Route(
        "environments.show", "GET", f"{ENVIRONMENTS}/{{id}}", _R, _A.EnvironmentAnswer, "One environment.",
        whole=False, errors=("not_found",),
    ),
    Route(
        "environments.change", "PATCH", f"{ENVIRONMENTS}/{{id}}", _W, _A.EnvironmentAnswer, "Change an environment.",
        body=_B.EnvironmentChange, whole=False, max_body_bytes=8 * MIB, errors=("not_found", "conflict"),
    ),
    Route(
        "environments.remove", "DELETE", f"{ENVIRONMENTS}/{{id}}", _W, None, "Remove an environment.", whole=False,
        status=204, errors=("not_found",),
    ),
)  # fmt: skip

_LINK: Final = f"{SHARE}/{{token}}"
_SHARED: Final = (
    Route("share.show", "GET", _LINK, OPEN, _A.SharedTask, "The task that the link leads to.", errors=("not_found",)),
    Route(
        "share.log", "GET", f"{_LINK}/log", OPEN, _A.LogPage, "Its log.", query=_B.LogQuery, errors=("not_found",),
    ),
    Route(
        "share.diff", "GET", f"{_LINK}/diff", OPEN, None, "Its diff.", query=_B.DiffQuery, media=DIFF,
        errors=("not_found",),
    ),
    Route(
        "share.file", "GET", f"{_LINK}/attempts/{{number}}/files/{{name}}", OPEN, None, "One of its files.",
        tail=True, media=BYTES, errors=("not_found",),
    ),
)  # fmt: skip


def _cloud(base: str) -> tuple[Route, ...]:
    old = "old_" if base == CLOUD[1] else ""
    tasks, environments = f"{base}/tasks", f"{base}/environments"
    return (
        Route(
            f"{old}cloud.list", "GET", f"{tasks}/list", _R, None, "codex cloud: tasks.", query=_B.CloudListQuery,
            whole=False,
        ),
        Route(
            f"{old}cloud.create", "POST", tasks, _W, None, "codex cloud: a new task.", body=_B.CloudCreate,
            whole=False, max_body_bytes=10 * MIB, errors=("not_found", "queue_full"),
        ),
        Route(
            f"{old}cloud.show", "GET", f"{tasks}/{{id}}", _R, None, "codex cloud: one task.", whole=False,
            errors=("not_found",),
        ),
        Route(
            f"{old}cloud.siblings", "GET", f"{tasks}/{{id}}/turns/{{turn}}/sibling_turns", _R, None,
            "codex cloud: the other attempts.", whole=False, errors=("not_found",),
        ),
        Route(
            f"{old}cloud.environments", "GET", environments, _R, None, "codex cloud: environments.", whole=False,
        ),
        Route(
            f"{old}cloud.by_repo", "GET", f"{environments}/by-repo/github/{{owner}}/{{repo}}", _R, None,
            "codex cloud: the environments of a repository.", whole=False,
        ),
    )  # fmt: skip


REST: Final = (*_TASKS, *_SURROUNDINGS, *_SHARED)
CLOUD_ROUTES: Final = (*_cloud(CLOUD[0]), *_cloud(CLOUD[1]))
ROUTES: Final = (*REST, *CLOUD_ROUTES)
