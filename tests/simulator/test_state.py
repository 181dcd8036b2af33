"""The handles of the state: waiting without polling, numbers, forgetting."""

from __future__ import annotations

import asyncio

import pytest

from ops.simulator import Simulator, SimulatorConfig
from ops.simulator.state import Recorded
from tests.fakes.clock import FakeClock


@pytest.fixture
def state() -> Simulator:
    return Simulator(SimulatorConfig(keep_requests=3), FakeClock())


def recorded(path: str) -> Recorded:
    return Recorded("GET", path, "", {}, b"", None, None, 0.0)


async def test_until_wakes_on_a_change(state: Simulator) -> None:
    waiting = asyncio.create_task(state.until(lambda: state.counts["x"] == 2))
    for _ in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        state.count("x")
    await waiting


async def test_until_gives_up(state: Simulator) -> None:
    with pytest.raises(TimeoutError):
        await state.until(lambda: False, timeout_s=0.01)


def test_the_ring_keeps_the_newest_requests(state: Simulator) -> None:
    for n in range(5):
        state.record(recorded(f"/{n}/responses"))
    assert [request.path for request in state.requests_to("/responses")] == [f"/{n}/responses" for n in (2, 3, 4)]


def test_most_streams_is_a_high_water_mark(state: Simulator) -> None:
    account = state.accounts[state.new_account()["tokens"]["account_id"]]
    for change in (state.stream_opened, state.stream_opened, state.stream_closed, state.stream_opened):
        change(account)
    assert (state.streams, state.most_streams, account.streams, account.most_streams) == (2, 2, 2, 2)


def test_a_stream_that_ends_after_a_reset_does_not_count_below_zero(state: Simulator) -> None:
    account = state.accounts[state.new_account()["tokens"]["account_id"]]
    state.stream_opened(account)
    state.reset()
    state.stream_closed(account)
    assert state.streams == 0


def test_a_mistyped_script_is_refused_when_it_is_set(state: Simulator) -> None:
    account_id = state.new_account()["tokens"]["account_id"]
    with pytest.raises(ValueError, match="evnets"):
        state.script(account_id, ["evnets=3"])
    with pytest.raises(ValueError, match="evnets"):
        state.set_mode(None, "evnets=3")
    assert not state.accounts[account_id].script
    assert state.mode is None
