"""Turns within a process, the name it claims under, and what counts as newer tokens."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

from auth.errors import CredentialError, RefreshUnavailable
from auth.flight import Claimant, Flight, Turns, digest_of, is_newer
from auth.oauth import RefreshReason
from store.records import Credential, RefreshState, Secret
from tests.auth.rig import settle
from tests.fakes.logins import account, credential


def test_a_name_made_before_a_fork_is_not_the_childs() -> None:
    claimant = Claimant()
    mine = claimant()
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, claimant().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        assert pipe.read().decode() not in {"", mine}


def test_newer_means_other_tokens_of_a_higher_version() -> None:
    held = credential(account(), 0.0)
    other = replace(held, access_token=Secret("other"), version=2)
    assert is_newer(other, held)
    assert not is_newer(replace(held, version=2, refresh_state=RefreshState.SPENT), held)
    assert not is_newer(replace(other, version=1), held)
    assert len(digest_of(Secret("x"))) == 64


async def test_a_flight_ends_once_and_may_still_take_newer_tokens_into_use() -> None:
    taken: list[tuple[int, bool]] = []
    held = credential(account(), 0.0)
    done: asyncio.Future[Credential | CredentialError] = asyncio.get_running_loop().create_future()
    flight = Flight("a", held, RefreshReason.FORCED, False, lambda c, saved: taken.append((c.version, saved)), done)
    flight.show(replace(held, version=2), False)
    flight.show(replace(held, version=2), True)
    flight.fail(RefreshUnavailable("late"))
    assert taken == [(2, False), (2, True)]
    assert done.result() == replace(held, version=2)


async def test_a_claimant_keeps_its_name_and_two_have_different_ones() -> None:
    one, other = Claimant(), Claimant()
    assert one() == one()
    assert one() != other()


async def test_a_cancelled_turn_passes_to_the_next() -> None:
    turns = Turns()
    loop = asyncio.get_running_loop()

    def flight() -> Flight:
        held: Credential = credential(account(), 0.0)
        return Flight("a", held, RefreshReason.FORCED, False, lambda c, s: None, loop.create_future())

    await turns.enter(flight())
    second = loop.create_task(turns.enter(flight()))
    third = loop.create_task(turns.enter(flight()))
    await settle(3)
    turns.leave()
    second.cancel()
    await settle(3)
    assert second.cancelled() or second.done()
    if not second.cancelled():
        turns.leave()
    await asyncio.wait_for(third, 1)
