"""Which of several attempts is the best, and why?

In this order: the repository's own tests pass, were not run, fail; something was changed at all; the smaller change;
the cheaper run; the earlier attempt. An attempt whose tests fail never stands above one whose tests pass, whatever
else is good about it. The reasons are said in words that a reviewer can check. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sandbox.types import Ended, RunResult


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rank`` counts from 1, the best; only attempts that ended well are ranked."""

    number: int
    rank: int
    reasons: tuple[str, ...]


def judge(results: Sequence[tuple[int, RunResult]]) -> tuple[Verdict, ...]:
    """Verdicts on the attempts (number, result) that ended well, best first."""
    good = [(number, result) for number, result in results if result.ended is Ended.DONE]
    ordered = sorted(good, key=lambda one: _key(*one))
    return tuple(Verdict(number, rank, _reasons(result)) for rank, (number, result) in enumerate(ordered, 1))


def _key(number: int, result: RunResult) -> tuple[int, int, int, int, int]:
    tests = {True: 0, None: 1, False: 2}[result.tests_passed]
    changed = result.lines_added + result.lines_removed
    cost = result.usage.input_tokens - result.usage.cached_input_tokens + result.usage.output_tokens
    return tests, int(result.files_changed == 0), changed, cost, number


def _reasons(result: RunResult) -> tuple[str, ...]:
    tests = {True: "its tests pass", None: "no tests were run", False: "its tests fail"}[result.tests_passed]
    change = (
        f"{result.files_changed} files changed, {result.lines_added} lines added, {result.lines_removed} removed"
        if result.files_changed
        else "nothing was changed"
    )
    tokens = result.usage.input_tokens + result.usage.output_tokens
    return tests, change, f"{tokens} tokens"
