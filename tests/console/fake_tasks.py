"""The tasks' API in memory, as far as the console calls it: same paths, shapes and refusals, no worker behind.

Tests put tasks, lines and diffs in as they like, or let a task go on by ``step``. What may be done when is the real
state machine's matter (sandbox.states), so that a page that offers too much gets its 409.
"""

from __future__ import annotations

import copy
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from auth.roles import PERMISSIONS, Permission
from gateway.console.app import Receive, Scope, Send
from sandbox.states import WrongState, check_move
from store.task_records import TaskState
from tests.console.fake_api import COOKIE, CSRF, FakeApi, Refusal

Record = dict[str, Any]
DIFF = """\
diff --git a/app/money.py b/app/money.py
index 1111111..2222222 100644
--- a/app/money.py
+++ b/app/money.py
@@ -1,6 +1,7 @@ class Money:
 # amounts are whole cents
 def total(items):
-    return sum(one["price"] for one in items)
+    if not items:
+        return 0
+    return sum(int(one["price"]) for one in items)
\x20
 CURRENCY = 'EUR'
@@ -20,2 +21,2 @@
--- not a header but a removed line
+++ not a header but an added line
 end = True
diff --git a/web/cart.js b/web/cart.js
new file mode 100644
--- /dev/null
+++ b/web/cart.js
@@ -0,0 +1,3 @@
+// what is in it
+export const total = (items) => items.length > 0 ? `sum ${items}` : 0;
+
"""


def attempt(number: int, ended: str | None = "done", rank: int | None = None, **more: Any) -> Record:
    return {
        "number": number, "state": "ended" if ended else "leased", "ended": ended, "worker": "worker-1",
        "files_changed": 2, "lines_added": 8, "lines_removed": 2, "tests_passed": True if ended == "done" else None,
        "usage": {"input_tokens": 41_230, "output_tokens": 2_104}, "rank": rank,
        "reasons": ["its tests pass", "2 files changed, 8 lines added, 2 removed", "43334 tokens"] if rank else [],
        "message": "Totals of empty carts are 0 now; a test shows it.",
    } | more  # fmt: skip


def task(number: int, title: str, state: str = "ready", attempts: list[Record] | None = None, **more: Any) -> Record:
    made = [attempt(1, rank=1)] if attempts is None else attempts
    names = ("diff.patch", "last_message.txt", "events.jsonl")
    return {
        "id": f"task_e_{number:028x}", "title": title, "state": state, "ended": None, "environment_id": "env_1",
        "created_by": "ada", "created_at_s": time.time() - 600, "updated_at_s": time.time() - 60, "archived": False,
        "prompt": title, "model": "gpt-5.5", "attempts": made, "chosen": None, "review": None,
        "files": [
            {"attempt": one["number"], "name": name, "size_bytes": 2048}
            for one in made if one["ended"] for name in names
        ],
        "version": 1,
    } | more  # fmt: skip


def environment(number: int, label: str, **more: Any) -> Record:
    none: Record = {"domains": [], "methods": ["GET", "HEAD"]}
    return {
        "id": f"env_{number}", "label": label, "repository": "https://git.example/shop/web.git", "image": None,
        "setup_script": "pip install -r requirements.txt\n", "maintenance_script": "", "test_command": "pytest -q",
        "variables": {"LANG": "C.UTF-8"}, "secrets": ["PYPI_TOKEN"],
        "network": {"setup": {"domains": ["pypi.org", "files.pythonhosted.org"], "methods": ["GET", "HEAD", "POST"]},
                    "agent": none},
        "limits": {"cpus": 2.0, "memory_mib": 4096, "pids": 512, "disk_mib": 8192, "wall_s": 3600.0, "output_mib": 40},
        "version": 1,
    } | more  # fmt: skip


def line(number: int, kind: str, data: Record, turn: int = 1) -> Record:
    return {"number": number, "attempt": turn, "at_s": time.time(), "source": kind.partition(".")[0], "kind": kind,
            "data": data}  # fmt: skip


@dataclass
class FakeTasks:
    """``calls`` are (method, path with query, body, headers)."""

    api: FakeApi
    tasks: list[Record] = field(default_factory=list)
    environments: list[Record] = field(default_factory=lambda: [environment(1, "Shop"), environment(2, "Docs")])
    logs: dict[str, list[Record]] = field(default_factory=dict)
    diffs: dict[tuple[str, int], str] = field(default_factory=dict)
    shares: dict[str, list[Record]] = field(default_factory=dict)
    uploads: list[bytes] = field(default_factory=list)
    calls: list[tuple[str, str, Any, dict[str, str]]] = field(default_factory=list)
    made: dict[str, Record] = field(default_factory=dict)

    def sent(self, method: str, path: str) -> list[Any]:
        return [body for one, where, body, _ in self.calls if (one, where.partition("?")[0]) == (method, path)]

    def say(self, found: Record, kind: str, data: Record, turn: int = 1) -> None:
        lines = self.logs.setdefault(found["id"], [])
        lines.append(line(len(lines) + 1, kind, data, turn))

    def move(self, found: Record, state: str, **more: Any) -> Record:
        found.update(more, state=state, updated_at_s=time.time(), version=found["version"] + 1)
        return found

    # what is asked

    def find(self, given: dict[str, str]) -> Record:
        wanted = {"no": (False,), "yes": (True,), "all": (False, True)}[given.get("archived", "no")]
        fits = [
            one for one in sorted(self.tasks, key=lambda one: str(one["id"]), reverse=True)
            if one["archived"] in wanted
            and given.get("state", one["state"]) == one["state"]
            and given.get("environment", one["environment_id"]) == one["environment_id"]
            and one["id"] < given.get("before", "~")
        ]  # fmt: skip
        limit = int(given.get("limit", 50))
        return {"items": fits[:limit], "next_before": fits[limit - 1]["id"] if len(fits) > limit else None}

    def create(self, body: Record, headers: dict[str, str]) -> Record:
        key = headers["idempotency-key"]
        if key not in self.made:
            turns = [attempt(n + 1, None) | {"state": "queued"} for n in range(body.get("attempts", 1))]
            new = task(len(self.tasks) + 1, body["prompt"][:80], "queued", turns, model=body.get("model", "gpt-5.5"))
            self.made[key] = new | {"environment_id": body["environment"], "prompt": body["prompt"]}
            self.tasks.append(self.made[key])
        return self.made[key]

    def act(self, found: Record, name: str, body: Record) -> Record:
        state = TaskState(found["state"])
        review = found["review"] or {"claimed_by": None, "approved_by": [], "rejected_by": None, "reason": ""}
        try:
            match name:
                case "cancel":
                    check_move(state, TaskState.CANCELLED)
                    return self.move(found, "cancelled", ended="cancelled")
                case "retry" | "follow-up":
                    check_move(state, TaskState.QUEUED)
                    found["attempts"].append(attempt(len(found["attempts"]) + 1, None) | {"state": "queued"})
                    return self.move(found, "queued", ended=None, review=None, chosen=None)
                case "claim":
                    check_move(state, TaskState.APPROVED)
                    return self.move(found, state.value, review=review | {"claimed_by": "ada"})
                case "approve":
                    check_move(state, TaskState.APPROVED)
                    return self.move(
                        found, "approved", review=review | {"approved_by": ["ada"]}, chosen=body["attempt"]
                    )
                case "reject":
                    check_move(state, TaskState.REJECTED)
                    return self.move(found, "rejected", review=review | {"rejected_by": "ada"} | body)
                case "applied":
                    check_move(state, TaskState.APPLIED)
                    return self.move(found, "applied")
                case "archive":
                    return self.move(found, state.value, archived=body["archived"])
        except WrongState as error:
            raise Refusal(409, "conflict", str(error)) from None
        raise Refusal(404, "not_found", "There is nothing at this path.")

    def share(self, found: Record, body: Record) -> Record:
        links = self.shares.setdefault(found["id"], [])
        made = {"id": f"share_{len(links) + 1}", "made_by": "ada", "expires_at_s": time.time() + body["expires_in_s"]}
        links.append(made)
        return {"id": made["id"], "url": "https://relay.example/share/once.1.x", "expires_at_s": made["expires_at_s"]}

    def change_environment(self, found: Record, body: Record) -> Record:
        if body.pop("version") != found["version"]:
            raise Refusal(409, "conflict", "The environment has changed meanwhile.")
        names = set(found["secrets"])
        for name, value in body.pop("secrets", {}).items():
            names = names | {name} if value is not None else names - {name}
        found.update(body, secrets=sorted(names), version=found["version"] + 1)
        return found

    def new_environment(self, body: Record) -> Record:
        if body["limits"].get("cpus", 0) > 8:
            raise Refusal(400, "invalid_request", "At most 8 here (sandbox.cpus).", "limits.cpus")
        secrets = sorted(body.pop("secrets", {}))
        base = environment(len(self.environments) + 1, body["label"], repository=None)
        made = base | body | {"limits": base["limits"] | body["limits"], "secrets": secrets}
        self.environments.append(made)
        return made

    # HTTP

    def answer(self, method: str, path: str, given: dict[str, str], body: Any, headers: dict[str, str]) -> Any:
        """(status, object or text)."""
        parts = path.split("/")[2:]
        match method, parts:
            case "GET", ["tasks"]:
                return 200, self.find(given)
            case "POST", ["tasks"]:
                return 201, self.create(body, headers)
            case "POST", ["uploads"]:
                self.uploads.append(body)
                return 201, {"id": f"up_{len(self.uploads):032x}", "size_bytes": len(body), "files": 1}
            case _, ["environments", *rest]:
                return self._environments(method, rest, body)
            case _, ["tasks", task_id, *rest]:
                return self._one(method, _found(self.tasks, task_id), rest, given, body)
        raise Refusal(404, "not_found", "There is nothing at this path.")

    def _one(self, method: str, found: Record, rest: list[str], given: dict[str, str], body: Any) -> Any:
        match method, rest:
            case "GET", []:
                return 200, found
            case "GET", ["log"]:
                after, limit = int(given.get("after", 0)), int(given.get("limit", 500))
                items = [one for one in self.logs.get(found["id"], []) if one["number"] > after][:limit]
                return 200, {"items": items, "next_after": items[-1]["number"] if items else after}
            case "GET", ["diff"]:
                return 200, self.diffs.get((found["id"], int(given["attempt"])), DIFF)
            case "GET", ["attempts", number, "files", *name]:
                return 200, f"{number} {unquote('/'.join(name))}"
            case "GET", ["share"]:
                return 200, {"items": self.shares.get(found["id"], [])}
            case "POST", ["share"]:
                return 201, self.share(found, body)
            case "DELETE", ["share", share_id]:
                self.shares[found["id"]].remove(_found(self.shares[found["id"]], share_id))
                return 204, None
            case "POST", [name]:
                return 200, self.act(found, name, body)
        raise Refusal(404, "not_found", "There is nothing at this path.")

    def _environments(self, method: str, rest: list[str], body: Any) -> Any:
        match method, rest:
            case "GET", []:
                return 200, {"items": self.environments}
            case "POST", []:
                return 201, self.new_environment(body)
            case "GET", [one]:
                return 200, _found(self.environments, one)
            case "PATCH", [one]:
                return 200, self.change_environment(_found(self.environments, one), body)
            case "DELETE", [one]:
                self.environments.remove(_found(self.environments, one))
                return 204, None
        raise Refusal(404, "not_found", "There is nothing at this path.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content = b""
        more = True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        method, path, query = scope["method"], scope["raw_path"].decode(), scope["query_string"].decode()
        is_json = headers.get("content-type") == "application/json"
        body = json.loads(content) if is_json else content
        self.calls.append((method, f"{path}?{query}" if query else path, body, headers))
        body = copy.deepcopy(body)
        try:
            self._allowed(method, headers)
            for name in (f"{method} {path}", path):
                if name in self.api.fail_next:
                    raise self.api.fail_next.pop(name)
            given = {name: values[0] for name, values in parse_qs(query).items()}
            status, said = self.answer(method, path, given, body, headers)
        except Refusal as refusal:
            status = refusal.status
            said = {"error": {"message": refusal.message, "type": "invalid_request_error", "code": refusal.code,
                              "param": refusal.param}}  # fmt: skip
        kind = b"text/x-diff; charset=utf-8" if isinstance(said, str) else b"application/json"
        raw = said.encode() if isinstance(said, str) else b"" if said is None else json.dumps(said).encode()
        extra = [(b"content-disposition", b'attachment; filename="x"')] if "/files/" in path else []
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *extra]})
        await send({"type": "http.response.body", "body": raw})

    def _allowed(self, method: str, headers: dict[str, str]) -> None:
        if not self.api.signed_in or not re.search(rf"{COOKIE}=yes", headers.get("cookie", "")):
            raise Refusal(401, "not_signed_in", "Nobody is signed in.")
        if method != "GET" and headers.get("x-csrf-token") != CSRF:
            raise Refusal(403, "csrf_failed", "The request lacks the token of the session.")
        wanted = Permission.TASKS_READ if method == "GET" else Permission.TASKS_WRITE
        if wanted not in PERMISSIONS[self.api.role]:
            raise Refusal(403, "forbidden", f"The role lacks {wanted.value}.")


def with_sandbox(api: FakeApi, **parts: Any) -> FakeTasks:
    """``api`` with the sandbox on, and what is behind ``/v1``."""
    tasks = FakeTasks(api, **parts)
    api.sandbox, api.doors = True, {"/v1/": tasks}
    return tasks


def _found(items: list[Record], wanted: str) -> Record:
    for one in items:
        if one["id"] == wanted:
            return one
    raise Refusal(404, "not_found", "There is no such object.")
