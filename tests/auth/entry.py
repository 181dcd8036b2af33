"""Several gateways' onboarding over one store and one issuer, for the tests of how accounts come in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from auth.check import AccountCheck
from auth.importer import Importer
from auth.logins import KIND, Login, LoginRecord, from_document
from auth.onboarding import Onboarding, OnboardingRules
from store.memory import MemoryStore
from store.records import AuditRecord, Secret
from tests.fakes.clock import FakeClock
from tests.fakes.login_issuer import ISSUER, LoginIssuer
from tests.fakes.mortal import Killed, Life

HOME = "https://chatgpt.com"
ADMIN = "admin:ann"
SESSION = "session-1"


class MortalCalls:
    """Whatever it stands for, as one process reaches it: the process may die before and after every call."""

    def __init__(self, target: Any, life: Life) -> None:
        self._target = target
        self._life = life

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        call = getattr(self._target, name)

        async def mortal(*args: Any, **named: Any) -> Any:
            await self._life.step()
            done = await call(*args, **named)
            await self._life.step()
            return done

        return mortal


@dataclass
class Entry:
    """``gateway`` makes one process's onboarding; all of them share what is here."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: Any = None
    issuer: LoginIssuer = field(init=False)
    records: list[AuditRecord] = field(default_factory=list)
    ended: list[Login] = field(default_factory=list)
    answer: AccountCheck | None = None
    refuse: Exception | None = None
    made: int = 0

    def __post_init__(self) -> None:
        self.store = self.store or MemoryStore(self.clock)
        self.issuer = LoginIssuer(self.clock)

    def gateway(self, life: Life | None = None, clock: Any = None) -> Onboarding:
        self.made += 1
        life = life or Life()
        store: Any = MortalCalls(self.store, life)
        issuer: Any = MortalCalls(self.issuer, life)

        async def check(access_token: Secret, account_id: str) -> AccountCheck | None:
            if self.refuse is not None:
                raise self.refuse
            return self.answer

        async def record(one: AuditRecord) -> None:
            await life.step()
            self.records.append(one)

        clock = clock or self.clock
        return Onboarding(
            store,
            issuer,
            issuer,
            Importer(store, check, clock, home_origin=HOME),
            clock,
            OnboardingRules(ISSUER, "client", f"worker-{self.made}"),
            record=record,
            ended=self.ended.append,
        )

    async def kept(self, login_id: str) -> LoginRecord:
        """As it rests in the store."""
        document = await self.store.document(KIND, login_id)
        assert document is not None
        return from_document(document)

    def actions(self) -> list[str]:
        return [one.action.removeprefix("account.login.") for one in self.records]

    async def said(self) -> str:
        """Everything that anybody may see: views, audit records."""
        views = await self.gateway().all()
        return repr(views) + repr(self.records) + repr(self.ended)


async def begin(gateway: Onboarding, kind: str = "device", **options: Any) -> Login:
    values: dict[str, Any] = {"requested_by": ADMIN, "session_id": SESSION}
    return await gateway.begin(kind, **(values | options))


async def dies(work: Coroutine[Any, Any, Any]) -> bool:
    """Runs it; whether its process was killed by it."""
    try:
        await work
    except Killed:
        return True
    return False
