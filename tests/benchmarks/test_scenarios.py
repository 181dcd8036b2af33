"""The judgement of the benchmarks, over rows that were made up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks import accounting, profile, report, scenarios, soak
from benchmarks.load import Generator, Load, Row
from benchmarks.scenarios import Bench
from benchmarks.services import Service

NGINX = Service("nginx", 1, 1)
GATEWAY = Service("gateway", 2, 2)
TIMES = {"p50": 1.0, "p99": 10.0}


def row(service: str = "x", cpu_s: float = 1.0, speed_ms: float = 10.0, strangers: float = 0.0, **told: Any) -> Row:
    counts = {"requests": 1000, "events": 3000, "errors": 0, "non200": 0, "incomplete": 0, "hard_stop": 0, "aborted": 0}
    return Row(service, cpu_s, 50.0, speed_ms, strangers, counts | {"started": 1000, "lag": TIMES} | told)


class Scripted:
    """Plays rows instead of running anything; warm-up runs get a row of their own."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: Iterator[Row] = iter(rows)
        self.asked: list[str] = []

    def run(self, service: Service, load: Load) -> Row:
        if load.seconds == 0.5:
            return row()
        self.asked.append(service.name)
        return replace(next(self._rows), service=service.name)


def bench(rows: Iterable[Row], pairs: int = 3) -> tuple[Bench, Scripted]:
    generator = Scripted(rows)
    made = Bench(cast("Generator", generator), NGINX, GATEWAY, NGINX, quick=False, pairs=pairs, say=lambda _text: None)
    return made, generator


def test_runs_alternate_and_the_median_ratio_of_pairs_is_judged() -> None:
    made, generator = bench([row(cpu_s=s) for s in (1, 2, 1, 9, 2, 6)])
    result = scenarios.ratio(made, scenarios.SMALL)
    assert generator.asked == ["nginx", "gateway"] * 3
    assert result.figures["ratio"][1].median == 3.0
    assert [verdict.holds for verdict in result.verdicts] == [True, True]


def test_a_ratio_above_the_promise_misses_it() -> None:
    made, _ = bench([row(cpu_s=1), row(cpu_s=6.1)] * 3)
    assert not scenarios.ratio(made, scenarios.SMALL).verdicts[0].holds


@pytest.mark.parametrize("fault", ["errors", "non200", "incomplete", "hard_stop"])
def test_one_failed_request_misses_the_promise_that_none_fails(fault: str) -> None:
    broken = row()
    broken.told[fault] = 1
    made, _ = bench([row(), broken, *[row()] * 4])
    assert not scenarios.ratio(made, scenarios.SMALL).verdicts[1].holds


@pytest.mark.parametrize("disturbed", [row(speed_ms=20, cpu_s=100), row(strangers=0.5, cpu_s=100)])
def test_a_disturbed_pair_is_run_again_and_said(disturbed: Row) -> None:
    made, generator = bench([row(), disturbed, *[row(), row()] * 3])
    result = scenarios.ratio(made, scenarios.SMALL)
    assert len(generator.asked) == 8
    assert result.figures["ratio"][1].most == 1.0
    assert "1 pairs were disturbed" in result.notes[0]


def test_when_no_pair_is_steady_the_unsteady_ones_are_kept_and_said() -> None:
    made, generator = bench([row(speed_ms=10), row(speed_ms=20)] * 6)
    result = scenarios.ratio(made, scenarios.SMALL)
    assert len(generator.asked) == 2 * (3 + scenarios.EXTRA_PAIRS)
    assert "3 of them kept" in result.notes[0]


def test_many_streams_are_judged_by_failures_lag_and_memory() -> None:
    late = row(lag={"p99": 51.0})
    made, _ = bench([row(), late] * 3)
    assert [verdict.holds for verdict in scenarios.many(made, 100).verdicts] == [True, False, True]
    made, _ = bench([row(), replace(row(), peak_mb=121.0)] * 3)
    assert [verdict.holds for verdict in scenarios.many(made, 100).verdicts] == [True, True, False]


def test_growth_is_measured_from_the_last_warm_round() -> None:
    assert soak.growth([50, 100, 100, 109]) == pytest.approx(0.09)
    assert soak.growth([50, 100, 120, 90]) == pytest.approx(0.20)


def test_the_soak_mix_is_as_long_as_asked_and_holds_both_kinds_of_leaving() -> None:
    loads = soak.mix(10_000)
    assert sum(load.requests for load in loads) == 10_000
    assert {load.leave_after for load in loads} == {None, 0, 3}


def test_the_metric_is_summed_over_the_series_of_the_measured_route_only() -> None:
    text = (
        '# TYPE relay_requests_total counter\n'
        'relay_requests_total{outcome="ok",route="responses",status_class="2xx"} 10.0\n'
        'relay_requests_total{outcome="limited",route="responses",status_class="4xx"} 2.0\n'
        'relay_requests_total{outcome="ok",route="readyz",status_class="2xx"} 99.0\n'
    )  # fmt: skip
    assert accounting.metric(text) == 12


def test_the_report_names_machine_promises_and_misses(tmp_path: Path) -> None:
    made, _ = bench([row(cpu_s=1), row(cpu_s=9)] * 3)
    results = [scenarios.ratio(made, scenarios.SMALL)]
    machine, human = report.write(tmp_path, {"cpu": "Z80"}, results, "quick")
    text = human.read_text()
    assert "cpu Z80" in text
    assert "| 5 KB in, 3 events out, 8 at once | at most 6 x nginx | 9.00 x | **missed** |" in text
    assert '"speed_ms": 10.0' in machine.read_text()


def test_the_profile_summary_counts_a_recursive_function_once_and_leaves_waiting_out() -> None:
    text = profile.summarise(
        "a (m.py:1);b (m.py:2);a (m.py:9) 3\na (m.py:1) 1\nx (t.py:1);Event.wait (threading.py:5) 50\n"
    )
    assert "100.0%  a (m.py" in text
    assert " 75.0%  b (m.py" in text
    assert "threading" not in text
