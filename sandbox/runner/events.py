"""How does what happens in the container become numbered lines that nobody has to be afraid of?

Each line is one JSON object on standard output and in ``/out/events.jsonl``. Rules that hold:

* a line is at most 1 MiB: long texts are cut with a mark, and what is still too long is replaced by its size;
* all lines together stay below the task's cap; then one ``runner.truncated`` is said and the rest is dropped, save
  the runner's own lines (they are few) and the words that end a turn;
* the values of secrets are replaced by ``***`` before anything is written;
* escapes and control characters are JSON-escaped, so a terminal that shows a line obeys nothing in it;
* a full disk or a reader that has gone does not stop the run.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

LINE_MAX_BYTES = 1 << 20
TEXT_MAX = 64 << 10
DEPTH_MAX = 20
CUT = "... [cut]"
MASK = "***"
MASKED_FROM = 6  # shorter values would blank out half of every log
_ENDS = frozenset({"codex.thread.started", "codex.turn.completed", "codex.turn.failed"})
_ALWAYS_MAX_BYTES = 64 << 10


class Masks:
    """Replaces secrets. A secret of several lines is masked line by line, because output is read so."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {line.strip() for value in secrets for line in (value, *value.splitlines())}
        self._parts = sorted((part for part in parts if len(part) >= MASKED_FROM), key=len, reverse=True)

    @property
    def longest_bytes(self) -> int:
        return max((len(part.encode()) for part in self._parts), default=0)

    def in_bytes(self, data: bytes) -> bytes:
        for part in self._parts:
            data = data.replace(part.encode(), MASK.encode())
        return data

    def __call__(self, text: str) -> str:
        for part in self._parts:
            text = text.replace(part, MASK)
        return text


class Events:
    """One writer per run. ``say`` may be called from any thread."""

    def __init__(
        self,
        masks: Masks,
        max_bytes: int,
        copy: Path | None = None,
        out: IO[bytes] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._masks = masks
        self._left = max_bytes
        self._out = out or sys.stdout.buffer
        self._now = now
        self._copy: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._seq = 0
        self.truncated = False
        if copy is not None:
            with contextlib.suppress(OSError):
                self._copy = copy.open("wb")

    def say(self, source: str, kind: str, data: dict[str, Any]) -> None:
        """One line. ``kind`` begins with the source and is dotted."""
        with self._lock:
            line = self._line(source, kind, data)
            if source != "runner" and not (kind in _ENDS and len(line) <= _ALWAYS_MAX_BYTES):
                if self.truncated:
                    return
                if len(line) > self._left:
                    self.truncated = True
                    line = self._line("runner", "runner.truncated", {"message": "the log is full; it ends here"})
                else:
                    self._left -= len(line)
            self._seq += 1
            self._write(line)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._copy is not None:
                self._copy.close()

    def _line(self, source: str, kind: str, data: dict[str, Any]) -> bytes:
        line = self._encode(source, kind, self._inert(data, TEXT_MAX, 0))
        if len(line) > LINE_MAX_BYTES:
            line = self._encode(source, kind, self._inert(data, 1024, 0))
        if len(line) > LINE_MAX_BYTES:
            line = self._encode(source, kind, {"cut": True, "bytes": len(line)})
        return line

    def _encode(self, source: str, kind: str, data: Any) -> bytes:
        whole = {"seq": self._seq + 1, "t": round(self._now(), 3), "src": source, "kind": kind, "data": data}
        return json.dumps(whole, separators=(",", ":")).encode() + b"\n"

    def _inert(self, value: Any, text_max: int, depth: int) -> Any:
        """The same value with secrets masked, long texts cut, and no depth that a reader would fall into."""
        if isinstance(value, str):
            masked = self._masks(value)
            return masked if len(masked) <= text_max else masked[:text_max] + CUT
        if depth >= DEPTH_MAX:
            return CUT if isinstance(value, dict | list) else value
        if isinstance(value, dict):
            return {self._masks(str(key))[:256]: self._inert(one, text_max, depth + 1) for key, one in value.items()}
        if isinstance(value, list):
            return [self._inert(one, text_max, depth + 1) for one in value]
        return value

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            self._out.write(line)
            self._out.flush()
        if self._copy is not None:
            with contextlib.suppress(OSError):
                self._copy.write(line)
                self._copy.flush()
