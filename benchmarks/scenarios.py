"""What is measured, and what has to come out.

Every scenario runs nginx and the gateway in turn (A B A B ...) against the same mock, and what is judged is the ratio of
the two runs of a pair: a host that slows down slows both. A pair whose halves saw the machine at different speed, or
that others disturbed, is run again. Nothing here is judged in requests per second, because mock and generator saturate before nginx does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import Generator, Load, Row
from benchmarks.services import Service

DRIFT = 0.25
STRANGERS = 0.3
EXTRA_PAIRS = 3
QUICK_EXTRA_PAIRS = 1


@dataclass(frozen=True)
class Spread:
    """Median with least and most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Verdict:
    """One promise: what was promised, what came out, whether it holds."""

    promise: str
    measured: str
    holds: bool


@dataclass
class Result:
    """One scenario's outcome. ``figures``: name -> (unit, spread)."""

    key: str
    title: str
    figures: dict[str, tuple[str, Spread]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What the scenarios need. ``quick``: fewer and shorter runs. ``pairs``: how many pairs of runs."""

    generator: Generator
    nginx: Service
    gateway: Service
    direct: Service
    quick: bool
    pairs: int
    say: Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """A ratio of CPU: ``figure`` of a row of the gateway divided by that of nginx must be at most ``at_most``."""

    key: str
    title: str
    unit: str
    figure: Callable[[Row], float]
    at_most: float
    full: Load
    quick: Load
    quick_pairs: int = 3


def cpu_ms(row: Row) -> float:
    return row.cpu_ms_per_request


def cpu_us(row: Row) -> float:
    return row.cpu_us_per_event


REQUEST = "CPU ms/request"
EVENT = "CPU us/event"
SMALL = Scenario(
    "small", "5 KB in, 3 events out, 8 at once", REQUEST, cpu_ms, 6.0,
    Load("5k", "1:0:1", 8, seconds=3), Load("5k", "1:0:1", 8, seconds=1),
)  # fmt: skip
BURST = Scenario(
    "burst", "52 events without a pause, 32 at once", REQUEST, cpu_ms, 1.8,
    Load("5k", "50:0:1", 32, seconds=3), Load("5k", "50:0:1", 32, seconds=1),
)  # fmt: skip
BODY = Scenario(
    "body", "2 MB in, 3 events out, 8 at once", REQUEST, cpu_ms, 3.0,
    Load("2m", "1:0:1", 8, seconds=3), Load("2m", "1:0:1", 8, seconds=1),
)  # fmt: skip
PACED = Scenario(
    "paced", "500 streams of 20 events/s", EVENT, cpu_us, 2.5,
    Load("5k", "240:50:1", 500, requests=500, ramp_s=2), Load("5k", "60:50:1", 500, requests=500, ramp_s=1),
    quick_pairs=2,
)  # fmt: skip
RATIOS = (SMALL, BURST, PACED, BODY)


def ratio(bench: Bench, scenario: Scenario) -> Result:
    """The ratio of CPU, median over the pairs."""
    load = scenario.quick if bench.quick else scenario.full
    warm(bench, load)
    pairs, notes = pairs_of(bench, load, scenario.quick_pairs if bench.quick else bench.pairs)
    ours = [scenario.figure(pair[1]) for pair in pairs]
    theirs = [scenario.figure(pair[0]) for pair in pairs]
    spread = Spread.of([one / max(other, 1e-9) for one, other in zip(ours, theirs, strict=True)])
    failures = sum(row.failures for pair in pairs for row in pair)
    return Result(
        scenario.key,
        scenario.title,
        {"nginx": (scenario.unit, Spread.of(theirs)), "gateway": (scenario.unit, Spread.of(ours)), "ratio": ("x", spread)},
        [
            Verdict(f"at most {scenario.at_most:g} x nginx", f"{spread.median:.2f} x", spread.median <= scenario.at_most),
            Verdict("no request fails", f"{failures} failed", failures == 0),
        ],
        [*notes, f"gateway's peak memory {max(pair[1].peak_mb for pair in pairs):.0f} MB"],
        [row.as_json() for pair in pairs for row in pair],
    )  # fmt: skip


def many(bench: Bench, streams: int) -> Result:
    """Thousands of streams at once: none fails, events are not late, memory stays small."""
    load = Load(
        "5k", "40:50:1" if bench.quick else "240:50:1", streams, requests=streams, ramp_s=2 if bench.quick else 5
    )
    warm(bench, Load("5k", "1:0:1", 8, seconds=0.5))
    pairs, notes = pairs_of(bench, load, 3 if bench.quick else bench.pairs)
    late = Spread.of([theirs and ours.ms("lag", "p99") / theirs for ours, theirs in _lags(pairs)])
    peak = max(pair[1].peak_mb for pair in pairs)
    failures = sum(pair[1].failures for pair in pairs)
    figures = {
        "nginx": ("ms lag p99", Spread.of([pair[0].ms("lag", "p99") for pair in pairs])),
        "gateway": ("ms lag p99", Spread.of([pair[1].ms("lag", "p99") for pair in pairs])),
        "ratio": ("x", late),
        "gateway memory": ("MB peak", Spread.of([pair[1].peak_mb for pair in pairs])),
        "nginx cpu": (EVENT, Spread.of([cpu_us(pair[0]) for pair in pairs])),
        "gateway cpu": (EVENT, Spread.of([cpu_us(pair[1]) for pair in pairs])),
    }
    verdicts = [
        Verdict("no stream fails", f"{failures} of {sum(pair[1].requests for pair in pairs)} failed", failures == 0),
        Verdict("event lag p99 at most 5 x nginx", f"{late.median:.2f} x", late.median <= 5.0),
        Verdict("memory at most 120 MB", f"{peak:.0f} MB", peak <= 120.0),
    ]
    title = f"{streams:,} streams of 20 events/s at once"
    return Result("many", title, figures, verdicts, notes, [row.as_json() for pair in pairs for row in pair])


def _lags(pairs: Sequence[tuple[Row, Row]]) -> list[tuple[Row, float]]:
    return [(ours, max(theirs.ms("lag", "p99"), 0.01)) for theirs, ours in pairs]


def first_event(bench: Bench, no_hold: Service) -> Result:
    """What one client waits longer for: the first event without the hold, the first visible event with it."""
    load = Load("5k", "10:5:1", 1, requests=10 if bench.quick else 20)
    asked: tuple[tuple[str, Service, str], ...] = (
        ("nginx", bench.nginx, "ttfe"),
        ("gateway, commit_hold_ms 0", no_hold, "ttfe"),
        ("gateway, default", bench.gateway, "ttfd"),
    )
    added: dict[str, list[float]] = {name: [] for name, _, _ in asked}
    rows: list[dict[str, Any]] = []
    for service in (bench.direct, bench.nginx, no_hold, bench.gateway):
        bench.generator.run(service, load)
    for _ in range(3 if bench.quick else max(7, bench.pairs)):
        before = bench.generator.run(bench.direct, load)
        ran = [bench.generator.run(service, load) for _, service, _ in asked]
        after = bench.generator.run(bench.direct, load)
        rows += [row.as_json() for row in (before, *ran, after)]
        for (name, _, what), row in zip(asked, ran, strict=True):
            added[name].append(row.ms(what) - (before.ms(what) + after.ms(what)) / 2)
    figures = {name: ("ms added, p50", Spread.of(values)) for name, values in added.items()}
    verdicts = [
        Verdict(f"at most 1 ms more: {name}", f"{spread.median:.2f} ms", spread.median <= 1.0)
        for name, (_, spread) in figures.items()
        if name != "nginx"
    ]
    notes = ["with the default hold the first delta counts: handshake events wait for it on purpose"]
    return Result("first", "Added time to the first event, one client", figures, verdicts, notes, rows)


def warm(bench: Bench, load: Load) -> None:
    """Short runs whose rows are thrown away: connections, caches and compiled paths are there afterwards."""
    short = Load(load.body, "1:0:1", min(load.connections, 64), seconds=0.5)
    for service in (bench.nginx, bench.gateway):
        bench.generator.run(service, short)


def pairs_of(bench: Bench, load: Load, wanted: int) -> tuple[list[tuple[Row, Row]], list[str]]:
    """nginx and gateway in turn; a pair that the machine disturbed is run again, a few times at most."""
    extra = QUICK_EXTRA_PAIRS if bench.quick else EXTRA_PAIRS
    steady: list[tuple[Row, Row]] = []
    unsteady: list[tuple[Row, Row]] = []
    while len(steady) < wanted and len(steady) + len(unsteady) < wanted + extra:
        pair = (bench.generator.run(bench.nginx, load), bench.generator.run(bench.gateway, load))
        slow, fast = max(row.speed_ms for row in pair), min(row.speed_ms for row in pair)
        disturbed = slow / fast - 1 > DRIFT or max(row.strangers for row in pair) > STRANGERS
        (unsteady if disturbed else steady).append(pair)
        bench.say(".")
    missing = max(0, wanted - len(steady))
    notes = []
    if unsteady:
        kept = f", {missing} of them kept for want of better ones" if missing else ""
        why = f"the machine's speed changed by more than {DRIFT:.0%} or others took more than {STRANGERS} CPUs"
        notes.append(f"{len(unsteady)} pairs were disturbed ({why}){kept}")
    return steady + unsteady[:missing], notes
