"""How are set-up, maintenance and test scripts run, and how does what they say become log?

``bash -e`` per script, one after the other, in the workspace. The script's text comes by a memory file, so it is
neither an argument nor on a disk. Output is collected into pieces of whole lines (a line without an end is cut into
pieces), masked, and said as ``setup.output`` or ``judge.output``; ``setup.log`` has the same text.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from .events import Events, Masks
from .processes import Child, Ran, Stop, memory_file, run

PIECE_CHARACTERS = 16 << 10
TAIL_CHARACTERS = 4000


class Output:
    """Takes bytes, gives pieces of text of at most 16 KiB that end at a line's end where there is one."""

    def __init__(
        self, events: Events, source: str, label: str, masks: Masks, log: IO[str] | None, log_max: int
    ) -> None:
        self._events = events
        self._source = source
        self._label = label
        self._masks = masks
        self._log = log
        self._log_left = log_max
        self._waiting = b""
        self.tail = ""

    def __call__(self, piece: bytes) -> None:
        self._waiting = self._masks.in_bytes(self._waiting + piece)
        held = self._masks.longest_bytes  # what may be the beginning of a secret waits for its end
        while len(self._waiting) >= PIECE_CHARACTERS + held:
            at = self._waiting.rfind(b"\n", 0, PIECE_CHARACTERS) + 1 or PIECE_CHARACTERS
            self._say(self._waiting[:at])
            self._waiting = self._waiting[at:]
        at = self._waiting.rfind(b"\n") + 1
        if at:
            self._say(self._waiting[:at])
            self._waiting = self._waiting[at:]

    def close(self) -> None:
        if self._waiting:
            self._say(self._waiting)
            self._waiting = b""

    def _say(self, data: bytes) -> None:
        text = self._masks(data.decode("utf-8", "replace"))
        self.tail = (self.tail + text)[-TAIL_CHARACTERS:]
        self._events.say(self._source, f"{self._source}.output", {"label": self._label, "text": text})
        if self._log is not None and self._log_left > 0:
            self._log_left -= len(text)
            with contextlib.suppress(OSError):
                self._log.write(text if self._log_left > 0 else text + "\n[the log is full; it ends here]\n")
                self._log.flush()


class Scripts:
    """Runs scripts for one phase. ``source`` is ``setup`` or ``judge``."""

    def __init__(self, events: Events, masks: Masks, stop: Stop, source: str, log: Path, log_max: int) -> None:
        self._events = events
        self._masks = masks
        self._stop = stop
        self._source = source
        self._log = log
        self._log_max = log_max

    def run(self, label: str, script: str, environment: Mapping[str, str], workspace: Path) -> tuple[Ran, str]:
        """How it ended and the end of what it said. Raises OSError when bash is not there."""
        with contextlib.ExitStack() as stack:
            log: IO[str] | None = None
            with contextlib.suppress(OSError):
                log = stack.enter_context(self._log.open("a", encoding="utf-8", errors="replace"))
            taken = self._log.stat().st_size if log is not None else 0
            text = memory_file(script.encode("utf-8", "surrogateescape"))
            stack.callback(os.close, text)
            output = Output(self._events, self._source, label, self._masks, log, self._log_max - taken)
            self._events.say(self._source, f"{self._source}.started", {"label": label})
            child = Child(("bash", "-e", f"/dev/fd/{text}"), environment, workspace, keep=(text,))
            ran = run(child, self._stop, output)
            output.close()
        self._events.say(self._source, f"{self._source}.ended", {"label": label, "exit_code": ran.code})
        return ran, output.tail
