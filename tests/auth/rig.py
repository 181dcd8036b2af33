"""A process that refreshes, in a test: a TokenSource over a store and a model issuer, with everything it reports."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from auth.hooks import RefreshHooks
from auth.refresh import RefreshPolicy, RefreshStore
from auth.spool import Spool
from auth.tokens import Spawn, TokenSource
from store.memory import MemoryStore
from store.records import Account, Credential
from tests.fakes.clock import FakeClock
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import account, credential
from tests.fakes.mortal import Killed, Life, MortalExchange, MortalStore

POLICY = RefreshPolicy(scope="issuer|client", wait_s=1.0, spacing_s=0.0)


async def settle(turns: int = 200) -> None:
    """Lets every task run that can run."""
    for _ in range(turns):
        await asyncio.sleep(0)


@dataclass
class Reports:
    events: Counter[str] = field(default_factory=Counter)
    alerts: list[str] = field(default_factory=list)
    changed: list[Account] = field(default_factory=list)

    def hooks(self) -> RefreshHooks:
        return RefreshHooks(
            event=lambda event, account_id: self.events.update([event]),
            alert=lambda kind, account_id, message: self.alerts.append(kind),
            changed=self.changed.append,
        )


@dataclass
class Rig:
    """One process. ``restart`` is what a kill and a new start are to it: the store stays, all else is gone."""

    clock: FakeClock
    store: RefreshStore
    issuer: ModelIssuer
    policy: RefreshPolicy = POLICY
    spool: Spool | None = None
    seed: int = 1
    spawn: Spawn | None = None
    life: Life | None = None
    reports: Reports = field(default_factory=Reports)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    tokens: TokenSource = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        mortal = self.life is not None and not self.life.dead
        self.tokens = TokenSource(
            MortalStore(self.store, self.life) if mortal and self.life else self.store,
            MortalExchange(self.issuer, self.life) if mortal and self.life else self.issuer,
            self.spawn or self.start,
            self.clock,
            random.Random(self.seed),
            self.policy,
            hooks=self.reports.hooks(),
            spool=self.spool,
        )

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            assert error is None or isinstance(error, Killed), error

    async def kill(self) -> None:
        """Ends all tasks where they stand; with a ``life``, without a chance to tidy up in the store."""
        if self.life is not None:
            self.life.dead = True
            self.life.thaw()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def advance(self, seconds: float, step_s: float = 0.5) -> None:
        """Moves the clock in steps, and lets what wakes up run."""
        await settle(50)
        while seconds > 0:
            self.clock.advance(min(step_s, seconds))
            seconds -= step_s
            await settle(50)


def world(policy: RefreshPolicy = POLICY, **changes: Any) -> Rig:
    clock = FakeClock()
    return Rig(clock, MemoryStore(clock), ModelIssuer(clock), replace(policy, **changes))


async def add(rig: Rig, number: int = 1, **life: Any) -> tuple[Account, Credential]:
    """An account in the store whose refresh token the issuer knows."""
    owner = account(number)
    tokens = credential(owner, rig.clock.now_s(), **life)
    await rig.store.add_account(owner, tokens)
    rig.issuer.knows(owner, tokens)
    return owner, tokens
