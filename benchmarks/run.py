"""The benchmarks in one command: ``make bench``, or ``python benchmarks/run.py [--quick]``.

Starts the mock upstream, the nginx proxy and the gateway on loopback, measures the gateway against nginx, compares the
gateway's own books with what was sent, prints the report and writes it to ``--out``. Everything it starts ends with it,
also on Ctrl-C. Exit code: 0 all promises hold, 1 one does not, 2 it could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

if not __package__:  # run as a file: the folder of this file must not hide the standard library
    sys.path.pop(0)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accounting, fleet, report, scenarios, services, soak
from benchmarks.load import Generator
from benchmarks.machine import facts, placement, raise_file_limit
from benchmarks.scenarios import Bench, Result
from benchmarks.services import CannotRun, GatewayRun, Service

SCENARIOS = ("small", "burst", "paced", "many", "body", "first", "fleet", "soak", "books")
STREAMS = 2000
SPARE_FILES = 500


@dataclass(frozen=True)
class Stage:
    """Everything that runs. ``book`` is None when nginx plays the gateway (--self-check)."""

    bench: Bench
    no_hold: Service
    book: GatewayRun | None
    proxy_cpu: int = 0


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer and shorter runs")
    parser.add_argument("--only", default="", help=f"comma list of {', '.join(SCENARIOS)}")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs per scenario in full mode (5)")
    parser.add_argument("--soak", type=int, nargs="?", const=100_000, default=0, help="add the soak (100000 requests)")
    parser.add_argument("--self-check", action="store_true", help="a second nginx plays the gateway: ratios must be 1")
    parser.add_argument("--out", type=Path, default=services.HERE / "results", help="folder of the report")
    given = parser.parse_args(arguments)
    given.only = [name for name in given.only.split(",") if name]
    if unknown := set(given.only) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    if "soak" in given.only and not given.soak:
        given.soak = 100_000
    return given


@contextlib.contextmanager
def stage(given: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Stage]:
    """Starts all services and stops them; also on an exception."""
    where = placement()
    files = raise_file_limit()
    os.sched_setaffinity(0, {where.load_cpu})
    if where.shared:
        say("only one CPU: load and gateway share it, the figures mean little\n")
    with contextlib.ExitStack() as stack:
        public = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-bench-")))
        public.chmod(0o755)  # nginx's workers run as another user
        mock = stack.enter_context(services.mock_upstream(public, where.load_cpu, files))
        nginx = stack.enter_context(services.nginx_proxy(public, where.proxy_cpu, files, mock))
        generator = Generator(private, private, where)
        book = None
        if given.self_check:
            ours = stack.enter_context(services.nginx_proxy(public, where.proxy_cpu, files, mock, "gateway"))
            no_hold = ours
        else:
            book = stack.enter_context(services.gateway(private, where.proxy_cpu, mock))
            extra = {"CODEX_RELAY_ROUTER__COMMIT_HOLD_MS": "0"}
            other = stack.enter_context(services.gateway(private, where.proxy_cpu, mock, extra))
            ours, no_hold = book.service, replace(other.service, name="gateway, commit_hold_ms 0")
        yield Stage(Bench(generator, nginx, ours, mock, given.quick, given.pairs, say), no_hold, book, where.proxy_cpu)


def run(given: argparse.Namespace, stage_: Stage, say: Callable[[str], None]) -> list[Result]:
    """The chosen scenarios in an order that keeps memory comparable: large bodies come after the memory was weighed."""
    bench = stage_.bench
    streams = min(STREAMS, (raise_file_limit() - SPARE_FILES) // 3)
    parts: dict[str, Callable[[], Result]] = {
        "small": lambda: scenarios.ratio(bench, scenarios.SMALL),
        "burst": lambda: scenarios.ratio(bench, scenarios.BURST),
        "paced": lambda: scenarios.ratio(bench, scenarios.PACED),
        "many": lambda: scenarios.many(bench, streams),
        "body": lambda: scenarios.ratio(bench, scenarios.BODY),
        "first": lambda: scenarios.first_event(bench, stage_.no_hold),
    }
    if stage_.book is not None:
        parts["fleet"] = lambda: _fleet(bench, stage_.proxy_cpu)
    if given.soak:
        parts["soak"] = lambda: soak.soak(bench, given.soak)
    if (book := stage_.book) is not None:
        parts["books"] = lambda: accounting.check(book, bench.generator)
    results = []
    for name, part in parts.items():
        if given.only and name not in given.only:
            continue
        say(f"{name} ")
        started = time.monotonic()
        results.append(part())
        missed = [f"{v.promise}: {v.measured}" for v in results[-1].verdicts if not v.holds]
        say(f" {time.monotonic() - started:.0f} s{'; missed: ' + '; '.join(missed) if missed else ''}\n")
    if streams < STREAMS:
        results[-1].notes.append(f"open files are limited: {streams} streams instead of {STREAMS}; raise ulimit -n")
    return results


def _fleet(bench: Bench, proxy_cpu: int) -> Result:
    with fleet.hot_gateway(bench.direct, proxy_cpu) as hot:
        return fleet.cost(bench, hot.service)


def main(arguments: list[str] | None = None) -> int:
    given = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def say(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)

    try:
        machine = facts() if services.module_folder() else {}
        with stage(given, say) as ready:
            results = run(given, ready, say)
    except CannotRun as error:
        say(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        say("\nstopped\n")
        return 130
    mode = (
        ("quick" if given.quick else "full")
        + ("-self-check" if given.self_check else "")
        + ("-part" if given.only else "")
    )
    print(report.as_markdown(machine, results, mode))
    written = report.write(given.out, machine, results, mode)
    say(f"written: {', '.join(map(str, written))}\n")
    return 0 if all(verdict.holds for result in results for verdict in result.verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
