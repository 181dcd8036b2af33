"""Any order of requests, refusals, faults, kills, pauses, clock skew and imports, over three processes of one store.

Invariant after every step: the issuer has seen no token against the rules, and no account record is gone. At the end,
with all faults over, every account serves, or something really happened to it that only a login can mend.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from auth.errors import CredentialError
from auth.refresh import RefreshStore
from store.errors import StoreError
from store.memory import MemoryStore
from store.records import AccountStatus
from store.sqlite import SqliteStore
from store.vault import KeyRing, Vault
from tests.auth.rig import POLICY, Rig, add, settle
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import account, credential
from tests.fakes.mortal import Life

PROCESSES = 3
ACCOUNTS = 2
TOKEN_LIFE_S = 1500.0
NOBODY_WAITS = replace(POLICY, wait_s=0.0, spacing_s=2.0)
EXAMPLES = int(os.environ.get("REFRESH_EXAMPLES", "60"))
"""Runs of the machine; a night run sets more."""
HARMLESS = {"500", "429", "cloudflare", "unsent"}


class SkewedClock:
    """Another process's view of one clock: its wall clock is off, its monotonic clock is not."""

    def __init__(self, base: FakeClock, off_s: float) -> None:
        self._base = base
        self._off_s = off_s

    def now_s(self) -> float:
        return self._base.now_s() + self._off_s

    def monotonic_s(self) -> float:
        return self._base.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        await self._base.sleep(seconds)


class RefreshMachine(RuleBasedStateMachine):
    """The memory store. Every process has a life of its own, and a clock that is up to 20 s off."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.issuer = ModelIssuer(self.clock, life_s=TOKEN_LIFE_S)
        self.rigs: list[Rig] = []
        self.harmed: set[str] = set()
        self.imports = 0

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def open_store(self) -> RefreshStore:
        return MemoryStore(self.clock)

    async def close_store(self) -> None:
        return None

    async def let_run(self) -> None:
        await settle(60)

    @initialize(skews=st.tuples(*[st.floats(-20, 20) for _ in range(PROCESSES)]))
    def start(self, skews: tuple[float, ...]) -> None:
        async def work() -> None:
            self.store = await self.open_store()
            for number, skew_s in enumerate(skews):
                clock: Any = SkewedClock(self.clock, skew_s)
                self.rigs.append(Rig(clock, self.store, self.issuer, NOBODY_WAITS, seed=number, life=Life()))
            for number in range(1, ACCOUNTS + 1):
                await add(self.rigs[0], number, life_s=400)

        self.run(work())

    @rule(process=st.integers(0, PROCESSES - 1), number=st.integers(1, ACCOUNTS), refused=st.booleans())
    def request(self, process: int, number: int, refused: bool) -> None:
        async def work() -> None:
            rig = self.rigs[process]
            if refused:
                rig.start(self.refuse(rig, number))
            else:
                rig.start(self.ask(rig, number))
            await self.let_run()

        self.run(work())

    async def ask(self, rig: Rig, number: int) -> None:
        with contextlib.suppress(CredentialError):
            await rig.tokens.get(account(number))

    async def refuse(self, rig: Rig, number: int) -> None:
        with contextlib.suppress(CredentialError):
            held = await rig.tokens.get(account(number))
            await rig.tokens.renew(account(number), held)

    @rule(seconds=st.sampled_from([0.3, 3.0, 40.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.pass_time(seconds))

    async def pass_time(self, seconds: float) -> None:
        for _ in range(10):
            self.clock.advance(seconds / 10)
            await self.let_run()

    @rule(word=st.sampled_from(["500", "429", "unsent", "lost", "drop", "refuse:invalid_grant", "no_refresh"]))
    def fault(self, word: str) -> None:
        if len(self.issuer.script) < 3:
            self.issuer.script.append(word)
        if word not in HARMLESS:
            self.harmed.update(f"acc_{number}" for number in range(1, ACCOUNTS + 1))

    @rule(process=st.integers(0, PROCESSES - 1), steps=st.integers(1, 14), number=st.integers(1, ACCOUNTS))
    def dies_soon(self, process: int, steps: int, number: int) -> None:
        """The process is killed some steps into what it does next, and another takes its place."""

        async def work() -> None:
            rig = self.rigs[process]
            assert rig.life is not None
            before = self.issuer.shown.copy()
            rig.life.die_at = rig.life.steps + steps
            rig.start(self.refuse(rig, number))
            await self.pass_time(3.0)
            await rig.kill()
            if self.issuer.shown != before:
                self.issuer.receiver_died()
                self.harmed.update(f"acc_{n}" for n in range(1, ACCOUNTS + 1))
            rig.life = Life()
            rig.restart()

        self.run(work())

    @rule(process=st.integers(0, PROCESSES - 1), number=st.integers(1, ACCOUNTS), seconds=st.floats(1, 60))
    def stands_still(self, process: int, number: int, seconds: float) -> None:
        """Stopped in mid-work, for longer than a claim lives at times; the others go on."""

        async def work() -> None:
            rig = self.rigs[process]
            assert rig.life is not None
            rig.start(self.refuse(rig, number))
            await asyncio.sleep(0)
            rig.life.freeze()
            other = self.rigs[(process + 1) % PROCESSES]
            other.start(self.ask(other, number))
            await self.pass_time(seconds)
            rig.life.thaw()
            await self.let_run()

        self.run(work())

    @rule(number=st.integers(1, ACCOUNTS))
    def new_login(self, number: int) -> None:
        async def work() -> None:
            self.imports += 1
            owner = account(number)
            fresh = credential(owner, self.clock.now_s(), life_s=TOKEN_LIFE_S, age_s=0, refresh=f"rt_i{self.imports}")
            stored = await self.store.credential(owner.id)
            assert stored is not None
            self.issuer.knows(owner, fresh)
            await self.store.put_credential(fresh, stored.version)
            record = await self.store.account(owner.id)
            assert record is not None
            await self.store.put_account(
                replace(record, status=AccountStatus.ACTIVE, status_reason=None), record.version
            )

        with contextlib.suppress(StoreError):
            self.run(work())

    @rule()
    def directory_changed(self) -> None:
        async def work() -> None:
            for rig in self.rigs:
                rig.start(self.reload(rig))
            await self.let_run()

        self.run(work())

    async def reload(self, rig: Rig) -> None:
        await rig.tokens.reload([f"acc_{number}" for number in range(1, ACCOUNTS + 1)])

    @invariant()
    def no_token_is_shown_against_the_rules(self) -> None:
        assert self.issuer.violations == []

    def teardown(self) -> None:
        try:
            if self.rigs:
                self.run(self.in_the_end())
        finally:
            self.run(self.clear())
            self.run(self.close_store())
            self.loop.close()

    async def clear(self) -> None:
        for rig in self.rigs:
            await rig.kill()

    async def in_the_end(self) -> None:
        for _ in range(40):
            await self.pass_time(20)
            if not any(rig.tasks for rig in self.rigs):
                break
        assert not any(rig.tasks for rig in self.rigs), "a refresh never ends"
        for rig in self.rigs:
            rig.restart()
        self.issuer.script.clear()
        for number in range(1, ACCOUNTS + 1):
            serves = False
            for _ in range(40):
                rig = self.rigs[number % PROCESSES]
                try:
                    await rig.tokens.get(account(number))
                    serves = True
                    break
                except CredentialError:
                    await self.pass_time(30)
            record = await self.store.account(f"acc_{number}")
            assert record is not None
            assert serves or record.id in self.harmed, f"{record.id} is lost though nothing happened to it"
            assert serves or record.status is AccountStatus.NEEDS_REAUTH
        assert self.issuer.violations == []
        for rig in self.rigs:
            await rig.kill()


class SqliteRefreshMachine(RefreshMachine):
    """The same over the file store; its own threads need a little real time."""

    async def open_store(self) -> RefreshStore:
        self.folder = tempfile.TemporaryDirectory()
        vault = Vault(KeyRing([bytes(range(32))]))
        self.file = await SqliteStore.open(
            Path(self.folder.name) / "relay.db", vault, busy_timeout_s=2.0, clock=self.clock, verify=False
        )
        return self.file

    async def close_store(self) -> None:
        if self.rigs:
            await self.file.close()
            self.folder.cleanup()

    async def let_run(self) -> None:
        for _ in range(6):
            await settle(5)
            await self.file.credential("acc_1")


def run_machine(
    machine: type[RefreshMachine],
    examples: int,
    steps: int,
    phases: tuple[Phase, ...] = tuple(Phase),
    always: bool = False,
) -> None:
    """``always``: the same runs each time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            database=None,
            phases=phases,
            derandomize=always,
        ),
    )


@pytest.mark.fault("B31")
def test_no_order_of_events_shows_a_token_against_the_rules() -> None:
    run_machine(RefreshMachine, EXAMPLES, 25)


@pytest.mark.slow
@pytest.mark.fault("B31")
def test_no_order_of_events_over_the_file_store_does_either() -> None:
    run_machine(SqliteRefreshMachine, max(5, EXAMPLES // 8), 15)
