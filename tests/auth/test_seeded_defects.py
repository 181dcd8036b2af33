"""The checks of this folder see what they are meant to see: with a safeguard removed, each of them reports it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import Phase

from auth.errors import CredentialError
from auth.oauth import RefreshReason
from auth.refresh import RefreshStore
from store.memory import MemoryStore
from store.records import Claim, RefreshIntent
from tests.auth.rig import POLICY, Rig, add, settle
from tests.auth.test_refresh import QUICK
from tests.auth.test_refresh_machine import RefreshMachine, run_machine
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import ModelIssuer
from tests.fakes.mortal import Killed, Life


class NoClaim(MemoryStore):
    """Everybody gets the claim."""

    async def claim(self, scope: str, holder: str, ttl_s: float) -> Claim | None:
        return await super().claim(f"{scope}-{holder}", holder, ttl_s)


class NoIntent(MemoryStore):
    """Nothing is noted before a token is sent."""

    async def begin_refresh(self, account_id: str, claim: Claim, token_digest: str) -> RefreshIntent:
        return RefreshIntent(account_id, token_digest, claim.fence, 0.0)

    async def abandon_refresh(self, account_id: str, claim: Claim, state: str | None) -> None:
        return None


async def siblings_in_two_processes(store: MemoryStore, clock: FakeClock) -> list[str]:
    """Two processes need to refresh two accounts at the same moment: what the issuer saw that it should not."""
    issuer = ModelIssuer(clock)
    one, other = Rig(clock, store, issuer, QUICK), Rig(clock, store, issuer, QUICK, seed=2)
    owners = [(await add(one, number, life_s=200))[0] for number in (1, 2)]
    issuer.gate = asyncio.Event()
    await one.tokens.get(owners[0])
    await other.tokens.get(owners[1])
    await one.advance(2)
    issuer.gate.set()
    await one.advance(5)
    return issuer.violations


async def killed_again_and_again(store: MemoryStore, clock: FakeClock) -> list[str]:
    """A process that dies with every answer, and is started again: what the issuer saw that it should not."""
    issuer = ModelIssuer(clock)
    issuer.script.extend(["drop"] * 5)
    owner = None
    for _ in range(4):
        probe = Rig(clock, store, issuer, QUICK, life=Life())
        if owner is None:
            owner, _ = await add(probe, life_s=-1)
        exchanges = issuer.shown.total()
        for _ in range(12):
            with contextlib.suppress(CredentialError, Killed):
                await probe.tokens.get(owner)
            if issuer.shown.total() > exchanges:
                break
            await probe.advance(20, 5)
        await probe.kill()
        await probe.advance(200, 20)
    return issuer.violations


async def client_that_leaves(spawn_for_caller: bool) -> list[str]:
    """A client leaves during the exchange: what the account has lost by it."""
    clock = FakeClock()
    tied: list[asyncio.Task[None]] = []

    def tie(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        tied.append(task)
        return task

    issuer = ModelIssuer(clock)
    rig = Rig(clock, MemoryStore(clock), issuer, QUICK, spawn=tie if spawn_for_caller else None)
    owner, _ = await add(rig, life_s=-1)
    issuer.gate = asyncio.Event()
    client = asyncio.get_running_loop().create_task(rig.tokens.get(owner))
    await settle()
    client.cancel()
    for task in tied:
        task.cancel()
    await asyncio.gather(client, *tied, return_exceptions=True)
    issuer.gate.set()
    await settle()
    found = []
    try:
        await rig.tokens.get(owner)
    except CredentialError as error:
        found.append(f"the account does not serve: {error}")
    if await rig.store.intent(owner.id) is not None:
        found.append("the outcome of an exchange is unknown")
    return found


async def test_siblings_are_refreshed_one_after_another() -> None:
    clock = FakeClock()
    assert await siblings_in_two_processes(MemoryStore(clock), clock) == []


async def test_without_the_claim_two_exchanges_run_at_once_and_the_checker_says_so() -> None:
    clock = FakeClock()
    assert await siblings_in_two_processes(NoClaim(clock), clock) != []


async def test_a_process_that_always_dies_shows_a_token_twice_at_most() -> None:
    clock = FakeClock()
    assert await killed_again_and_again(MemoryStore(clock), clock) == []


async def test_without_the_intent_a_token_is_replayed_again_and_again_and_the_checker_says_so() -> None:
    clock = FakeClock()
    assert await killed_again_and_again(NoIntent(clock), clock) != []


@pytest.mark.fault("B37")
async def test_a_client_that_leaves_costs_nothing() -> None:
    assert await client_that_leaves(False) == []


async def test_without_the_shield_a_client_that_leaves_costs_the_tokens_and_the_checker_says_so() -> None:
    assert await client_that_leaves(True) != []


async def test_the_checker_counts_replays_and_parallel_exchanges() -> None:
    clock = FakeClock()
    issuer = ModelIssuer(clock)
    rig = Rig(clock, MemoryStore(clock), issuer)
    _, tokens = await add(rig)
    assert tokens.refresh_token is not None
    assert POLICY.claim_ttl_s > POLICY.exchange_s
    await issuer.refresh(tokens.refresh_token, RefreshReason.FORCED)
    assert issuer.violations == []
    await issuer.refresh(tokens.refresh_token, RefreshReason.FORCED)
    assert len(issuer.violations) == 1


class MachineWithoutIntent(RefreshMachine):
    async def open_store(self) -> RefreshStore:
        return NoIntent(self.clock)


class MachineWithoutClaim(RefreshMachine):
    async def open_store(self) -> RefreshStore:
        return NoClaim(self.clock)


@pytest.mark.parametrize("machine", [MachineWithoutIntent, MachineWithoutClaim])
def test_the_machine_finds_the_missing_safeguard_by_itself(machine: type[RefreshMachine]) -> None:
    with pytest.raises((AssertionError, BaseExceptionGroup)) as found:
        run_machine(machine, 1000, 25, phases=(Phase.generate,), always=True)
    told = " ".join(str(error) for error in flat(found.value) if isinstance(error, AssertionError))
    assert any(words in told for words in ("answer had arrived", "more than once", "under way")), told


def flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [inner for one in error.exceptions for inner in flat(one)]
    return [error]
