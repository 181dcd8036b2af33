"""A long mixed run with clients that leave: do memory and open files stay where they were?

Each round sends the same mix: short streams, bursts, large bodies, clients that leave in the middle of a stream and
clients that leave before an answer. After a round the gateway gets a moment of rest and is weighed. The first rounds
warm it up (pools, caches, the allocator's arenas); from then on nothing may grow by more than a tenth.
"""

from __future__ import annotations

import json
import time

from benchmarks.load import Load
from benchmarks.machine import open_files, rss_mb, tree
from benchmarks.scenarios import Bench, Result, Spread, Verdict

ROUNDS = 10
WARM_ROUNDS = 2
REST_S = 2.0
GROWTH = 0.10
FILE_SLACK = 16


def mix(requests: int) -> tuple[Load, ...]:
    """One round of about ``requests`` requests."""
    tenth = max(10, requests // 10)
    return (
        Load("5k", "1:0:1", 32, requests=4 * tenth),
        Load("5k", "50:0:1", 64, requests=2 * tenth),
        Load("5k", "20:5:1", 64, requests=2 * tenth, leave_after=3, leave_percent=50),
        Load("5k", "20:5:1", 32, requests=tenth, leave_after=0),
        Load("200k", "5:0:1", 16, requests=tenth),
    )


def soak(bench: Bench, requests: int) -> Result:
    """``requests`` in ROUNDS rounds against the gateway alone."""
    memory: list[float] = []
    files: list[float] = []
    rows = []
    failures = left = sent = 0
    for _ in range(ROUNDS):
        for load in mix(requests // ROUNDS):
            row = bench.generator.run(bench.gateway, load)
            failures += row.failures
            left += int(row.told["aborted"])
            sent += int(row.told["started"])
            rows.append(row.as_json())
        time.sleep(REST_S)
        pids = tree(bench.gateway.pid)
        memory.append(rss_mb(pids))
        files.append(open_files(pids))
        bench.say(".")
    open_upstream = json.loads(bench.direct.get("/stats"))["active"]
    grown = growth(memory)
    opened = max(files[WARM_ROUNDS:]) - files[WARM_ROUNDS - 1]
    return Result(
        "soak",
        f"{sent:,} mixed requests, {left:,} clients leave",
        {"memory": ("MB at rest", Spread.of(memory)), "files": ("open", Spread.of(files))},
        [
            Verdict("memory flat within 10 %", f"{grown:+.1%} after round {WARM_ROUNDS}", grown <= GROWTH),
            Verdict(
                "open files flat within 10 %", f"{opened:+.0f} after round {WARM_ROUNDS}",
                opened <= max(FILE_SLACK, GROWTH * files[WARM_ROUNDS - 1]),
            ),
            Verdict("no request fails but those that left", f"{failures} failed", failures == 0),
            Verdict("no stream is left open at the upstream", f"{open_upstream} open", open_upstream == 0),
        ],
        [f"memory after each round, MB: {', '.join(f'{value:.0f}' for value in memory)}",
         f"open files after each round: {', '.join(f'{value:.0f}' for value in files)}"],
        rows,
    )  # fmt: skip


def growth(values: list[float]) -> float:
    """The highest value after the warm rounds, relative to the last warm round."""
    return max(values[WARM_ROUNDS:]) / values[WARM_ROUNDS - 1] - 1
