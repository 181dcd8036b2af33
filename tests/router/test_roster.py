"""Ready lists of who could serve: complete, and never stale."""

from __future__ import annotations

import random

import pytest

from router.roster import VIEWS_MAX, Roster
from router.types import Moment, Outcome, OutcomeKind, PoolRules, RouteQuery
from tests.fakes.routing import account

LIMITED = Outcome(OutcomeKind.RATE_LIMITED, retry_after_s=20)


def roster(size: int) -> Roster:
    one = Roster(PoolRules(), random.Random(1), "w1")
    one.set_accounts([account(number) for number in range(size)])
    return one


def names(one: Roster, now_s: float) -> tuple[list[str], list[str]]:
    view = one.view("m", (), now_s)
    return [member.id for member in view.clear], [member.id for member in view.trials]


def test_a_view_follows_time_without_being_told() -> None:
    """Rest, trial and the end of the trial come by the clock alone."""
    one = roster(2)
    one.members["a0"].health.settle(LIMITED, "m", 0.0, (), Moment(10.0, 1e9))
    one.changed()
    assert names(one, 11.0) == (["a1"], [])
    assert names(one, 29.9) == (["a1"], [])
    assert names(one, 30.0) == (["a1"], ["a0"])
    assert names(one, 35.0) == (["a0", "a1"], [])


def test_a_ready_view_is_not_built_again() -> None:
    """The healthy path looks at a list that stands."""
    one = roster(3)
    assert one.view("m", (), 1.0) is one.view("m", (), 1e9)


def test_views_are_bounded() -> None:
    """Model names come from clients."""
    one = roster(1)
    kept = one.view("m", (), 1.0)
    for number in range(VIEWS_MAX + 1):
        one.view(f"m{number}", (), 1.0)
    assert one.view("m", (), 1.0) is not kept


def test_set_accounts_says_who_is_gone_and_who_was_revived() -> None:
    """A change of label revives nobody."""
    one = roster(3)
    one.set_accounts([account(0, enabled=False), account(1)])
    revived, gone = one.set_accounts([account(0), account(1, label="new")])
    assert [member.id for member in revived] == ["a0"]
    assert gone == []
    assert one.set_accounts([])[1] == ["a0", "a1"]


def test_those_that_rest_by_evidence_do_not_count_as_serving() -> None:
    """Half of the serving accounts means half of those that could take requests."""
    one = roster(3)
    one.members["a0"].health.settle(LIMITED, "m", 0.0, (), Moment(10.0, 1e9))
    assert [member.id for member in one.serving(11.0)] == ["a1", "a2"]
    assert len(one.serving(31.0)) == 3


@pytest.mark.parametrize(
    ("query", "allowed"),
    [
        (RouteQuery("m"), True),
        (RouteQuery("other"), False),
        (RouteQuery("m", pools=("default", "x")), True),
        (RouteQuery("m", pools=("x",)), False),
        (RouteQuery("m", excluded=frozenset({"a0"})), False),
    ],
)
def test_whom_a_query_is_for(query: RouteQuery, allowed: bool) -> None:
    """Models, pools and exclusion, health aside."""
    one = roster(1)
    one.members["a0"].models = frozenset({"m"})
    assert one.members["a0"].may_serve(query) is allowed
