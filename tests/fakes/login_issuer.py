"""An issuer that people sign in to, in this process; it stands where DeviceClient and OAuthClient stand.

``approve`` and ``deny`` are what a person does. ``polls`` and ``exchanges`` script the next answers. It notes every
poll, every presentation of a code and of a verifier (which is a login's own), and every login that was ended.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from dataclasses import dataclass, field

from auth.device import DeviceCode, Grant, PollAnswer, PollVerdict
from auth.logins import IssuerTrouble
from auth.oauth import TokenAnswer, Verdict
from ops.clock import Clock
from store.records import Secret
from tests.fakes.logins import access_jwt, id_jwt

ISSUER = "https://issuer.example"
INTERVAL_S = 5.0


@dataclass
class Waiting:
    device_auth_id: str
    account: str | None = None
    denied: bool = False
    granted: bool = False


@dataclass
class LoginIssuer:
    clock: Clock
    waiting: dict[str, Waiting] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    presented: Counter[str] = field(default_factory=Counter)
    verifiers: Counter[str] = field(default_factory=Counter)
    polled_at_s: dict[str, list[float]] = field(default_factory=dict)
    issued: dict[str, str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    polls: deque[PollAnswer] = field(default_factory=deque)
    exchanges: deque[TokenAnswer] = field(default_factory=deque)
    begun: int = 0
    down: bool = False
    interval_s: float = INTERVAL_S
    gate: asyncio.Event | None = None
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def begin(self, now_s: float) -> DeviceCode:
        if self.down:
            raise IssuerTrouble("issuer_unreachable", "the issuer cannot be reached")
        self.begun += 1
        number = next(self._ids)
        user_code = f"CODE-{number:05d}"
        self.waiting[user_code] = Waiting(f"dauth_{number}")
        return DeviceCode(
            Secret(f"dauth_{number}"), user_code, f"{ISSUER}/codex/device", self.interval_s, now_s + 900.0
        )

    async def poll(self, device_auth_id: Secret, user_code: str) -> PollAnswer:
        self.polled_at_s.setdefault(user_code, []).append(self.clock.now_s())
        await asyncio.sleep(0)
        if self.down:
            return PollAnswer(PollVerdict.LATER, "issuer_unreachable")
        if self.polls:
            return self.polls.popleft()
        found = self.waiting.get(user_code)
        if found is None or found.device_auth_id != device_auth_id.reveal() or found.granted:
            return PollAnswer(PollVerdict.REFUSED, "invalid_grant")
        if found.denied:
            return PollAnswer(PollVerdict.REFUSED, "access_denied")
        if found.account is None:
            return PollAnswer(PollVerdict.PENDING)
        found.granted = True
        return PollAnswer(
            PollVerdict.GRANTED,
            grant=Grant(Secret(self.code_for(found.account)), Secret(f"verifier-{user_code}"), "redirect"),
        )

    def code_for(self, account: str) -> str:
        """A fresh authorization code of the account, as a browser login ends with."""
        code = f"ac_{next(self._ids)}"
        self.owners[code] = account
        return code

    def approve(self, user_code: str, account: str) -> None:
        self.waiting[user_code].account = account

    def deny(self, user_code: str) -> None:
        self.waiting[user_code].denied = True

    async def exchange_code(self, code: Secret, code_verifier: Secret, redirect_uri: str) -> TokenAnswer:
        self.presented[code.reveal()] += 1
        self.verifiers[code_verifier.reveal()] += 1
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.exchanges:
            return self.exchanges.popleft()
        account = self.owners.get(code.reveal())
        if account is None or self.presented[code.reveal()] > 1:
            return TokenAnswer(Verdict.PERMANENT, "invalid_grant", 400)
        refresh = f"rt_{account}_{next(self._ids)}"
        self.issued[refresh] = account
        return TokenAnswer(
            Verdict.ROTATED,
            status=200,
            access_token=Secret(access_jwt(account, self.clock.now_s(), serial=refresh)),
            refresh_token=Secret(refresh),
            id_token=Secret(id_jwt(account, f"{account}@example.org")),
        )

    async def revoke(self, refresh_token: Secret) -> bool:
        self.revoked.append(refresh_token.reveal())
        return True
