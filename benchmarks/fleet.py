"""What does a hot store cost? The gateway with Redis beside it, against the gateway as it is by default, in one run.

Same mock, same load, same CPU; the redis-server runs on the CPU of the load and is not counted: it is another host's.
Each run is a pair (default, hot); the median of the ratios of CPU per request is judged.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import services
from benchmarks.load import Load
from benchmarks.scenarios import REQUEST, Bench, Result, Spread, Verdict, cpu_ms, pairs_of, warm
from benchmarks.services import CannotRun, GatewayRun, Service

KEY = "fleet"
AT_MOST = 1.15
FULL = Load("5k", "1:0:1", 8, seconds=3)
QUICK = Load("5k", "1:0:1", 8, seconds=1)
APT_LINE = "apt-get install redis-server"


@contextlib.contextmanager
def redis(private: Path, cpu: int) -> Iterator[str]:
    """A redis-server that keeps nothing; yields its URL."""
    if shutil.which("redis-server") is None:
        raise CannotRun(f"missing: redis-server; as root: {APT_LINE}")
    path = private / "redis.sock"
    log = private / "redis.log"
    command = ["redis-server", "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--save", ""]
    with services.process(command, cpu, log):
        yield f"unix://{path}"


@contextlib.contextmanager
def hot_gateway(mock: Service, proxy_cpu: int) -> Iterator[GatewayRun]:
    """The gateway of the benchmarks with a hot store of its own."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as folder, contextlib.ExitStack() as stack:
        private = Path(folder)
        (load_cpu,) = os.sched_getaffinity(0)
        url = stack.enter_context(redis(private, load_cpu))
        extra = {"CODEX_RELAY_STORE__HOT_URL": url}
        run = stack.enter_context(services.gateway(private, proxy_cpu, mock, extra))
        yield replace(run, service=replace(run.service, name="gateway, hot store"))


def cost(bench: Bench, hot: Service) -> Result:
    """CPU per request with a hot store as a multiple of that without."""
    load = QUICK if bench.quick else FULL
    two = replace(bench, nginx=bench.gateway, gateway=hot)
    warm(two, load)
    pairs, notes = pairs_of(two, load, 3 if bench.quick else bench.pairs)
    spread = Spread.of([cpu_ms(ours) / max(cpu_ms(plain), 1e-9) for plain, ours in pairs])
    failures = sum(row.failures for pair in pairs for row in pair)
    return Result(
        KEY,
        "5 KB in, 3 events out, 8 at once, with Redis as hot store",
        {
            "default": (REQUEST, Spread.of([cpu_ms(pair[0]) for pair in pairs])),
            "hot store": (REQUEST, Spread.of([cpu_ms(pair[1]) for pair in pairs])),
            "ratio": ("x", spread),
        },
        [
            Verdict(f"at most {AT_MOST:g} x the default", f"{spread.median:.2f} x", spread.median <= AT_MOST),
            Verdict("no request fails", f"{failures} failed", failures == 0),
        ],
        notes,
        [row.as_json() for pair in pairs for row in pair],
    )
