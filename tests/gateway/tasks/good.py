"""For every route of the tasks' table, a request that does what the route is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gateway.admin.routes import Route
from tests.gateway.tasks.rig import TaskHouse
from tests.gateway.tasks.worker import DIFF


@dataclass(frozen=True, slots=True)
class Good:
    """``parts`` stand for the ``{}`` of the path."""

    body: Any = None
    parts: dict[str, str] | None = None
    kind: str | None = None

    def path(self, route: Route) -> str:
        path = route.path
        for name, value in (self.parts or {}).items():
            path = path.replace(f"{{{name}}}", value)
        return path


CLOUD_TASK = {
    "new_task": {"environment_id": "env_1", "branch": "main", "run_environment_in_qa_mode": False},
    "input_items": [
        {"type": "message", "role": "user", "content": [{"content_type": "text", "text": "do it"}]},
        {"type": "pre_apply_patch", "output_diff": {"diff": DIFF}},
    ],
    "metadata": {"best_of_n": 2},
}
NOTHING_NEEDED = {"environments.list", "tasks.list", "cloud.list", "cloud.environments"}
WORKING = {"tasks.cancel"}
BODIES: dict[str, Any] = {
    "tasks.follow_up": {"prompt": "and now the tests"},
    "tasks.approve": {},
    "tasks.reject": {"reason": "no"},
    "tasks.archive": {},
    "tasks.share": {"expires_in_s": 60},
}


async def good(route: Route, house: TaskHouse) -> Good:
    """A request on things of ten-1, which are made for it."""
    name = route.name.removeprefix("old_")
    if name in NOTHING_NEEDED:
        return Good()
    if name.startswith(("uploads", "environments")):
        return _around(name, house)
    if name == "tasks.create":
        return Good({"environment": "env_1", "prompt": "fix the bug"})
    if name == "cloud.create":
        return Good(CLOUD_TASK)
    if name == "cloud.by_repo":
        return Good(parts={"owner": "Acme", "repo": "widgets1"})
    if name in WORKING:
        return Good(parts={"id": (await house.new())["id"]})
    task_id = (await house.ready())["id"]
    if name == "tasks.applied":
        await house.ask("POST", f"/v1/tasks/{task_id}/approve", house.one, {})
    parts = {"id": task_id, "turn": "turn_a1", "number": "1", "name": "diff.patch"}
    if "{token}" in route.path or "{share}" in route.path:
        made = (await house.ask("POST", f"/v1/tasks/{task_id}/share", house.one, {"expires_in_s": 60})).json
        parts |= {"token": made["url"].rpartition("/")[2], "share": made["id"]}
    return Good(BODIES.get(name), parts)


def _around(name: str, house: TaskHouse) -> Good:
    if name == "uploads.create":
        return Good(b"a tar", kind="application/x-tar")
    body = {"environments.create": {"label": "fresh"}, "environments.change": {"setup_script": "make"}}.get(name)
    return Good(body, {"id": house.places["env_1"]})
