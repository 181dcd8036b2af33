"""One pool of many: rotations that begin apart and are fair in sum, and telling everything once more."""

from __future__ import annotations

from collections import Counter

import pytest

from router.fleet import skip_turns
from router.policy import take_turn
from tests.fakes.clock import FakeClock
from tests.fakes.routing import pool_of, put, usage_limit


class Seat:
    def __init__(self, name: str, weight: int) -> None:
        self.name = name
        self.weight = weight
        self.standing = 0
        self.room = 100.0


@pytest.mark.parametrize("weights", [(1,) * 8, (5, 1, 1), (3, 2, 2, 0), (0, 0)])
def test_rotations_that_begin_elsewhere_are_as_fair_as_any(weights: tuple[int, ...]) -> None:
    whole = sum(weights) or len(weights)
    for name in map(str, range(20)):
        seats = [Seat(str(n), weight) for n, weight in enumerate(weights)]
        skip_turns(seats, name)
        taken = Counter(take_turn(seats).name for _ in range(3 * whole))
        assert [taken[str(n)] for n in range(len(weights))] == [3 * (w if sum(weights) else 1) for w in weights]


def test_many_processes_begin_at_many_places_and_few_requests_spread() -> None:
    """Eight accounts, forty processes with one request each: without this, all would go to the first."""
    first: Counter[str] = Counter()
    for name in map(str, range(40)):
        seats = [Seat(str(n), 1) for n in range(8)]
        skip_turns(seats, name)
        first[take_turn(seats).name] += 1
    assert len(first) >= 7
    assert max(first.values()) <= 12


def test_nobody_there_is_no_error() -> None:
    skip_turns([], "x")


def test_everything_is_told_once_more_with_the_stamps_it_had() -> None:
    clock = FakeClock()
    one, other = pool_of(2, clock), pool_of(2, clock, worker="w2")
    put(one, "a0", usage_limit(clock, 3600))
    one.placements.place(b"wish", "a1", clock.monotonic_s())
    one.placements.own((b"part",), "a0", clock.monotonic_s())
    told = one.take_changes()
    placed = one.placements.take_changes(one.moment())
    assert told
    assert len(placed) == 2
    assert one.take_changes() == []
    clock.advance(5)
    other.apply(told)
    one.fleet.retell()
    other.fleet.retell()
    assert [record.updated_at_s for record in one.take_changes()] == [record.updated_at_s for record in told]
    assert [record.updated_at_s for record in other.take_changes()] == [record.updated_at_s for record in told]
    assert set(one.placements.take_changes(one.moment())) == set(placed)


def test_a_rest_that_is_over_is_told_as_over() -> None:
    """Else a process that never heard of the end would bring the rest back."""
    clock = FakeClock()
    one = pool_of(1, clock)
    put(one, "a0", usage_limit(clock, 3600))
    one.take_changes()
    one.clear("a0")
    told = one.take_changes()
    one.fleet.retell()
    again = one.take_changes()
    assert [record.state for record in again] == ["clear"]
    assert again[0].updated_at_s == told[0].updated_at_s
