"""The best of several attempts: tests before size, size before cost, and the reasons in words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.judge import judge
from sandbox.types import Ended, RunResult, Usage


def result(*, passed: bool | None = None, lines: int = 10, tokens: int = 100, ended: Ended = Ended.DONE) -> RunResult:
    return RunResult(
        ended, usage=Usage(tokens, 0, 0), files_changed=int(lines > 0), lines_added=lines, tests_passed=passed
    )


def order(*results: RunResult) -> list[int]:
    return [one.number for one in judge(list(enumerate(results, 1)))]


def test_tests_come_first_then_a_change_then_its_size_then_its_cost() -> None:
    assert order(result(passed=False, lines=1), result(lines=5), result(passed=True, lines=500)) == [3, 2, 1]
    assert order(result(lines=0), result(lines=900)) == [2, 1]
    assert order(result(lines=20), result(lines=10)) == [2, 1]
    assert order(result(tokens=200), result(tokens=100)) == [2, 1]
    assert order(result(), result()) == [1, 2]


def test_what_did_not_end_well_is_not_ranked() -> None:
    assert order(result(ended=Ended.FAILED), result(), result(ended=Ended.CANCELLED)) == [2]


def test_the_reasons_can_be_checked() -> None:
    (verdict,) = judge([(1, result(passed=False, lines=7, tokens=12))])
    assert verdict.reasons == ("its tests fail", "1 files changed, 7 lines added, 0 removed", "12 tokens")


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 99), st.integers(0, 99)), max_size=6))
def test_one_whose_tests_fail_never_stands_above_one_whose_tests_pass(
    drawn: list[tuple[bool | None, int, int]],
) -> None:
    results = [result(passed=passed, lines=lines, tokens=tokens) for passed, lines, tokens in drawn]
    passed = [results[number - 1].tests_passed for number in order(*results)]
    assert False not in passed[: len(passed) - passed[::-1].index(True)] if True in passed else True
