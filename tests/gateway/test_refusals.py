"""An upstream that refuses everybody costs no login; one that refuses one account does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.refusals import WINDOW_S, Refusals
from tests.fakes.routing import account

A, B, C = account(0), account(1), account(2)


def test_an_account_is_condemned_when_another_one_is_served_after_it_was_refused() -> None:
    refusals = Refusals()
    refusals.refused(A, 100.0)
    assert refusals.served(B.id, 100.0) == [A]
    assert refusals.served(B.id, 101.0) == [], "each refusal is judged once"


def test_nobody_is_condemned_while_everybody_is_refused() -> None:
    refusals = Refusals()
    for second in range(1000):
        refusals.refused((A, B, C)[second % 3], float(second))
    assert refusals.served("somebody", 999.0 + WINDOW_S + 1) == []


def test_a_witness_whose_attempt_began_before_the_refusal_says_nothing_about_it() -> None:
    refusals = Refusals()
    refusals.refused(A, 100.0)
    assert refusals.served(B.id, 99.9) == []
    assert refusals.served(B.id, 100.1) == [A], "the refusal still waits for its witness"


def test_a_late_witness_condemns_nobody() -> None:
    refusals = Refusals()
    refusals.refused(A, 100.0)
    assert refusals.served(B.id, 100.1 + WINDOW_S) == []


def test_an_account_that_is_served_itself_is_cleared() -> None:
    refusals = Refusals()
    refusals.refused(A, 100.0)
    assert refusals.served(A.id, 99.0) == []
    assert refusals.served(B.id, 101.0) == []


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([A, B, C])), max_size=40))
def test_nobody_is_condemned_without_a_refusal_before_and_a_witness_of_another_name(
    acts: list[tuple[bool, object]],
) -> None:
    refusals = Refusals()
    open_cases: set[str] = set()
    for second, (good, who) in enumerate(acts):
        one = next(known for known in (A, B, C) if known is who)
        if good:
            condemned = {a.id for a in refusals.served(one.id, float(second))}
            assert condemned == open_cases - {one.id}
            open_cases = set()
        else:
            refusals.refused(one, float(second))
            open_cases.add(one.id)
