"""A gateway's people on a store: everything of the sign-in put together, with passwords that cost next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

from auth.admins import Admin, AdminDirectory
from auth.passwords import PasswordCost, Passwords
from auth.roles import Role
from auth.sessions import Sessions
from auth.signin import SignIn
from auth.throttle import LoginThrottle
from store.base import DocumentStore
from store.records import Secret
from tests.fakes.clock import FakeClock

CHEAP = PasswordCost(passes=1, memory_kib=64, lanes=1)
GOOD = Secret("correct horse battery")
BETTER = Secret("staple battery horses")
HERE = "192.0.2.7"


@dataclass(slots=True)
class People:
    """One process's view."""

    documents: DocumentStore
    clock: FakeClock
    admins: AdminDirectory
    passwords: Passwords
    throttle: LoginThrottle
    sign_in: SignIn
    sessions: Sessions

    async def person(self, name: str, role: Role = Role.OWNER) -> Admin:
        """Made, with the good password."""
        return await self.sign_in.set_password(await self.admins.create(name, role), GOOD)

    async def cookie(self, admin: Admin) -> Secret:
        return (await self.sessions.open(admin, address=HERE, user_agent="test"))[0]


def people(
    documents: DocumentStore,
    clock: FakeClock,
    *,
    require_totp: bool = False,
    cost: PasswordCost = CHEAP,
    failures: int = 5,
    idle_s: float = 1800.0,
    max_s: float = 43_200.0,
) -> People:
    admins = AdminDirectory(documents, clock)
    passwords = Passwords(cost)
    throttle = LoginThrottle(documents, clock, failures=failures, wait_s=60.0)
    sign_in = SignIn(documents, admins, passwords, throttle, clock, require_totp=require_totp, link_ttl_s=3600.0)
    sessions = Sessions(documents, admins, clock, idle_s=idle_s, max_s=max_s)
    return People(documents, clock, admins, passwords, throttle, sign_in, sessions)
