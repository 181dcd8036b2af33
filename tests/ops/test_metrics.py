"""Metrics: closed labels, and the sum over workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from auth.hooks import RefreshEvent
from ops import metrics
from ops.metrics import CATALOGUE, Metrics, Spread, account_ref
from router.types import OutcomeKind, RetryVerb
from upstream.errors import FaultKind

BEFORE_A_STREAM = set(FaultKind) - {
    FaultKind.TRUNCATED, FaultKind.IDLE, FaultKind.EVENT_TOO_LARGE, FaultKind.BUDGET, FaultKind.PROTOCOL,
}  # fmt: skip
"""Faults that end an attempt before there is a stream."""


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_every_metric_of_the_catalogue_is_served_and_no_other() -> None:
    one = Metrics(version="1.2.3")
    one.request("responses", 200, "ok", 1.0)
    one.breaker("account", "open")
    body, content_type = one.render()
    served = set(re.findall(r"^# TYPE (\S+)", body.decode(), re.MULTILINE))
    assert {name for name in served if not name.endswith("_created")} == set(CATALOGUE)
    assert content_type.startswith("text/plain")
    assert samples(body)["relay_build_info", (("version", "1.2.3"),)] == 1


def test_what_is_counted_is_what_is_served() -> None:
    one = Metrics()
    one.attempts.inc("rate_limited")
    one.attempts.inc("ok", 2)
    one.events.inc(amount=40)
    one.request("responses", 429, "limited", 0.01)
    one.usage(10, 0, 5, 2)
    one.inflight.inc()
    one.breaker("acc_1", "half_open")
    one.pool({"ready": 3})
    one.pool({"ready": 2, "cooling": 1})
    found = samples(one.render()[0])
    assert found["relay_attempts_total", (("outcome", "rate_limited"),)] == 1
    assert found["relay_attempts_total", (("outcome", "ok"),)] == 2
    assert found["relay_events_total", ()] == 40
    labels = (("outcome", "limited"), ("route", "responses"), ("status_class", "4xx"))
    assert found["relay_requests_total", labels] == 1
    assert found["relay_request_seconds_count", (("route", "responses"),)] == 1
    assert found["relay_tokens_total", (("kind", "output"),)] == 5
    assert found["relay_inflight", ()] == 1
    assert found["relay_breaker_state", (("account_ref", account_ref("acc_1")),)] == 1
    assert found["relay_pool_accounts", (("state", "ready"),)] == 2
    assert found["relay_pool_accounts", (("state", "busy"),)] == 0


def test_a_spread_serves_what_a_histogram_that_saw_each_value_would() -> None:
    """Folded in several steps, on the bounds themselves and beyond the last one; a fold without news adds nothing."""
    registries = CollectorRegistry(), CollectorRegistry()
    plain, folded = (Histogram("h", "help", buckets=(0.1, 1.0, 5.0), registry=one) for one in registries)
    spread = Spread(folded)
    for step in ((0.0, 0.05, 0.1), (), (1.0, 1.5, 5.0, 7.0), (0.2,)):
        for value in step:
            plain.observe(value)
            spread.observe(value)
        spread.fold()
        spread.fold()
    slow, quick = (samples(generate_latest(one)) for one in registries)
    slow.pop(("h_created", ()))
    quick.pop(("h_created", ()))
    assert quick == pytest.approx(slow)
    assert quick["h_bucket", (("le", "0.1"),)] == 3


def test_hostile_label_values_add_no_series_but_the_one_called_other() -> None:
    one = Metrics()
    one.request("responses", 200, "ok", 1.0)
    before = len(samples(one.render()[0]))
    for number in range(240):
        hostile = f'x{number}"}}\n'
        one.request(hostile, 1000 + number, hostile, 1.0)
        for tally in (one.attempts, one.retries, one.stream_end, one.shed, one.refresh, one.tokens):
            tally.inc(hostile)
        one.pool({hostile: 1})
    after = samples(one.render()[0])
    assert len(after) - before <= 60
    assert after["relay_attempts_total", (("outcome", "other"),)] == 240


def test_accounts_are_pseudonyms_of_a_bounded_number() -> None:
    one = Metrics()
    for number in range(metrics.MAX_ACCOUNT_REFS + 50):
        one.breaker(f"acc_secret_{number}", "open")
    body = one.render()[0]
    assert b"acc_secret" not in body
    assert body.count(b"relay_breaker_state{") == metrics.MAX_ACCOUNT_REFS + 1
    assert account_ref("a") != account_ref("b")


def test_the_label_sets_know_every_word_that_the_gateway_uses() -> None:
    assert set(OutcomeKind) | set(FaultKind) <= set(metrics.ATTEMPT_OUTCOMES)
    assert set(RetryVerb) == set(metrics.RETRY_VERBS)
    assert set(RefreshEvent) == set(metrics.REFRESH_RESULTS)
    assert set(FaultKind) - set(metrics.END_REASONS) <= BEFORE_A_STREAM


def test_counts_from_several_threads_and_folds_between_them_are_all_there() -> None:
    one = Metrics()
    going = threading.Event()

    def fold() -> None:
        while not going.is_set():
            one.fold()

    folders = [threading.Thread(target=fold) for _ in range(2)]
    for folder in folders:
        folder.start()
    words = (*metrics.ATTEMPT_OUTCOMES, "hostile")
    for number in range(20_000):
        one.attempts.inc(words[number % len(words)])
        one.request("responses", 200 + number % 7, "ok", 0.1)
    going.set()
    for folder in folders:
        folder.join()
    found = samples(one.render()[0])
    assert sum(value for (name, _), value in found.items() if name == "relay_attempts_total") == 20_000
    assert sum(value for (name, _), value in found.items() if name == "relay_requests_total") == 20_000


_WORKER = """
import os, sys
from ops.metrics import Metrics
one = Metrics(version="1")
one.attempts.inc("ok", 3)
one.request("responses", 200, "ok", 0.2)
one.inflight.inc(2)
one.loop_lag.set(float(sys.argv[1]))
one.pool({"ready": 5})
one.fold()
print(os.getpid(), flush=True)
sys.stdin.read()
"""
_READER = """
import sys
from ops.metrics import Metrics
sys.stdout.buffer.write(Metrics(version="1").render()[0])
"""


def _read(environment: dict[str, str]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    done = subprocess.run([sys.executable, "-c", _READER], env=environment, capture_output=True, check=True, timeout=30)
    return samples(done.stdout)


@pytest.mark.slow
def test_several_workers_answer_with_their_sum_and_a_dead_one_takes_its_gauges_with_it(tmp_path: Path) -> None:
    environment = {**os.environ, metrics.MULTIPROC_ENV: str(tmp_path)}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, lag],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for lag in ("0.5", "0.25")
    ]
    try:
        pids = [int((worker.stdout and worker.stdout.readline()) or 0) for worker in workers]
        found = _read(environment)
        assert found["relay_attempts_total", (("outcome", "ok"),)] == 6
        assert found["relay_request_seconds_count", (("route", "responses"),)] == 2
        assert found["relay_inflight", ()] == 4
        assert found["relay_loop_lag_seconds", ()] == 0.5
        assert found["relay_pool_accounts", (("state", "ready"),)] == 5
        assert found["relay_build_info", (("version", "1"),)] == 1

        workers[0].communicate(timeout=30)
        metrics.mark_dead(pids[0], tmp_path)
        found = _read(environment)
        assert found["relay_inflight", ()] == 2
        assert found["relay_loop_lag_seconds", ()] == 0.25
        assert found["relay_attempts_total", (("outcome", "ok"),)] == 6
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
