"""How is the Codex CLI started for one turn, and what do its lines say about the turn?

Rules that hold:

* approvals and the CLI's own sandbox are off: the container is the boundary; nothing but the model is talked to;
* the task's key is in the CLI's environment and kept from the commands that it runs (``GW_*`` is excluded);
* a thread id, a model and an effort are checked words before they are arguments; the prompt comes by standard input;
* lines are read in bounded pieces: one beyond 4 MiB is left out with its size, what is no JSON object is said as text.

Instructions in ``AGENTS.md`` are the CLI's own matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from .events import Events
from .order import Places, Refused, Spec

KEY_NAME = "GW_KEY"
LINE_READ_MAX_BYTES = 4 << 20
OUTPUT_MAX = 32 << 10
MESSAGE_MAX = 4000
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}")
_THREAD = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}")


def arguments(places: Places, spec: Spec, model_port: int) -> list[str]:
    """The whole command. Raises Refused for a word that is none."""
    if not _WORD.fullmatch(spec.model):
        raise Refused("The model's name is not one")
    if spec.effort is not None and not _WORD.fullmatch(str(spec.effort)):
        raise Refused("The reasoning effort is not a word")
    if spec.thread_id is not None and not _THREAD.fullmatch(str(spec.thread_id)):
        raise Refused("The thread's id is not one")
    provider = (
        f'{{name="gw",base_url="http://127.0.0.1:{model_port}/v1",env_key="{KEY_NAME}",wire_api="responses",'
        "supports_websockets=false}"
    )
    settings = [
        f"model={json.dumps(spec.model)}",
        "model_provider=gw",
        f"model_providers.gw={provider}",
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        'shell_environment_policy.exclude=["GW_*"]',
        *([] if spec.effort is None else [f"model_reasoning_effort={json.dumps(spec.effort)}"]),
    ]
    resume = [] if spec.thread_id is None else ["resume", spec.thread_id]
    return [
        places.codex, "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
        "-C", str(places.workspace), "-o", str(places.out / "last_message.txt"),
        *(word for one in settings for word in ("-c", one)),
        *resume, "-",
    ]  # fmt: skip


class Turn:
    """Takes the CLI's standard output and says its events; afterwards it knows the thread, the usage and the fault."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._waiting = bytearray()
        self._skipped = 0
        self.thread_id: str | None = None
        self.usage: dict[str, int] | None = None
        self.fault = ""
        self.completed = False

    def __call__(self, piece: bytes) -> None:
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._gather(line)
            self._end_line()
        self._gather(rest)

    def close(self) -> None:
        self._end_line()

    def _gather(self, part: bytes) -> None:
        if self._skipped or len(self._waiting) + len(part) > LINE_READ_MAX_BYTES:
            self._skipped += len(self._waiting) + len(part)
            self._waiting.clear()
        else:
            self._waiting += part

    def _end_line(self) -> None:
        line, skipped = bytes(self._waiting), self._skipped
        self._waiting.clear()
        self._skipped = 0
        if skipped:
            self._events.say("codex", "codex.cut", {"bytes": skipped})
        elif line.strip():
            self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            self._events.say("codex", "codex.text", {"text": line.decode("utf-8", "replace")})
            return
        kind = event.pop("type")
        self._note(kind, event)
        item = event.get("item")
        if isinstance(item, dict) and isinstance(item.get("aggregated_output"), str):
            output = item["aggregated_output"]
            if len(output) > OUTPUT_MAX:
                half = OUTPUT_MAX // 2
                item["aggregated_output"] = f"{output[:half]}\n... [cut] ...\n{output[-half:]}"
        word = kind if re.fullmatch(r"[a-z_.]{1,60}", kind) else "other"
        self._events.say("codex", f"codex.{word}", event)

    def _note(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "thread.started" and isinstance(event.get("thread_id"), str):
            self.thread_id = event["thread_id"][:64]
        elif kind == "turn.completed":
            self.completed = True
            usage = event.get("usage")
            if isinstance(usage, dict):
                self.usage = {str(k)[:64]: v for k, v in usage.items() if isinstance(v, int)}
        elif kind in {"turn.failed", "error"}:
            error = event.get("error")
            said = error.get("message") if isinstance(error, dict) else event.get("message")
            if isinstance(said, str):
                self.fault = said[:MESSAGE_MAX]


class Tail:
    """Takes the CLI's standard error: the last of it, which explains an end without a word on standard output."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.text = ""

    def __call__(self, piece: bytes) -> None:
        text = piece.decode("utf-8", "replace")
        self.text = (self.text + text)[-MESSAGE_MAX:]
        self._say(text)
