"""``/v1/tasks``: asking for work, looking at it, and saying what shall become of it.

Every change is an act in the audit log (ids and words alone, never a prompt). What may be done when is the service's
matter (sandbox.service); here a request becomes a wish and a task an answer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.admin.types import Call, Handler, Handlers, Reply
from gateway.errors import GatewayError
from gateway.guard import values_of
from gateway.tasks.answers import TaskPage
from gateway.tasks.bodies import ApproveBody, ArchiveBody, FollowUpBody, NewTask, RejectBody, SourceBody, TasksQuery
from gateway.tasks.faults import sentence
from gateway.tasks.files import sized
from gateway.tasks.types import Workshop, actor_of, maker_of
from gateway.tasks.views import file_views, task_view
from sandbox.giturl import BadSource, check_ref
from sandbox.patches import BadPatch, check_patch
from sandbox.service import Actor, Task
from sandbox.types import ArchiveSource, EnvironmentSpec, GitSource, TaskSpec
from store.records import Secret
from store.task_records import TaskFilter, TaskState

BUDGET_TOKENS: Final = 2_000_000
_KEY: Final = re.compile(rb"[\x21-\x7e]{1,255}")
_ARCHIVED: Final[dict[str, bool | None]] = {"no": False, "yes": True, "all": None}


class TaskDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        acts: dict[str, Callable[[Call, Actor], Awaitable[Task]]] = {
            "cancel": lambda call, by: self._shop.service.cancel(by, call.target),
            "retry": lambda call, by: self._shop.service.retry(by, call.target),
            "follow_up": self._follow_up,
            "claim": lambda call, by: self._shop.service.claim(by, call.target),
            "approve": self._approve,
            "reject": self._reject,
            "applied": lambda call, by: self._shop.service.applied(by, call.target),
            "archive": self._archive,
        }
        return {
            "tasks.create": self.create,
            "tasks.list": self.list,
            "tasks.show": self.show,
            **{f"tasks.{name}": self._act(name, do) for name, do in acts.items()},
        }

    async def create(self, call: Call) -> Reply:
        body: NewTask = call.body
        by = await maker_of(self._shop, call, call.query.tenant)
        environment = await found_environment(self._shop, by, body.environment)
        spec = TaskSpec(
            prompt=body.prompt,
            model=body.model or self._shop.values.model,
            environment_id=environment.id,
            source=await self._source(by, body.source, environment),
            attempts=body.attempts,
            starting_diff=checked_diff(body.starting_diff, "starting_diff"),
            effort=body.effort,
            artifacts=tuple(_inside(path) for path in body.artifacts),
            budget_tokens=body.budget_tokens or BUDGET_TOKENS,
        )
        return await self._answer(await made(self._shop, call, by, spec, _idempotency(call)), 201)

    async def list(self, call: Call) -> Reply:
        query: TasksQuery = call.query
        by, wanted = actor_of(call), query.tenant
        if wanted is not None:
            by = await maker_of(self._shop, call, wanted)
        environment_id = query.environment
        if environment_id is not None:
            known = await self._shop.environments.find(by.tenant_id)
            environment_id = next((one.spec.id for one in known if one.spec.label == environment_id), environment_id)
        found = await self._shop.service.find(
            by,
            TaskFilter(
                environment_id=environment_id,
                states=() if query.state is None else (TaskState(query.state),),
                archived=_ARCHIVED[query.archived],
                before_id=query.before,
                limit=query.limit,
            ),
        )
        following = found[-1].record.id if len(found) == query.limit else None
        return Reply(TaskPage(items=[task_view(one, file_views(one)) for one in found], next_before=following))

    async def show(self, call: Call) -> Reply:
        return await self._answer(await self._shop.service.get(actor_of(call), call.target))

    def _act(self, name: str, do: Callable[[Call, Actor], Awaitable[Task]]) -> Handler:
        async def handler(call: Call) -> Reply:
            by = actor_of(call)
            before = await self._shop.service.get(by, call.target)
            async with self._shop.acts.act(call, f"task.{name}", call.target, tenant_id=before.record.tenant_id):
                task = await do(call, by)
            return await self._answer(task)

        return handler

    async def _follow_up(self, call: Call, by: Actor) -> Task:
        body: FollowUpBody = call.body
        return await self._shop.service.follow_up(by, call.target, body.prompt)

    async def _approve(self, call: Call, by: Actor) -> Task:
        body: ApproveBody = call.body
        return await self._shop.service.approve(by, call.target, body.attempt)

    async def _reject(self, call: Call, by: Actor) -> Task:
        body: RejectBody = call.body
        return await self._shop.service.reject(by, call.target, body.reason)

    async def _archive(self, call: Call, by: Actor) -> Task:
        body: ArchiveBody = call.body
        return await self._shop.service.archive(by, call.target, archived=body.archived)

    async def _answer(self, task: Task, status: int = 200) -> Reply:
        return Reply(task_view(task, await sized(self._shop.results, task)), status)

    async def _source(
        self, by: Actor, wanted: SourceBody | None, environment: EnvironmentSpec
    ) -> GitSource | ArchiveSource | None:
        if wanted is None:
            return repository_of(environment, None)
        if (wanted.git is None) == (wanted.upload is None):
            raise GatewayError.invalid("Name exactly one source: git or upload.", "source")
        if wanted.git is None:
            name = f"{by.tenant_id}/uploads/{wanted.upload}"
            if re.fullmatch(r"up_[0-9a-f]{32}", wanted.upload or "") is None:
                raise GatewayError.invalid("There is no such upload.", "source.upload")
            return ArchiveSource(name, str(wanted.upload))
        token = None if wanted.git.token is None else Secret(wanted.git.token)
        try:
            return await self._shop.check_git(wanted.git.url, wanted.git.ref, token)
        except BadSource as error:
            raise GatewayError.invalid(sentence(error), f"source.git.{error.field}") from None


async def found_environment(shop: Workshop, by: Actor, named: str) -> EnvironmentSpec:
    """By id, else by label when only one has it. Raises GatewayError ``not_found`` with ``param``."""
    known = await shop.environments.find(by.tenant_id)
    by_id = [one.spec for one in known if one.spec.id == named]
    found = by_id or [one.spec for one in known if one.spec.label.lower() == named.lower()]
    if len(found) != 1:
        why = "There is no such environment." if not found else "Several environments have this label; name the id."
        raise GatewayError("not_found", why, param="environment")
    return found[0]


def repository_of(environment: EnvironmentSpec, ref: str | None) -> GitSource | None:
    """The environment's own repository (its address was checked when it was named) at ``ref``; None when it has none.
    Raises GatewayError for what is no ref."""
    if environment.repository is None:
        return None
    try:
        if ref is not None:
            check_ref(ref)
    except BadSource as error:
        raise GatewayError.invalid(sentence(error), "branch") from None
    return GitSource(environment.repository, ref)


def checked_diff(diff: str, param: str) -> str:
    """The diff, if it is one. Raises GatewayError."""
    try:
        check_patch(diff.encode())
    except (BadPatch, UnicodeEncodeError) as error:
        raise GatewayError.invalid(sentence(error), param) from None
    return diff


async def made(shop: Workshop, call: Call, by: Actor, spec: TaskSpec, idempotency: str | None) -> Task:
    """The new task, on record."""
    async with shop.acts.act(
        call, "task.create", None, tenant_id=by.tenant_id, environment=spec.environment_id, attempts=spec.attempts
    ) as detail:
        task = await shop.service.create(by, spec, idempotency)
        detail["task"] = task.record.id
    return task


def _idempotency(call: Call) -> str | None:
    given = values_of(call.fields, b"idempotency-key")
    if not given:
        return None
    if len(given) > 1 or _KEY.fullmatch(given[0]) is None:
        raise GatewayError.invalid("Idempotency-Key is 1 to 255 printable characters, once.", "Idempotency-Key")
    return given[0].decode("ascii")


def _inside(path: str) -> str:
    """A path below the workspace. Raises GatewayError."""
    if path.startswith("/") or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise GatewayError.invalid("A path of an artifact is relative to the workspace, without . or ..", "artifacts")
    return path
