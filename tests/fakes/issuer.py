"""An issuer of single-use refresh tokens in this process, and the checker of what it was shown.

It stands where auth.oauth.OAuthClient stands. ``script`` says what happens to the next exchanges; without a word, the
exchange succeeds. ``shown`` counts how often each token was shown. ``violations`` lists every showing that the rules
forbid: of a token whose answer (new tokens, or a refusal) has arrived; a second one after an answer was lost; two at
the same time.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from auth.oauth import RefreshReason, TokenAnswer, Verdict
from ops.clock import Clock
from store.records import Account, Credential, Secret
from tests.fakes.logins import TEN_DAYS_S, access_jwt

TRANSIENT = {"500": 500, "429": 429, "cloudflare": 403, "redirect": 302}


@dataclass
class ModelIssuer:
    clock: Clock
    life_s: float = TEN_DAYS_S
    script: deque[str] = field(default_factory=deque)
    shown: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    reasons: list[RefreshReason] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    gate: asyncio.Event | None = None
    rotated: int = 0
    running: int = 0
    most_running: int = 0
    before_answer: Callable[[str], None] = lambda word: None
    _settled: set[str] = field(default_factory=set)
    _last: str = ""
    _lost: Counter[str] = field(default_factory=Counter)
    _owner: dict[str, str] = field(default_factory=dict)
    _live: dict[str, str] = field(default_factory=dict)

    def knows(self, account: Account, credential: Credential) -> None:
        """The credential's refresh token is the account's live one."""
        assert credential.refresh_token is not None
        self._owner[credential.refresh_token.reveal()] = account.chatgpt_account_id
        self._live[account.chatgpt_account_id] = credential.refresh_token.reveal()

    async def refresh(self, refresh_token: Secret, reason: RefreshReason) -> TokenAnswer:
        word = self.script.popleft() if self.script else "ok"
        if word == "unsent":
            return TokenAnswer(Verdict.UNSENT, "issuer_unreachable")
        token = refresh_token.reveal()
        self.shown[token] += 1
        if token in self._settled:
            self.violations.append(f"{token} shown after its answer had arrived")
        if self._lost[token] > 1:
            self.violations.append(f"{token} replayed more than once")
        if self.running:
            self.violations.append(f"{token} shown while another exchange was under way")
        self._lost[token] += 1  # until its answer has arrived
        self.reasons.append(reason)
        self.times_s.append(self.clock.monotonic_s())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.gate is not None:
                await self.gate.wait()
            else:
                await asyncio.sleep(0)
            answer = self._answer(token, word)
            self.before_answer(word)
        finally:
            self.running -= 1
        if answer.verdict is not Verdict.UNKNOWN:
            self._lost[token] -= 1
        if answer.verdict is Verdict.PERMANENT or answer.refresh_token is not None:
            self._settled.add(token)
            self._last = token
        return answer

    def receiver_died(self) -> None:
        """The process that got the last answer is gone and may not have stored it: as if it had been lost."""
        if self._last in self._settled:
            self._settled.discard(self._last)
            self._lost[self._last] += 1

    def _answer(self, token: str, word: str) -> TokenAnswer:
        if word in TRANSIENT:
            return TokenAnswer(Verdict.TRANSIENT, f"http_{TRANSIENT[word]}", TRANSIENT[word])
        if word == "drop":  # lost before the issuer acted
            return TokenAnswer(Verdict.UNKNOWN, "answer_lost")
        owner = self._owner.get(token)
        if word.startswith("refuse:") or owner is None:
            return TokenAnswer(Verdict.PERMANENT, word.partition(":")[2] or "invalid_grant", 401)
        if self._live.get(owner) != token:
            return TokenAnswer(Verdict.PERMANENT, "refresh_token_reused", 401)
        self.rotated += 1
        fresh = f"rt_{owner}_{self.rotated}"
        self._owner[fresh] = owner
        self._live[owner] = fresh
        if word == "lost":
            return TokenAnswer(Verdict.UNKNOWN, "answer_lost")
        named = "a-stranger" if word == "stranger" else owner
        more = {"scp": ["openid"]} if word == "less_scope" else {}
        access = access_jwt(named, self.clock.now_s(), self.life_s, str(self.rotated), **more)
        if word == "no_refresh":
            self._live[owner] = token
        return TokenAnswer(
            Verdict.ROTATED,
            status=200,
            access_token=Secret(access),
            refresh_token=None if word == "no_refresh" else Secret(fresh),
        )
