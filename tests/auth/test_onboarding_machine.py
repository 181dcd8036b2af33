"""Any order of beginnings, approvals, refusals, pastes, cancels, expiries, kills and lost answers, over two processes.

After every step: no login was exchanged twice, and nothing of an account that was not expected rests anywhere. At the
end, with the processes restarted: every login has ended, an account is there exactly when a login for it is done, and
no login keeps a secret.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from auth.callback import REDIRECT_URI
from auth.device import LIFETIME_S, PollAnswer, PollVerdict
from auth.login_book import CLAIM_S
from auth.logins import KIND, Login, LoginError, LoginState, Stage, from_document
from auth.oauth import TokenAnswer, Verdict
from tests.auth.entry import SESSION, Entry, begin, dies
from tests.auth.rig import settle
from tests.fakes.mortal import Killed, Life

EXAMPLES = int(os.environ.get("ONBOARDING_EXAMPLES", "60"))
PROCESSES = 2
WHICH = st.integers(0, PROCESSES - 1)
PICK = st.integers(0, 50)


class OnboardingMachine(RuleBasedStateMachine):
    """``lives`` are the processes; one that died is made anew by the next rule that needs it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.entry = Entry()
        self.lives = [Life() for _ in range(PROCESSES)]
        self.gateways = [self.entry.gateway(life) for life in self.lives]
        self.logins: list[Login] = []

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(self._end())
        finally:
            self.loop.close()

    def process(self, which: int) -> Any:
        if self.lives[which].dead:
            self.lives[which] = Life()
            self.gateways[which] = self.entry.gateway(self.lives[which])
        return self.gateways[which]

    async def _try(self, work: Any) -> Any:
        """Runs it, and the time that it waits."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await settle(100)
            if not task.done():
                self.entry.clock.advance(0.05)
        try:
            return task.result()
        except (LoginError, Killed):
            return None

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(self._try(work))

    def picked(self, pick: int) -> Login:
        return self.logins[pick % len(self.logins)]

    @rule(
        which=WHICH,
        kind=st.sampled_from(["device", "callback"]),
        who=st.sampled_from(["ann", "bob"]),
        expect=st.sampled_from([None, "c-1", "c-2@example.org"]),
    )
    def begin(self, which: int, kind: str, who: str, expect: str | None) -> None:
        begun = self.run(begin(self.process(which), kind, requested_by=f"admin:{who}", expect=expect))
        if begun is not None:
            self.logins.append(begun)

    @precondition(lambda self: self.logins)
    @rule(pick=PICK, account=st.sampled_from(["c-1", "c-2", "c-3"]))
    def approve(self, pick: int, account: str) -> None:
        login = self.picked(pick)
        if login.user_code is not None:
            self.entry.issuer.approve(login.user_code, account)

    @precondition(lambda self: self.logins)
    @rule(pick=PICK)
    def deny(self, pick: int) -> None:
        login = self.picked(pick)
        if login.user_code is not None:
            self.entry.issuer.deny(login.user_code)

    @precondition(lambda self: self.logins)
    @rule(
        which=WHICH,
        pick=PICK,
        other=PICK,
        account=st.sampled_from(["c-1", "c-2"]),
        session=st.sampled_from([SESSION, SESSION, "another"]),
    )
    def paste(self, which: int, pick: int, other: int, account: str, session: str) -> None:
        """The address of a login, or of another one, by this session or another, once or again."""
        login = self.picked(pick)
        source = self.picked(other).authorize_url or login.authorize_url or "&state=x&"
        state = source.partition("&state=")[2].partition("&")[0]
        url = f"{REDIRECT_URI}?code={self.entry.issuer.code_for(account)}&state={state}"
        self.run(self.process(which).take_callback(login.id, url, session))

    @precondition(lambda self: self.logins)
    @rule(which=WHICH, pick=PICK)
    def cancel(self, which: int, pick: int) -> None:
        self.run(self.process(which).cancel(self.picked(pick).id, "admin:eve"))

    @rule(which=WHICH, seconds=st.sampled_from([0.0, 1.0, 5.0, 30.0]))
    def step(self, which: int, seconds: float) -> None:
        self.entry.clock.advance(seconds)
        self.run(self.process(which).step())

    @rule(seconds=st.sampled_from([5.0, CLAIM_S + 1, LIFETIME_S]))
    def wait(self, seconds: float) -> None:
        self.entry.clock.advance(seconds)

    @rule(which=WHICH, after=st.integers(1, 30), seconds=st.sampled_from([0.0, 5.0]))
    def die(self, which: int, after: int, seconds: float) -> None:
        """Killed somewhere in its next steps."""
        gateway = self.process(which)
        life = self.lives[which]
        life.die_at = life.steps + after
        self.entry.clock.advance(seconds)
        self.run(gateway.step())

    @rule(word=st.sampled_from(["lost", "refused", "slower", "ill"]))
    def trouble(self, word: str) -> None:
        issuer = self.entry.issuer
        if word == "lost":
            issuer.exchanges.append(TokenAnswer(Verdict.UNKNOWN, "answer_lost"))
        elif word == "refused":
            issuer.exchanges.append(TokenAnswer(Verdict.PERMANENT, "invalid_grant", 400))
        else:
            code = "slow_down" if word == "slower" else "http_500"
            issuer.polls.append(PollAnswer(PollVerdict.LATER, code))

    @invariant()
    def a_login_is_exchanged_once_at_most(self) -> None:
        assert max(self.entry.issuer.presented.values(), default=0) <= 1
        assert max(self.entry.issuer.verifiers.values(), default=0) <= 1

    @invariant()
    def nothing_of_an_account_that_was_not_expected_is_kept(self) -> None:
        self.loop.run_until_complete(self._nothing_unexpected())

    async def _nothing_unexpected(self) -> None:
        for document in await self.entry.store.documents(KIND):
            record = from_document(document)
            assert (record.tokens is not None) == (record.stage is Stage.LANDING)
            if record.tokens is not None and record.login.expect is not None:
                assert f"rt_{record.login.expect.partition('@')[0]}_" in record.tokens.reveal()

    async def _end(self) -> None:
        """All processes anew, all troubles over."""
        self.entry.issuer.polls.clear()
        self.entry.issuer.exchanges.clear()
        survivor = self.entry.gateway()
        for _ in range(3):
            self.entry.clock.advance(LIFETIME_S)
            assert not await dies(survivor.step())
        await survivor.drain()
        landed: set[str] = set()
        for document in await self.entry.store.documents(KIND):
            record = from_document(document)
            assert record.login.state is not LoginState.PENDING
            assert (record.tokens, record.device_auth_id, record.code_verifier, record.state) == (None,) * 4
            assert (record.login.failure is None) == (record.login.state is LoginState.DONE)
            if record.login.state is LoginState.DONE:
                assert record.login.account_id is not None
                landed.add(record.login.account_id)
        accounts = {account.id for account in await self.entry.store.accounts()}
        assert accounts == landed, "an account without a done login, or a done login without its account"
        for account_id in accounts:
            credential = await self.entry.store.credential(account_id)
            assert credential.refresh_token.reveal() not in self.entry.issuer.revoked


TestOnboarding = OnboardingMachine.TestCase
TestOnboarding.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
