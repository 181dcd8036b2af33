"""The few answers that ``codex cloud`` needs, in the shapes that were recorded: a stand-in for a gateway with tasks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEY = "at-cr-abcdefghijkl-" + "k" * 43
DIFF = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+https://chatgpt.com/codex/tasks/x\n"
WHAM = "/backend-api/wham"
_TURN = {"turn_id": "turn_a1", "turn_status": "completed", "sibling_turn_ids": []}
_STATUS = {
    "state": "ready",
    "environment_label": "acme/widgets",
    "latest_turn_status_display": {**_TURN, "diff_stats": {"files_modified": 1, "lines_added": 1, "lines_removed": 1}},
}
_TASK = {"id": "task_e_1", "title": "Add world", "created_at": 1.7e9, "archived": False, "has_unread_turn": True}


def answers() -> dict[tuple[str, str], Any]:
    """(method, path) to what is answered."""
    text = {"content_type": "text", "text": "Done."}
    diffs = [{"type": "output_diff", "diff": DIFF}, {"type": "pr", "output_diff": {"diff": DIFF}}]
    turn = {"id": "turn_a1", "attempt_placement": 0, "turn_status": "completed", "sibling_turn_ids": []}
    return {
        ("GET", "/api/accounts/v1/user-auth-credential/whoami"): {
            "email": "x@codex-relay.invalid",
            "chatgpt_user_id": "user-x",
            "chatgpt_account_id": "acct-x",
            "chatgpt_plan_type": "pro",
            "chatgpt_account_is_fedramp": False,
        },
        ("GET", f"{WHAM}/tasks/list"): {
            "items": [{**_TASK, "updated_at": 1.7e9, "pull_requests": [], "task_status_display": _STATUS}]
        },
        ("GET", f"{WHAM}/tasks/task_e_1"): {
            "task": {**_TASK, "external_pull_requests": [], "current_turn_id": "turn_a1"},
            "task_status_display": _STATUS,
            "current_user_turn": {"id": "turn_u1", "input_items": []},
            "current_assistant_turn": {
                **turn,
                "output_items": [{"type": "message", "role": "assistant", "content": [text]}],
                "worklog": {"messages": []},
                "error": None,
            },
            "current_diff_task_turn": {"id": "turn_a1", "output_items": diffs},
        },
        ("GET", f"{WHAM}/tasks/task_e_1/turns/turn_a1/sibling_turns"): {"sibling_turns": []},
        ("GET", f"{WHAM}/environments"): [{"id": "env_1", "label": "acme/widgets", "is_pinned": True, "task_count": 3}],
        ("POST", f"{WHAM}/tasks"): {"task": {"id": "task_e_new"}},
    }


@dataclass(slots=True)
class CloudStub:
    """``bearers`` are all that ever came; ``bodies`` what tasks were made of."""

    url: str
    bearers: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)


@contextmanager
def cloud_stub() -> Iterator[CloudStub]:
    """Listens on a free port until the block ends; without the key everything is 401."""
    known = answers()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            stub.bearers.add(self.headers.get("authorization", ""))
            stub.paths.append(path)
            answer = known.get((self.command, path))
            if body:
                stub.bodies.append(json.loads(body))
            signed_in = self.headers.get("authorization") == f"Bearer {KEY}"
            status = 401 if not signed_in else 404 if answer is None else 200
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: Any) -> None:
            """Silence."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub = CloudStub(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
