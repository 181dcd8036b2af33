"""How is a child run so that it can neither outlive its time nor block, flood or fool the one that waits for it?

Rules that hold:

* a child is the leader of a process group of its own; the deadline and TERM reach the whole group: first the polite
  signal, and KILL after a grace;
* output is read as it comes, in bounded pieces, whatever is in it; a reader never waits for a line's end;
* a daemon that keeps the pipe open does not keep the runner: it goes on shortly after the child itself has ended;
* what was orphaned comes back to this process (subreaper), so ``end_all`` leaves nothing running behind.

Input is given as a memory file: it has no size that blocks a pipe, and it is never on a disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

PIECE_BYTES = 64 << 10
LINGER_S = 0.5
POLL_S = 0.1
_PR_SET_CHILD_SUBREAPER = 36

Take = Callable[[bytes], None]


class Stop:
    """Why the run must end, once it must: ``cancelled`` (TERM or INT came) or ``timed_out``."""

    def __init__(self, deadline_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._deadline_s = now() + deadline_s
        self._asked = False

    def ask(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self._asked = True

    def listen(self) -> None:
        """From now on TERM and INT ask."""
        signal.signal(signal.SIGTERM, self.ask)
        signal.signal(signal.SIGINT, self.ask)

    @property
    def why(self) -> str | None:
        if self._asked:
            return "cancelled"
        return "timed_out" if self._now() >= self._deadline_s else None


@dataclass(frozen=True)
class Child:
    """What to run. ``user`` None: as whom we run. ``polite``: the signal that it gets first when it must end."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    user: int | None = None
    polite: signal.Signals = signal.SIGTERM
    grace_s: float = 5.0
    keep: tuple[int, ...] = ()  # descriptors that it inherits


@dataclass(frozen=True)
class Ran:
    """``code`` is the exit code (negative: the signal). ``why`` says why it was made to end; None: it was not."""

    code: int
    why: str | None


def memory_file(data: bytes) -> int:
    """A descriptor at the beginning of ``data``; the caller closes it."""
    descriptor = os.memfd_create("input")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def run(child: Child, stop: Stop, out: Take, err: Take | None = None, stdin: bytes = b"") -> Ran:
    """Runs to the end. ``out`` and ``err`` take pieces as they come (``err`` None: both go to ``out``).

    Raises OSError when the program cannot be started. A stop that was asked for before starts nothing.
    """
    if stop.why is not None:
        return Ran(-signal.SIGTERM, stop.why)
    given = memory_file(stdin)
    try:
        process = subprocess.Popen(  # noqa: S603 - the caller's argv, never a shell's line
            list(child.argv),
            cwd=child.folder,
            env=dict(child.environment),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if err is None else subprocess.PIPE,
            process_group=0,
            pass_fds=child.keep,
            user=child.user,
            group=child.user,
            extra_groups=None if child.user is None else [],
        )
    finally:
        os.close(given)
    with contextlib.closing(selectors.DefaultSelector()) as selector, process:
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ, out)
        if process.stderr is not None:
            selector.register(process.stderr, selectors.EVENT_READ, err)
        why = _follow(process, child, stop, selector)
        _signal_group(process.pid, signal.SIGKILL)
        return Ran(process.wait(), why)


def _follow(process: subprocess.Popen[bytes], child: Child, stop: Stop, selector: selectors.BaseSelector) -> str | None:
    """Until the child has ended and its pipes are empty (or shortly after); why it was made to end."""
    why: str | None = None
    kill_at_s = left_at_s = float("inf")
    while True:
        open_pipes = bool(selector.get_map())
        if open_pipes:
            _read(selector)
        else:
            time.sleep(POLL_S / 5)
        now_s = time.monotonic()
        if process.poll() is not None:
            left_at_s = min(left_at_s, now_s + LINGER_S)
            if not open_pipes or now_s >= left_at_s:
                return why
        elif why is None and (why := stop.why) is not None:
            _signal_group(process.pid, child.polite)
            kill_at_s = now_s + child.grace_s
        elif now_s >= kill_at_s:
            _signal_group(process.pid, signal.SIGKILL)


def _read(selector: selectors.BaseSelector) -> None:
    for key, _ in selector.select(POLL_S):
        piece = os.read(key.fd, PIECE_BYTES)
        if piece:
            key.data(piece)
        else:
            selector.unregister(key.fileobj)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def adopt_orphans() -> None:
    """Makes this process the parent of whatever its descendants leave behind."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all(rounds: int = 50) -> None:
    """Kills every descendant and reaps it, so that nothing writes any more. Gives up after ``rounds``."""
    for _ in range(rounds):
        living = list(_descendants())
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not living:
            return
        time.sleep(0.01)


def _descendants() -> Iterator[int]:
    parents: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                words = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                parents.setdefault(int(words[1]), []).append(int(entry.name))
    waiting = [os.getpid()]
    while waiting:
        for pid in parents.get(waiting.pop(), ()):
            yield pid
            waiting.append(pid)
