"""Which of several well accounts takes the next request?

Smooth weighted round robin, as nginx does it: every seat gains its weight, the seat that stands highest is taken and
pays the sum of all weights. Rules that hold:

* deterministic: the same seats in the same order give the same picks; ties go to the earlier seat;
* over any run with the same seats, each is taken its share of the time, within one, and never in bursts;
* weight 0 is a reserve: taken only when no seat with a weight is there;
* ``least_used`` narrows the choice to those with about as much room as the best, ``fill_first`` to the first seat
  with a weight; the rotation then goes over what is left;
* an owner is a constraint, an affinity is a wish: a wish that is not among the candidates is passed over, and a
  turn taken by wish or constraint costs nothing in the rotation.

It knows nothing of health: the pool hands in those that may be taken. Pure, but for the standing that each seat
carries from pick to pick. Source: nginx, ngx_http_upstream_round_robin.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar


class Seat(Protocol):
    """What takes turns. ``standing`` belongs to this module."""

    weight: int
    standing: int
    room: float


CLOSE_PERCENT: Final = 5.0
"""Seats whose room differs by less than this are equals: reports are some minutes apart."""

SeatT = TypeVar("SeatT", bound=Seat)


def take_turn(seats: Sequence[SeatT]) -> SeatT:
    """The next seat by smooth weighted round robin; ``seats`` is not empty. O(n), no allocation."""
    best = seats[0]
    highest = -(1 << 62)
    total = 0
    for seat in seats:
        weight = seat.weight
        total += weight
        seat.standing = standing = seat.standing + weight
        if standing > highest and weight:
            highest = standing
            best = seat
    if not total:
        return _among_reserves(seats)
    best.standing -= total
    return best


def _among_reserves(seats: Sequence[SeatT]) -> SeatT:
    """Reserves take turns as equals."""
    for seat in seats:
        seat.standing += 1
    best = max(seats, key=lambda seat: seat.standing)  # max keeps the earlier one of equals
    best.standing -= len(seats)
    return best


def least_used(seats: Sequence[SeatT]) -> SeatT:
    """Whoever has most room left in his windows; equals take turns. Reserves only when nobody else is there."""
    able = [seat for seat in seats if seat.weight] or seats
    best = max(seat.room for seat in able)
    return take_turn([seat for seat in able if seat.room > best - CLOSE_PERCENT])


def fill_first(seats: Sequence[SeatT]) -> SeatT:
    """The first seat until it cannot be had, then the second: later accounts stay fresh. Reserves last."""
    return next((seat for seat in seats if seat.weight), seats[0])


def rank(
    candidates: Sequence[SeatT],
    wish: SeatT | None,
    probes: Sequence[SeatT],
    *,
    retrying: bool,
    pick: Callable[[Sequence[SeatT]], SeatT] = take_turn,
) -> SeatT | None:
    """The seat for one request, or None when nobody is there. ``pick`` chooses among those that are well.

    ``candidates`` are well; ``probes`` are on trial and free for one lease. The wish goes first if it is well. Then
    a first attempt goes to a trial, because an account heals by traffic only and a failure is replaced unseen; an
    attempt that follows a failure goes to a well account if there is one.
    """
    if wish is not None and wish in candidates:
        return wish
    if probes and not (retrying and candidates):
        return take_turn(probes)
    return pick(candidates) if candidates else None
