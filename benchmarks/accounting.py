"""After the load: does the gateway's own book agree with what was sent?

The audit log in the store (its chain is verified too) and the counters on /metrics are compared with the generator's count
of requests, and the limiter has to refuse exactly what is over a limit. A gateway that is fast because it forgets to
count would fail here.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from pathlib import Path

from benchmarks.load import Generator, Load
from benchmarks.scenarios import Result, Verdict
from benchmarks.services import LIMITED_RPM, GatewayRun, Service

COUNTER = "relay_requests_total"
OVER = 200
SETTLE_S = 15.0


def check(run: GatewayRun, generator: Generator) -> Result:
    """Tries the limiter, then compares the three books; the gateway must be idle."""
    result = Result("books", "Every request is in the books")
    result.verdicts.append(_limiter(run.limited, generator))
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
    """A key with a limit of its own, over it by OVER, eight at once: exactly the surplus is refused."""
    row = generator.run(service, Load("5k", "1:0:1", 8, requests=LIMITED_RPM + OVER))
    surplus = int(row.told["started"]) - LIMITED_RPM
    refused = int(row.told["non200"])
    promise = f"the limiter lets exactly {LIMITED_RPM:,} of {LIMITED_RPM + surplus:,} requests pass in its minute"
    return Verdict(promise, f"{LIMITED_RPM + surplus - refused:,}", refused == surplus and row.failures == refused)
