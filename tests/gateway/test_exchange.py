"""Request ids never repeat and the exchange hangs in the scope of its request alone."""

from __future__ import annotations

import re

import pytest

from gateway.exchange import RequestIds, exchange_of, new_exchange


def test_ids_are_unique_across_batches_and_of_one_form() -> None:
    ids = RequestIds()
    taken = [ids() for _ in range(3 * RequestIds.BATCH + 7)]
    assert len(set(taken)) == len(taken)
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", one) for one in taken)


def test_two_processes_draw_from_different_ids() -> None:
    first, second = RequestIds(), RequestIds()
    assert {first() for _ in range(600)}.isdisjoint({second() for _ in range(600)})


def test_an_exchange_begins_as_nobody_has_answered_and_is_found_in_its_scope() -> None:
    scope = {"method": "POST", "path": "/x"}
    made = new_exchange(scope, 5.0, "req_1")
    assert exchange_of(scope) is made
    assert (made.id, made.method, made.path, made.started_s) == ("req_1", "POST", "/x", 5.0)
    assert (made.status, made.attempts, made.caller, made.error_code, made.route) == (0, 0, None, None, "none")


def test_a_scope_without_an_exchange_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        exchange_of({})
