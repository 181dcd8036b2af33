"""One wish to stop drains, a second one is quick, and echoes of one are not two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from ops.stop import COALESCE_S, DRAIN, QUICK, Stop
from tests.fakes.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def pipe() -> AsyncIterator[tuple[Stop, int]]:
    """A Stop that obeys a pipe, and the end to write to."""
    read_fd, write_fd = os.pipe()
    stop = Stop(FakeClock())
    stop.on_pipe(read_fd)
    try:
        yield stop, write_fd
    finally:
        asyncio.get_running_loop().remove_reader(read_fd)
        os.close(read_fd)


def test_echoes_of_one_signal_count_once(clock: FakeClock) -> None:
    stop = Stop(clock)
    for _ in range(5):
        stop.request()
        clock.advance(COALESCE_S / 6)
    assert (stop.drain.is_set(), stop.quick.is_set()) == (True, False)


def test_a_second_wish_is_quick(clock: FakeClock) -> None:
    stop = Stop(clock)
    stop.request()
    clock.advance(COALESCE_S)
    stop.request()
    assert stop.quick.is_set()


@pytest.mark.parametrize(("words", "quick"), [(DRAIN, False), (QUICK, True), (DRAIN + QUICK, True), (b"", True)])
async def test_a_worker_obeys_its_supervisor_and_its_death(pipe: tuple[Stop, int], words: bytes, quick: bool) -> None:
    """The end of the pipe is the supervisor's end: nobody is left to wait for."""
    stop, write_fd = pipe
    if words:
        os.write(write_fd, words)
        await asyncio.wait_for(stop.drain.wait(), 2)
        assert stop.quick.is_set() is quick
    os.close(write_fd)
    await asyncio.wait_for(stop.quick.wait(), 2)
    assert stop.drain.is_set()
