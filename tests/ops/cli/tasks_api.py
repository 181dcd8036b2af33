"""A stand-in for the gateway's REST API of tasks, on loopback, for the commands that call it.

It keeps what it was asked and answers in the shapes of gateway.tasks.answers. ``cuts`` breaks the live log off.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "at-cr-abcdefghijkl-" + "k" * 43
EVIL = "title\x1b]0;owned\x07\u202egnp.exe\x9b2J"
DIFF = b"diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+new\n"


def task(state: str = "ready", **more: Any) -> dict[str, Any]:
    attempt = {
        "number": 1, "state": "ended", "ended": "done", "worker": "w", "files_changed": 1, "lines_added": 1,
        "lines_removed": 1, "tests_passed": True, "usage": {"input_tokens": 10, "output_tokens": 5}, "rank": 1,
        "reasons": ["tests pass", EVIL], "message": EVIL,
    }  # fmt: skip
    return {
        "id": "task_1", "title": EVIL, "state": state, "ended": None, "environment_id": "env_1", "created_by": "key x",
        "created_at_s": 1.7e9, "updated_at_s": 1.7e9, "archived": False, "prompt": "do it", "model": "gpt-5.5",
        "attempts": [attempt], "chosen": None, "review": None, "version": 1,
        "files": [{"attempt": 1, "name": EVIL, "size_bytes": 3}], **more,
    }  # fmt: skip


def environment(**more: Any) -> dict[str, Any]:
    return {
        "id": "env_1", "label": "widgets", "repository": None, "image": None, "setup_script": "",
        "maintenance_script": "", "test_command": "", "variables": {"A": "1"}, "secrets": ["TOKEN"],
        "network": {"setup": {"domains": ["pypi.org"], "methods": ["GET"]}, "agent": {"domains": []}},
        "limits": {"cpus": 2.0, "memory_mib": 4096, "pids": 512, "disk_mib": 8192, "wall_s": 3600.0, "output_mib": 40},
        "version": 7, **more,
    }  # fmt: skip


def log_items(count: int) -> list[dict[str, Any]]:
    return [
        {"number": n, "attempt": 1, "at_s": 1.7e9, "source": "codex", "kind": "codex.item.completed",
         "data": {"item": {"type": "agent_message", "text": f"line {n} \u2028 {EVIL}\nsecond"}}}
        for n in range(1, count + 1)
    ]  # fmt: skip


@dataclass(slots=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class TasksApi:
    url: str = ""
    states: list[str] = field(default_factory=lambda: ["ready"])
    diff: bytes = DIFF
    log: list[dict[str, Any]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=lambda: [environment()])
    refusals: dict[str, int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def of(self, method: str, path: str) -> list[Asked]:
        return [one for one in self.asked if (one.method, one.path) == (method, path)]

    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Status and body: bytes as they are, None for nothing, the rest as JSON."""
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            return 401, {"error": {"message": "Wrong key.", "code": "invalid_api_key"}}
        parts = asked.path.split("/")[2:]
        if (status := self.refusals.get(parts[-1])) is not None:
            return status, {"error": {"message": f"No: {EVIL}", "code": "conflict"}}
        if parts[0] == "uploads":
            return 201, {"id": "up_1", "size_bytes": len(asked.body), "files": 1}
        if parts[0] == "environments":
            return self._environment(asked)
        if len(parts) == 1:
            if asked.method == "POST":
                return 201, task(self.state())
            return 200, {"items": [task()], "next_before": "task_0"}
        if parts[2:] == ["diff"]:
            return 200, self.diff
        if parts[2:3] == ["share"]:
            return self._share(asked)
        if parts[2:] == ["log"]:
            after = int(asked.query["after"])
            items = [one for one in self.log if one["number"] > after][:2]
            return 200, {"items": items, "next_after": items[-1]["number"] if items else after}
        return 200, task(self.state() if len(parts) == 2 else "queued")

    def _environment(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "GET":
            return 200, {"items": self.environments}
        if asked.method == "DELETE":
            return 204, None
        return 200, environment(version=8)

    def _share(self, asked: Asked) -> tuple[int, Any]:
        if asked.method == "DELETE":
            return 204, None
        one = {"id": "sh_1", "expires_at_s": 1.7e9}
        if asked.method == "GET":
            return 200, {"items": [{**one, "made_by": "key x"}]}
        return 201, {**one, "url": "https://relay.example/share/abc"}


@contextmanager
def tasks_api() -> Iterator[TasksApi]:
    """Listens on a free port until the block ends."""
    api = TasksApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            body = self.chunks() if "transfer-encoding" in self.headers else self.sized()
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
            api.asked.append(asked)
            if headers.get("accept") == "text/event-stream":
                self.stream(int(headers["last-event-id"]))
                return
            status, answer = api.answer(asked)
            sent = b"" if answer is None else answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def do_GET(self) -> None:
            self.handle_any()

        do_POST = do_PATCH = do_DELETE = do_GET  # noqa: N815 - the library's names

        def stream(self, after: int) -> None:
            """Chunked; a cut ends the connection in the middle of an event."""
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            left = [one for one in api.log if one["number"] > after]
            cut = api.cuts.pop(0) if api.cuts else None
            for one in left if cut is None else left[:cut]:
                self.chunk(f": heartbeat\n\nid: {one['number']}\ndata: {json.dumps(one, ensure_ascii=False)}\n\n")
            if cut is None:
                self.chunk("")
            else:
                self.chunk('data: {"number": 99')
            self.close_connection = True

        def sized(self) -> bytes:
            return self.rfile.read(int(self.headers.get("content-length", "0")))

        def chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def chunk(self, text: str) -> None:
            raw = text.encode()
            self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")

        def log_message(self, *_: Any) -> None:
            """Silence."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
