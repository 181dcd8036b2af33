"""Rules of the whole suite: on the build machine a skipped test is a failed one, and slow tests run in one row."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

CI_ENV = "CI"

IMPOSSIBLE: dict[str, str] = {}
"""Node id of a test -> why the build machine cannot run it. These alone may be skipped there."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start servers share one worker under ``--dist loadgroup``, so that they do not starve each other."""
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.xdist_group("slow"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if _refused(report, item.nodeid) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped although {CI_ENV} is set: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if _refused(report, collector.nodeid):
        report.outcome = "failed"
        report.longrepr = f"skipped although {CI_ENV} is set: {_reason(report)}"
    return report


def _refused(report: pytest.TestReport | pytest.CollectReport, node_id: str) -> bool:
    return report.outcome == "skipped" and bool(os.environ.get(CI_ENV)) and node_id not in IMPOSSIBLE


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
