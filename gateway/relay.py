"""THE loop: pick an account, get its token, send, look at the first events, commit; or decide again.

    lease      = pool.lease(query)              NoAccount -> wait, move, or 429/503 with Retry-After
    credential = await tokens.get(account)
    response   = await codex.send(request)
    held       = await hold(response)           handshake events; nothing has gone down yet
    success   -> OpenedStream                   COMMIT is the caller's next step
    failure   -> outcome; decide(...)           REFRESH_SAME | SAME | NEXT_ACCOUNT | STRIP_AND_MOVE | GIVE_UP

Before COMMIT an attempt may be replaced, because the backend stores nothing and the client has seen nothing. This
file decides nothing about accounts, bytes or errors: it calls its collaborators side by side and gets control back
each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from auth.errors import CredentialError
from auth.tokens import TokenSource
from gateway.attribution import outcome_of
from gateway.errors import from_no_account, from_upstream
from gateway.exchange import Exchange
from gateway.handshake import Handshake
from gateway.journey import Journey
from gateway.ownership import Ownership
from gateway.refusals import Refusals
from gateway.types import RelayRequest
from ops.clock import Clock
from router.lease import Lease
from router.pool import AccountPool
from router.retry import RetryBudget, decide, decide_no_account
from router.types import CANCELLED, NoAccount, NoAccountReason, Outcome, OutcomeKind, RetryVerb
from store.records import Credential
from upstream.client import CodexClient
from upstream.errors import UpstreamError
from upstream.response import UpstreamResponse

_AFTER_ATTEMPTS: Final = frozenset({NoAccountReason.EXCLUDED, NoAccountReason.ROUTE_DOWN})
"""Nobody is left after attempts of this request: what the last one met says more than that."""


class AttemptObserver(Protocol):
    """Hears of failed attempts, of searches that found no account, and of what follows; must not block or raise."""

    def attempt(self, exchange: Exchange, account_id: str, outcome: Outcome, fault: str, verb: str) -> None: ...

    def no_account(self, exchange: Exchange, reason: str, verb: str) -> None: ...


@dataclass(slots=True)
class OpenedStream:
    """A stream that is about to be committed: its lease, the open response, and the events held back so far.

    Whoever gets it closes the response and releases the lease.
    """

    lease: Lease
    response: UpstreamResponse
    held: bytes
    request: RelayRequest


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """How often and how long: attempts per request, and the longest wait for an account that is nearly back."""

    max_attempts: int
    wait_max_s: float


@dataclass(slots=True)
class Relay:
    """Opens a stream on some account. One per process; holds no per-request state."""

    pool: AccountPool
    tokens: TokenSource
    codex: CodexClient
    handshake: Handshake
    ownership: Ownership
    budget: RetryBudget
    policy: RelayPolicy
    clock: Clock
    observer: AttemptObserver
    refusals: Refusals = field(default_factory=Refusals)
    windows_told: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    """The rate-limit fields of each account's last answer: the same words again are not looked at again."""

    async def open(self, request: RelayRequest, exchange: Exchange) -> OpenedStream:
        """A stream whose first events are at hand and have been found good.

        Raises GatewayError when no account could serve; then nothing has gone down and no upstream is left open.
        Cancel: the upstream is closed at once, the lease is given back, nobody is blamed.
        """
        self.budget.request()
        owners = await self.ownership.owners_of(request)
        journey = Journey(request, owners, self.policy.max_attempts, self.budget, self.clock)
        while True:
            try:
                lease = self.pool.lease(journey.query())
            except NoAccount as none:
                await self._without_account(journey, exchange, none)
                continue
            credential = response = None
            journey.attempt = exchange.attempts = journey.attempt + 1
            try:
                credential = await self._credential(lease, journey)
                response = await self.codex.send(journey.upstream_request(lease.account), lease.account, credential)
                held = await self.handshake.hold(response)
                for account in self.refusals.served(lease.account.id, lease.started_s):
                    await self.tokens.condemn(account, "the upstream refuses even a fresh token, and serves others")
            except (UpstreamError, CredentialError) as error:
                _close(response)
                self._failed(journey, exchange, lease, credential, error)
            except BaseException:
                _close(response)
                lease.release(CANCELLED)
                raise
            else:
                self._opened(journey, exchange, lease, response)
                return OpenedStream(lease, response, held, request)

    async def _credential(self, lease: Lease, journey: Journey) -> Credential:
        rejected = journey.rejected
        if rejected is not None and rejected.account_id == lease.account.id:
            return await self.tokens.renew(lease.account, rejected)
        return await self.tokens.get(lease.account)

    async def _without_account(self, journey: Journey, exchange: Exchange, none: NoAccount) -> None:
        """Waits or moves as decided, or raises the answer for the client."""
        if none.reason is NoAccountReason.EXCLUDED and journey.ask_the_innocent():
            return
        action = decide_no_account(none, journey.state(), self.policy.wait_max_s)
        self.observer.no_account(exchange, none.reason.value, action.verb.value)
        if action.verb is RetryVerb.GIVE_UP:
            last = journey.last_error
            if none.reason in _AFTER_ATTEMPTS and isinstance(last, UpstreamError):
                raise from_upstream(last, self.clock.now_s(), journey.request.model) from last
            raise from_no_account(none, self.clock.now_s(), journey.request.model) from none
        journey.follow(action)
        if action.wait_s:
            await self.clock.sleep(action.wait_s)

    def _failed(
        self,
        journey: Journey,
        exchange: Exchange,
        lease: Lease,
        credential: Credential | None,
        error: UpstreamError | CredentialError,
    ) -> None:
        """Gives the lease back with the verdict and prepares the next attempt, or raises the answer."""
        account_id, model = lease.account.id, journey.request.model
        outcome = outcome_of(error, model)
        if journey.rejected is not None and journey.rejected.account_id == account_id:
            outcome = replace(outcome, after_refresh=True)
        journey.note(account_id, outcome, error)
        action = decide(outcome, journey.state(error))
        lease.release(CANCELLED if action.verb in (RetryVerb.REFRESH_SAME, RetryVerb.SAME) else outcome)
        fault = error.kind.value if isinstance(error, UpstreamError) else outcome.kind.value
        self.observer.attempt(exchange, account_id, outcome, fault, action.verb.value)
        if outcome.kind is OutcomeKind.AUTH and outcome.after_refresh and isinstance(error, UpstreamError):
            self.refusals.refused(lease.account, self.clock.monotonic_s())
        if action.verb is RetryVerb.GIVE_UP:
            if isinstance(error, CredentialError):
                none = NoAccount(NoAccountReason.UNUSABLE)
                raise from_no_account(none, self.clock.now_s(), model) from error
            raise from_upstream(error, self.clock.now_s(), model) from error
        journey.follow(action, account_id, credential)

    def _opened(self, journey: Journey, exchange: Exchange, lease: Lease, response: UpstreamResponse) -> None:
        """The upstream has answered well: the account is confirmed, and what belongs to it is remembered."""
        lease.confirm()
        exchange.moved, exchange.account_id = journey.moved, lease.account.id
        told = response.window_fields
        if told and self.windows_told.get(lease.account.id) != told:
            self.windows_told[lease.account.id] = told
            self.pool.note_windows(lease.account.id, response.windows)
        self.ownership.learn_turn_state(journey.request, lease.account.id, response.headers)


def _close(response: UpstreamResponse | None) -> None:
    if response is not None:
        response.close()
