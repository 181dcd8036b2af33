"""Children that shout, hang on, ignore signals, fork away: none outlives its time or stops the reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from sandbox.runner.processes import Child, Ran, Stop, memory_file, run

pytestmark = pytest.mark.slow
TREE = Path(__file__).resolve().parent.parent.parent.parent


def bash(script: str, folder: Path, deadline_s: float = 20.0, grace_s: float = 0.2) -> tuple[Ran, bytes]:
    said = bytearray()

    def take(piece: bytes) -> None:
        if len(said) < 1 << 20:
            said.extend(piece)

    child = Child(("bash", "-c", script), {"PATH": os.environ["PATH"]}, folder, grace_s=grace_s)
    return run(child, Stop(deadline_s), take, stdin=b"given"), bytes(said)


def test_input_output_and_exit_code(tmp_path: Path) -> None:
    assert bash("cat; echo err >&2; exit 7", tmp_path) == (Ran(7, None), b"givenerr\n")


def test_endless_output_ends_with_the_deadline(tmp_path: Path) -> None:
    ran, said = bash("yes", tmp_path, deadline_s=0.3)
    assert ran.why == "timed_out"
    assert said.startswith(b"y\ny\n")


def test_one_line_of_a_hundred_megabytes_does_not_block(tmp_path: Path) -> None:
    ran, said = bash("head -c 100M /dev/zero", tmp_path)
    assert ran == Ran(0, None)
    assert len(said) >= 1 << 20


def test_who_ignores_the_polite_signal_is_killed_with_its_group(tmp_path: Path) -> None:
    began_s = time.monotonic()
    ran, _ = bash("trap '' TERM INT; sleep 60 & sleep 60; sleep 60", tmp_path, deadline_s=0.2)
    assert (ran.code, ran.why) == (-signal.SIGKILL, "timed_out")
    assert time.monotonic() - began_s < 10


def test_a_daemon_that_holds_the_pipe_does_not_hold_the_runner(tmp_path: Path) -> None:
    began_s = time.monotonic()
    ran, said = bash("setsid sleep 4 & echo done", tmp_path)
    assert (ran, said) == (Ran(0, None), b"done\n")
    assert time.monotonic() - began_s < 3


def test_what_was_stopped_before_is_not_started(tmp_path: Path) -> None:
    stop = Stop(60.0)
    stop.ask()
    ran = run(Child(("touch", "ran"), {}, tmp_path), stop, lambda _: None)
    assert ran.why == "cancelled"
    assert not (tmp_path / "ran").exists()


def test_a_deadline_is_judged_by_the_clock_that_came_in() -> None:
    times: Iterable[float] = iter([10.0, 69.9, 70.0])
    stop = Stop(60.0, lambda: next(iter(times)))
    assert stop.why is None
    assert stop.why == "timed_out"


def test_detached_descendants_are_ended_and_reaped(tmp_path: Path) -> None:
    """In a process of its own: it becomes the parent of orphans."""
    script = (
        "import subprocess, time\nfrom sandbox.runner.processes import adopt_orphans, end_all\nadopt_orphans()\n"
        "subprocess.run(['bash', '-c', \"trap '' TERM; (setsid bash -c 'echo $$ > pid; sleep 60' &) ; exit\"])\n"
        "while not open('pid', 'a+').tell(): time.sleep(0.01)\nend_all()\n"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(TREE)} | {"PATH": os.environ["PATH"]},
        check=True,
        timeout=30,
    )
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_memory_file_is_read_from_its_beginning() -> None:
    descriptor = memory_file(b"x" * 300_000)
    with os.fdopen(descriptor, "rb") as file:
        assert len(file.read()) == 300_000
