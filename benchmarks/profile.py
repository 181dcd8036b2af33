"""Where does the gateway's CPU time go? One scenario under a sampling or a tracing profiler.

    python benchmarks/profile.py small                       # py-spy, 8 s: the hottest functions, and a flame graph
    python benchmarks/profile.py burst --seconds 15 --native # C frames too
    python benchmarks/profile.py small --tracing             # cProfile: exact counts of calls, but slow itself

The sampling profiler costs the gateway little, so shares are right and totals comparable; use ``--tracing`` only to see
how often something is called. Files go to ``--out``: NAME.txt (the summary), NAME.svg or NAME.pstats.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a file: its own name must not hide the standard library's profile module
    sys.path.pop(0)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import scenarios, services
from benchmarks.load import Generator, Load, Row
from benchmarks.machine import placement, raise_file_limit, thread_seconds
from benchmarks.services import CannotRun, GatewayRun

LOADS = {one.key: one.full for one in scenarios.RATIOS} | {
    "many": Load("5k", "240:50:1", 2000, requests=2000, ramp_s=5),
    "flood": Load("5k", "5000:0:1", 4, seconds=3),
}
RATE_HZ = 250
TOP = 40
WAITING = ("_worker (concurrent/futures", "Condition.wait (threading", "Event.wait (threading")
"""Threads that wait look busy to py-spy after each stop; what they cost stands in the table of threads."""


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=sorted(LOADS))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--native", action="store_true", help="C frames too (slower, needs symbols to be useful)")
    parser.add_argument("--tracing", action="store_true", help="cProfile instead of py-spy")
    parser.add_argument("--out", type=Path, default=services.HERE / "results")
    return parser.parse_args(arguments)


def profile(given: argparse.Namespace) -> str:
    """Runs the scenario under the profiler; returns the summary that was written to the text file."""
    where = placement()
    files = raise_file_limit()
    os.sched_setaffinity(0, {where.load_cpu})
    given.out.mkdir(parents=True, exist_ok=True)
    name = f"profile-{given.scenario}{'-tracing' if given.tracing else ''}"
    with contextlib.ExitStack() as stack:
        public = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        public.chmod(0o755)
        mock = stack.enter_context(services.mock_upstream(public, where.load_cpu, files))
        generator = Generator(private, private, where)
        if given.tracing:
            summary = _trace(given, generator, private, where.proxy_cpu, mock, name)
        else:
            book = stack.enter_context(services.gateway(private, where.proxy_cpu, mock))
            summary = _sample(given, generator, book, name)
    (given.out / f"{name}.txt").write_text(summary)
    return summary


def _load(given: argparse.Namespace) -> Load:
    load = LOADS[given.scenario]
    return replace(load, seconds=given.seconds) if load.seconds else load


def _sample(given: argparse.Namespace, generator: Generator, book: GatewayRun, name: str) -> str:
    """py-spy twice over the same load: collapsed stacks for the summary, then a flame graph."""
    load = _load(given)
    generator.run(book.service, replace(load, stream="1:0:1", seconds=1.0, requests=0, ramp_s=0))
    folded = book.folder / "stacks.txt"
    threads = _threads(given, generator, book)
    row = _under_spy(given, generator, book, ["--format", "raw", "--output", str(folded)])
    _under_spy(given, generator, book, ["--format", "flamegraph", "--output", str(given.out / f"{name}.svg")])
    return f"{_headline(given, row)}\n\n{threads}\n\n{summarise(folded.read_text())}"


def _threads(given: argparse.Namespace, generator: Generator, book: GatewayRun) -> str:
    """A run without a profiler: what each thread costs. py-spy only tells the threads' names."""
    pid = book.service.pid
    before = thread_seconds(pid)
    row = generator.run(book.service, _load(given))
    used = {tid: after - before.get(tid, 0.0) for tid, after in thread_seconds(pid).items()}
    spy = Path(sys.executable).with_name("py-spy")
    dump = subprocess.run([str(spy), "dump", "--pid", str(pid)], capture_output=True, text=True, check=False).stdout
    names = {int(tid): name for tid, name in re.findall(r'^Thread (\d+) \([^)]*\): "([^"]*)"', dump, re.MULTILINE)}
    lines = [
        f"{seconds * 1e3 / max(1, row.requests):8.4f}  {names.get(tid, 'not Python')}"
        for tid, seconds in sorted(used.items(), key=lambda item: -item[1])
        if seconds
    ]
    return "\n".join([f"without a profiler {row.cpu_ms_per_request:.4f} ms of CPU per request, by thread:", *lines])


def _under_spy(given: argparse.Namespace, generator: Generator, book: GatewayRun, output: list[str]) -> Row:
    spy = Path(sys.executable).with_name("py-spy")
    command = [str(spy), "record", "--pid", str(book.service.pid), "--rate", str(RATE_HZ), *output]
    command += ["--duration", "600", *(["--native"] if given.native else [])]
    with (book.folder / "py-spy.log").open("ab") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        row = generator.run(book.service, _load(given))
    finally:
        running.send_signal(signal.SIGINT)  # it writes its file then
        running.wait(60)
    if running.returncode:
        raise CannotRun(f"py-spy: {(book.folder / 'py-spy.log').read_text()[-300:].strip()} (it needs ptrace rights)")
    return row


def _trace(
    given: argparse.Namespace, generator: Generator, private: Path, cpu: int, mock: services.Service, name: str
) -> str:
    import io
    import pstats

    dump = given.out / f"{name}.pstats"
    with services.gateway(private, cpu, mock, wrapper=["-m", "cProfile", "-o", str(dump)]) as book:
        row = generator.run(book.service, _load(given))
    text = io.StringIO()
    stats = pstats.Stats(str(dump), stream=text)
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(TOP)
    return f"{_headline(given, row)}\n\n{text.getvalue()}"


def _headline(given: argparse.Namespace, row: Row) -> str:
    return (
        f"{given.scenario}: {row.requests} requests, {row.events} events, {row.cpu_ms_per_request:.3f} ms and "
        f"{row.cpu_us_per_event:.1f} us of CPU per request and event, {row.failures} failed (with the profiler on)"
    )


def summarise(folded: str) -> str:
    """Three tables over collapsed stacks ("a;b;c 12"): samples where a function itself ran, the same by file, and samples
    where the function was anywhere on the stack."""
    own: collections.Counter[str] = collections.Counter()
    files: collections.Counter[str] = collections.Counter()
    below: collections.Counter[str] = collections.Counter()
    total = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame.rpartition(":")[0] or frame for frame in stack.split(";") if frame]  # without line numbers
        if not frames:
            continue
        if frames[-1].startswith(WAITING):
            continue
        own[frames[-1]] += int(count)
        files[frames[-1].partition("(")[2] or frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
        total += int(count)
    parts = []
    for title, table in (("itself", own), ("itself, by file", files), ("with what it calls", below)):
        lines = [f"{count / max(1, total):6.1%}  {frame}" for frame, count in table.most_common(TOP)]
        parts.append("\n".join([f"share of samples, {title}:", *lines]))
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    given = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        print(profile(given))
    except CannotRun as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
