"""After the load: does the gateway's own book agree with what was sent?

Three books are compared with the generator's count of requests: the audit log in the store (its chain is verified too),
the counters on /metrics, and what the rate limiter says is left. A gateway that is fast because it forgets to count
would fail here.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
import urllib.request
from pathlib import Path

from benchmarks import bodies
from benchmarks.load import Generator, Load
from benchmarks.scenarios import Result, Verdict
from benchmarks.services import GatewayRun, Service

COUNTER = "relay_requests_total"
PROBE = 1000
SETTLE_S = 15.0


def check(run: GatewayRun, generator: Generator) -> Result:
    """Probes the limiter, then compares the three books; the gateway must be idle."""
    result = Result("books", "Every request is in the books")
    result.verdicts.append(_limiter(run.service, generator))
    sent = generator.sent[run.service.name]
    counted = metric(run.service.get("/metrics", auth=True).decode())
    result.verdicts.append(Verdict(f"/metrics counts {sent:,} requests", f"{counted:,}", counted == sent))
    rows = settled_rows(run.database, sent)
    result.verdicts.append(Verdict(f"the audit log has {sent:,} records of requests", f"{rows:,}", rows == sent))
    told = json.loads(run.command("audit", "verify", "--json"))
    whole = bool(told["whole"])
    result.verdicts.append(Verdict("the audit chain is whole", f"{told['records']:,} records verified", whole))
    return result


def metric(text: str) -> int:
    """The sum of the counter of requests over its series of the route that was measured."""
    found = re.findall(rf'^{COUNTER}\{{[^}}]*route="responses"[^}}]*\}} ([0-9.e+]+)$', text, re.MULTILINE)
    return int(sum(float(value) for value in found))


def settled_rows(database: Path, wanted: int) -> int:
    """Audit records of requests; waits up to SETTLE_S for the writer, which works in batches."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
            rows = int(db.execute("SELECT count(*) FROM audit WHERE action = 'request.responses'").fetchone()[0])
        if rows >= wanted or time.monotonic() > deadline:
            return rows
        time.sleep(0.25)


def _limiter(service: Service, generator: Generator) -> Verdict:
    promise = f"the limiter counts {PROBE + 1:,} requests"
    for _ in range(3):  # a window may end between the two looks
        before = _remaining(service, generator)
        generator.run(service, Load("5k", "1:0:1", 8, requests=PROBE))
        after = _remaining(service, generator)
        if before is None or after is None:
            return Verdict(promise, "no x-ratelimit-remaining header", holds=False)
        if before >= after:
            return Verdict(promise, f"{before - after:,}", before - after == PROBE + 1)
    return Verdict(promise, "the window ended each time", holds=False)


def _remaining(service: Service, generator: Generator) -> int | None:
    """Requests left, as an answer of the gateway says."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{service.path}",
        data=bodies.body("5k", "1:0:1"),
        headers={"Content-Type": "application/json", **dict(service.headers)},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        generator.sent[service.name] += 1
        value = answer.headers.get("x-ratelimit-remaining-requests") or answer.headers.get("x-ratelimit-remaining")
    return int(value) if value is not None else None
