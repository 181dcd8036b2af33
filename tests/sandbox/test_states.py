"""Where a task may go, and where its attempts put it; a person's word is never overwritten by a machine's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.states import ENDED, MOVES, WORKED_ON, Progress, WrongState, check_move, state_of
from sandbox.types import Ended, Phase
from store.task_records import AttemptState, TaskState

QUEUED = Progress(AttemptState.QUEUED, None, None)
SETTING_UP = Progress(AttemptState.LEASED, Phase.SETUP, None)
RUNNING = Progress(AttemptState.LEASED, Phase.AGENT, None)


def over(ended: Ended) -> Progress:
    return Progress(AttemptState.ENDED, Phase.AGENT, ended)


def test_the_most_advanced_attempt_says_where_the_task_is() -> None:
    assert state_of(TaskState.CREATED, [QUEUED, QUEUED]) == (TaskState.QUEUED, None)
    assert state_of(TaskState.QUEUED, [QUEUED, SETTING_UP]) == (TaskState.SETTING_UP, None)
    assert state_of(TaskState.SETTING_UP, [RUNNING, SETTING_UP]) == (TaskState.RUNNING, None)
    assert state_of(TaskState.RUNNING, [RUNNING, over(Ended.DONE)]) == (TaskState.RUNNING, None)


def test_one_good_attempt_makes_it_ready() -> None:
    assert state_of(TaskState.RUNNING, [over(Ended.FAILED), over(Ended.DONE)]) == (TaskState.READY, None)


@pytest.mark.parametrize("ended", [one for one in Ended if one not in (Ended.DONE, Ended.CANCELLED)])
def test_every_bad_end_is_told_apart(ended: Ended) -> None:
    assert state_of(TaskState.RUNNING, [over(ended), over(Ended.CANCELLED)]) == (TaskState.FAILED, ended)


def test_it_is_cancelled_when_all_were() -> None:
    assert state_of(TaskState.RUNNING, [over(Ended.CANCELLED)] * 2) == (TaskState.CANCELLED, Ended.CANCELLED)


@given(
    st.sampled_from(TaskState),
    st.lists(st.sampled_from([QUEUED, SETTING_UP, RUNNING, *map(over, Ended)]), max_size=4),
)
def test_no_news_of_machines_moves_what_people_have_judged(state: TaskState, attempts: list[Progress]) -> None:
    found, _ = state_of(state, attempts)
    if state not in WORKED_ON:
        assert found is state
    elif found is not state:
        check_move(state, found)


def test_every_state_has_its_moves_and_dead_ends_are_meant() -> None:
    assert MOVES.keys() == set(TaskState)
    assert [state for state in TaskState if not MOVES[state]] == [TaskState.APPLIED]
    assert not WORKED_ON & ENDED
    with pytest.raises(WrongState, match="applied cannot become queued"):
        check_move(TaskState.APPLIED, TaskState.QUEUED)
