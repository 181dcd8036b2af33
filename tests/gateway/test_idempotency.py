"""The books of idempotency keys: who holds one, for how long, over processes, and within which memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auth.types import Caller
from gateway.errors import GatewayError
from gateway.idempotency import WINDOW_S, IdempotencyGate
from store.counters import CounterFile, SharedCounters
from store.records import Limits
from tests.fakes.clock import FakeClock


def caller(tenant: str = "t", key: str = "k") -> Caller:
    return Caller(tenant, tenant, key, frozenset({"relay"}), (), (), Limits(), Limits())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[CounterFile, CounterFile]]:
    """The shared counters as two workers have them open."""
    pair = CounterFile(tmp_path / "counters"), CounterFile(tmp_path / "counters")
    yield pair
    for file in pair:
        file.close()


def taken(gate: IdempotencyGate, key: bytes = b"a", by: Caller | None = None) -> bool:
    """Whether the key is in use; when it is free, it is taken by the question and given back."""
    try:
        gate.claim(by or caller(), key).end(answered=False)
    except GatewayError as error:
        return error.status == 409
    return False


def test_a_key_is_taken_while_its_run_lasts_and_for_the_window_after_its_answer(clock: FakeClock) -> None:
    gate = IdempotencyGate(clock)
    claim = gate.claim(caller(), b"a")
    clock.advance(10 * WINDOW_S)
    assert taken(gate), "a run may last long"
    claim.end(answered=True)
    clock.advance(WINDOW_S - 1)
    assert taken(gate)
    clock.advance(1)
    assert not taken(gate)


def test_a_run_without_an_answer_frees_the_key_at_once(clock: FakeClock) -> None:
    gate = IdempotencyGate(clock)
    claim = gate.claim(caller(), b"a")
    claim.end(answered=False)
    claim.end(answered=True)
    assert not taken(gate), "the second word counts for nothing"
    assert len(gate) == 0


def test_callers_do_not_meet(clock: FakeClock) -> None:
    """Neither tenants nor keys of one tenant, and no way of joining the parts mixes them up."""
    gate = IdempotencyGate(clock)
    gate.claim(caller("t", "k"), b"a")
    assert not taken(gate, by=caller("t", "l"))
    assert not taken(gate, by=caller("u", "k"))
    assert not taken(gate, b"ka", caller("t", ""))
    assert taken(gate)


def test_memory_is_bounded_and_the_oldest_answers_go_first(clock: FakeClock) -> None:
    gate = IdempotencyGate(clock, capacity=100)
    running = gate.claim(caller(), b"running")
    for number in range(1000):
        gate.claim(caller(), b"%d" % number).end(answered=True)
        assert len(gate) <= 100
    assert taken(gate, b"999")
    assert not taken(gate, b"0")
    assert taken(gate, b"running")
    running.end(answered=False)


@pytest.mark.parametrize("key", [b"", b"a b", b"\xe4", b"x" * 256, b"a\x00"])
def test_a_key_that_is_none_is_a_bad_request(clock: FakeClock, key: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        IdempotencyGate(clock).claim(caller(), key)
    assert caught.value.status == 400


def test_two_workers_know_of_each_other(clock: FakeClock, files: tuple[CounterFile, CounterFile]) -> None:
    """Running there, answered there, failed there."""
    one, two = (IdempotencyGate(clock, SharedCounters(file, clock)) for file in files)
    claim = one.claim(caller(), b"a")
    assert taken(two)
    claim.end(answered=False)
    assert not taken(two)
    two.claim(caller(), b"a").end(answered=True)
    assert taken(one)
    clock.advance(WINDOW_S + 1)
    assert not taken(one)


def test_counters_that_do_not_answer_fail_no_request(clock: FakeClock, files: tuple[CounterFile, CounterFile]) -> None:
    """Each worker then knows its own runs only."""
    gate = IdempotencyGate(clock, SharedCounters(files[0], clock))
    files[1].begin()
    claim = gate.claim(caller(), b"a")
    assert taken(gate)
    claim.end(answered=True)
    assert taken(gate)
    files[1].undo()
