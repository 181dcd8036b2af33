"""A lease speaks once."""

from __future__ import annotations

import random

import pytest

from router.health import AccountHealth
from router.lease import Lease
from router.roster import Member
from router.types import CANCELLED, OK, Outcome, PoolRules
from tests.fakes.routing import BROKEN, account


class Ledger:
    def __init__(self) -> None:
        self.settled: list[Outcome] = []
        self.confirmed = 0

    def settle(self, lease: Lease, outcome: Outcome) -> None:
        self.settled.append(outcome)

    def confirm(self, lease: Lease) -> None:
        self.confirmed += 1


def lease_on(ledger: Ledger, slots: tuple[str, ...] = ()) -> Lease:
    member = Member(account(0), AccountHealth(PoolRules(), random.Random(1), "w1"))
    return Lease(member, "m", 1.0, slots, False, ledger)


def test_the_first_release_counts() -> None:
    """Whatever a finally says later."""
    ledger = Ledger()
    with lease_on(ledger) as lease:
        lease.release(OK)
        lease.release(BROKEN)
    assert ledger.settled == [OK]


def test_leaving_without_a_word_blames_nobody() -> None:
    """Also when an error leaves."""
    ledger = Ledger()
    with pytest.raises(ValueError), lease_on(ledger):
        raise ValueError
    assert ledger.settled == [CANCELLED]


def test_a_confirmation_after_the_release_is_lost() -> None:
    """The verdict has been given."""
    ledger = Ledger()
    lease = lease_on(ledger)
    lease.confirm()
    lease.release(OK)
    lease.confirm()
    assert ledger.confirmed == 1


def test_it_shows_the_account_and_no_more() -> None:
    """Its repr may be logged."""
    ledger = Ledger()
    lease = lease_on(ledger, ("breaker",))
    assert lease.probe
    assert repr(lease) == "<Lease a0 open>"
