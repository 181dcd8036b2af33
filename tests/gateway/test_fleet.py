"""What other hosts must agree to: a key that runs elsewhere is a conflict, and whatever happens the claim is ended."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from auth.fleet_limits import FleetLimits
from auth.types import Caller
from gateway.errors import GatewayError
from gateway.fleet import FleetGate
from gateway.idempotency import WINDOW_S, IdempotencyGate
from store.errors import StoreUnavailable
from tests.fakes.clock import FakeClock
from tests.gateway.test_idempotency import caller


class Elsewhere:
    """The keys of the fleet: ``free`` says what they answer, None is silence."""

    def __init__(self) -> None:
        self.free: bool | None = True
        self.ended: list[tuple[str, float]] = []

    async def take(self, name: str, ttl_s: float) -> bool:
        if self.free is None:
            raise StoreUnavailable("away")
        return self.free

    def end(self, name: str, stay_s: float) -> None:
        self.ended.append((name, stay_s))


class Patient:
    """Stands for the limits."""

    def __init__(self) -> None:
        self.asked = 0
        self.hang = False

    async def prepare(self, caller: Caller) -> None:
        self.asked += 1
        if self.hang:
            await asyncio.Event().wait()


class Desk:
    def __init__(self) -> None:
        self.elsewhere = Elsewhere()
        self.limits = Patient()
        self.idempotency = IdempotencyGate(FakeClock(), fleet=self.elsewhere)
        self.gate = FleetGate(cast("FleetLimits", self.limits), self.idempotency, lambda: None)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_without_a_key_only_the_limits_are_asked(desk: Desk) -> None:
    await desk.gate.agree(caller(), None)
    assert desk.limits.asked == 1


async def test_a_key_that_is_free_everywhere_is_told_how_its_run_ended(desk: Desk) -> None:
    claim = desk.idempotency.claim(caller(), b"a")
    await desk.gate.agree(caller(), claim)
    claim.end(answered=True)
    assert desk.elsewhere.ended == [(claim.name, WINDOW_S)]


async def test_a_key_that_runs_elsewhere_is_a_conflict_and_held_here_no_longer(desk: Desk) -> None:
    desk.elsewhere.free = False
    with pytest.raises(GatewayError) as caught:
        await desk.gate.agree(caller(), desk.idempotency.claim(caller(), b"a"))
    assert (caught.value.status, caught.value.code) == (409, "conflict")
    assert len(desk.idempotency) == 0
    assert desk.limits.asked == 0


@pytest.mark.fault("B54")
async def test_a_fleet_that_cannot_be_asked_refuses_nothing(desk: Desk) -> None:
    desk.elsewhere.free = None
    claim = desk.idempotency.claim(caller(), b"a")
    await desk.gate.agree(caller(), claim)
    assert desk.limits.asked == 1
    claim.end(answered=False)


async def test_who_leaves_meanwhile_frees_the_key(desk: Desk) -> None:
    desk.limits.hang = True
    task = asyncio.create_task(desk.gate.agree(caller(), desk.idempotency.claim(caller(), b"a")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert len(desk.idempotency) == 0
    assert desk.elsewhere.ended[0][1] == 0
