"""Smooth weighted round robin is fair, smooth and deterministic; wishes and trials come in their order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy import rank, take_turn


@dataclass(eq=False)
class Chair:
    name: str
    weight: int
    standing: int = 0
    room: float = 100.0


def chairs(*weights: int) -> list[Chair]:
    return [Chair(chr(97 + number), weight) for number, weight in enumerate(weights)]


def test_the_known_sequence_of_nginx_comes_out() -> None:
    """Weights 5, 1, 1 give a a b a c a a, as nginx documents, and start over."""
    seats = chairs(5, 1, 1)
    assert "".join(take_turn(seats).name for _ in range(14)) == "aabacaa" * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(1, 300))
def test_each_seat_gets_its_share_within_one(weights: list[int], turns: int) -> None:
    """After any number of turns no seat is more than one turn from its weight's share."""
    seats = chairs(*weights)
    taken = Counter(take_turn(seats).name for _ in range(turns))
    for seat in seats:
        assert abs(taken[seat.name] - turns * seat.weight / sum(weights)) <= 1


def test_a_reserve_is_taken_only_when_nobody_with_a_weight_is_there() -> None:
    """Weight 0 waits, and reserves take turns among themselves."""
    seats = chairs(0, 1, 0)
    assert {take_turn(seats).name for _ in range(9)} == {"b"}
    reserves = [seats[0], seats[2]]
    assert Counter(take_turn(reserves).name for _ in range(10)) == {"a": 5, "c": 5}


def test_a_seat_that_was_away_does_not_catch_up() -> None:
    """One that comes back gets its share from then on and no burst."""
    seats = chairs(1, 1, 1)
    for _ in range(100):
        take_turn(seats[:2])
    assert Counter(take_turn(seats).name for _ in range(9)) == {"a": 3, "b": 3, "c": 3}


def test_the_wish_wins_over_a_trial_and_the_rotation() -> None:
    """A wish that is well is granted."""
    well, trial = chairs(1, 1), chairs(1)
    assert rank(well, well[1], trial, retrying=False) is well[1]


def test_a_wish_that_is_not_well_is_passed_over() -> None:
    """Affinity yields to health."""
    well = chairs(1, 1)
    assert rank(well, Chair("z", 1), [], retrying=False) in well


@pytest.mark.parametrize(("retrying", "expected"), [(False, "trial"), (True, "well")])
def test_trials_are_for_first_attempts(retrying: bool, expected: str) -> None:
    """A first attempt tests the account on trial; after a failure a well one is preferred."""
    found = rank([Chair("well", 1)], None, [Chair("trial", 1)], retrying=retrying)
    assert found is not None
    assert found.name == expected


def test_a_retry_takes_a_trial_when_nobody_is_well_and_none_when_nobody_is_there() -> None:
    """A trial is better than a refusal."""
    trial = Chair("trial", 1)
    assert rank([], None, [trial], retrying=True) is trial
    assert rank([], None, [], retrying=True) is None
