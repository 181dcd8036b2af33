"""What ``codex cloud`` asks of its backend, answered with our tasks. Two paths for each: the CLI's and the old one's.

    list, show, sibling_turns, environments, by-repo/github, create

The CLI knows a task as a conversation: one turn of the user, and one of the assistant for every attempt; the best
attempt is the current one, the others are its siblings. Shapes are in gateway.tasks.cloud_views; who may do what is
the same as over REST.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.admin.faults import absent
from gateway.admin.types import Call, Handlers, Reply
from gateway.errors import GatewayError
from gateway.tasks.bodies import CloudCreate, CloudInput, CloudListQuery
from gateway.tasks.cloud_views import current_of, list_item, shown, sibling, turn_id
from gateway.tasks.files import diff_text
from gateway.tasks.tasks import BUDGET_TOKENS, checked_diff, found_environment, made, repository_of
from gateway.tasks.types import Workshop, actor_of, maker_of
from sandbox.types import EnvironmentSpec, TaskSpec
from store.task_records import TaskFilter

_ARCHIVED: Final[dict[str, bool | None]] = {"current": False, "archived": True}
_GITHUB: Final = re.compile(r"(?:https://|ssh://git@|git@)github\.com[/:]([^/]+)/([^/]+?)(?:\.git)?/?", re.IGNORECASE)


class CloudDesk:
    """See the module."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def handlers(self) -> Handlers:
        own = {
            "cloud.list": self.list,
            "cloud.create": self.create,
            "cloud.show": self.show,
            "cloud.siblings": self.siblings,
            "cloud.environments": self.environments,
            "cloud.by_repo": self.by_repo,
        }
        return own | {f"old_{name}": handler for name, handler in own.items()}

    async def list(self, call: Call) -> Reply:
        query: CloudListQuery = call.query
        found = await self._shop.service.find(
            actor_of(call),
            TaskFilter(
                environment_id=query.environment_id,
                archived=_ARCHIVED.get(query.task_filter),
                before_id=query.cursor,
                limit=query.limit,
            ),
        )
        labels = await self._labels(call)
        items = [list_item(one, labels.get(one.record.environment_id)) for one in found]
        following = found[-1].record.id if len(found) == query.limit else None
        return Reply({"items": items, "cursor": following})

    async def show(self, call: Call) -> Reply:
        task = await self._shop.service.get(actor_of(call), call.target)
        labels = await self._labels(call)
        current = current_of(task)
        diff = "" if current is None else await diff_text(self._shop.results, current)
        return Reply(shown(task, labels.get(task.record.environment_id), diff))

    async def siblings(self, call: Call) -> Reply:
        task = await self._shop.service.get(actor_of(call), call.target)
        if call.parts["turn"] not in {turn_id(one) for one in task.attempts}:
            raise absent("turn")
        others = [one for one in task.attempts if turn_id(one) != call.parts["turn"]]
        turns = [sibling(task, one, await diff_text(self._shop.results, one)) for one in others]
        return Reply({"sibling_turns": turns})

    async def environments(self, call: Call) -> Reply:
        return Reply([_environment(one) for one in await self._known(call)])

    async def by_repo(self, call: Call) -> Reply:
        wanted = (call.parts["owner"].lower(), call.parts["repo"].lower().removesuffix(".git"))
        found = [one for one in await self._known(call) if _github(one) == wanted]
        return Reply([_environment(one, pinned=True) for one in found])

    async def create(self, call: Call) -> Reply:
        body: CloudCreate = call.body
        by = await maker_of(self._shop, call, None)
        environment = await found_environment(self._shop, by, body.new_task.environment_id)
        prompt = "\n".join(text.text for item in body.input_items for text in _texts(item) if text.text)
        if not prompt.strip():
            raise GatewayError.invalid("There is no text that says what is to be done.", "input_items")
        diffs = [one.output_diff.diff for one in body.input_items if one.output_diff is not None]
        spec = TaskSpec(
            prompt=prompt,
            model=self._shop.values.model,
            environment_id=environment.id,
            source=repository_of(environment, body.new_task.branch or None),
            attempts=1 if body.metadata is None else body.metadata.best_of_n,
            starting_diff=checked_diff("".join(diffs), "input_items"),
            budget_tokens=BUDGET_TOKENS,
        )
        task = await made(self._shop, call, by, spec, None)
        return Reply({"task": {"id": task.record.id}})

    async def _known(self, call: Call) -> tuple[EnvironmentSpec, ...]:
        return tuple(one.spec for one in await self._shop.environments.find(call.principal.tenant_id))

    async def _labels(self, call: Call) -> dict[str, str]:
        return {one.id: one.label for one in await self._known(call)}


def _texts(item: CloudInput) -> tuple[Any, ...]:
    return item.content if item.type == "message" and item.role == "user" else ()


def _github(environment: EnvironmentSpec) -> tuple[str, str] | None:
    """Owner and name, when the repository is on GitHub."""
    match = _GITHUB.fullmatch(environment.repository or "")
    return None if match is None else (match[1].lower(), match[2].lower())


def _environment(spec: EnvironmentSpec, *, pinned: bool = False) -> dict[str, Any]:
    return {"id": spec.id, "label": spec.label, "is_pinned": pinned, "task_count": 0}
