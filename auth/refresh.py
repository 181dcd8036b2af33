"""How does one refresh go, so that no refresh token is shown to the issuer twice?

A refresh token works once, and accounts of one client that refresh close together have been seen to die together. So
over all processes of one store there is one exchange in flight per issuer and client:

    turn      one flight at a time in this process deals with the claim
    claim     a lease in the store; who does not get it waits, reads the credential again and again, and adopts
    re-read   somebody may have refreshed meanwhile: adopt
    intent?   an open intent for the stored token means: it was sent and we do not know what came of it
    begin     the intent is written durably, naming the token
    send      once
    save      compare-and-put, before anybody uses the tokens (auth.persist)
    release   after ``spacing_s``, so that siblings keep their distance

The unknown outcome (auth.oauth: UNKNOWN, or a process that died after begin) is a state of its own:

* the access token serves on as long as it lives; nothing is sent;
* when it is dead, the token is sent once more: one replay ever, counted by the intent before it is sent. The replay
  waits for ``orphan_wait_s`` when the sender vanished, because it may be alive and still writing;
* whatever comes of the replay but new tokens: a new login is needed.

What was rejected: a lock in Redis (a paused holder wakes after its time), trusting the claim alone (a paused holder
may still send; the intent's fence and the compare-and-put catch what follows), retrying an exchange that was sent.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Protocol

from auth.errors import CredentialError, NeedsReauth, RefreshUnavailable
from auth.flight import Claimant, Flight, Turns, digest_of, is_newer
from auth.hooks import RefreshEvent, RefreshHooks
from auth.jwt import Claims, claims_or_none, fresh_expiry_s
from auth.oauth import TokenAnswer, TokenExchange, Verdict
from auth.persist import Fresh, Persister
from auth.standing import Standing
from ops.clock import Clock
from store.base import AccountStore, CredentialStore
from store.errors import Conflict, StoreError
from store.records import Claim, Credential, RefreshIntent, RefreshState, Secret

STORE_PAUSE_S = 1.0
"""After the store failed: how long an account's refresh is left alone. The issuer was not troubled."""


class RefreshStore(AccountStore, CredentialStore, Protocol):
    """What a refresh needs of the store."""


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """All the times of a refresh, in seconds.

    ``scope`` names what may have one exchange in flight: issuer and client id. ``ahead_s``: how long before its end an
    access token is renewed. ``wait_s``: how long a request waits for a refresh when its access token is dead.
    ``exchange_s`` bounds one exchange (the TokenExchange keeps to it); a claim lives longer than that.
    ``claim_wait_s``: how long a flight waits for the claim before it gives up. ``orphan_wait_s``: age of an intent
    whose sender vanished before it is replayed. ``persist_retry_s``: how long writing new tokens is tried when the
    spool holds them. ``claim_margin_s``: time for the writes around an exchange. ``backoff_s`` and ``backoff_max_s``:
    the first and the longest pause after a failure.
    """

    scope: str
    ahead_s: float = 300.0
    wait_s: float = 5.0
    exchange_s: float = 30.0
    spacing_s: float = 2.0
    claim_wait_s: float = 180.0
    poll_s: float = 0.1
    orphan_wait_s: float = 75.0
    backoff_s: float = 30.0
    backoff_max_s: float = 900.0
    persist_retry_s: float = 90.0
    claim_margin_s: float = 15.0

    @property
    def claim_ttl_s(self) -> float:
        """Longer than the exchange, the write after it and the spacing together."""
        return self.exchange_s + self.spacing_s + self.claim_margin_s


@dataclass(frozen=True, slots=True)
class Case:
    """What is known when the claim is held and the credential is re-read."""

    claim: Claim
    claimed_at_s: float
    stored: Credential
    token: Secret
    replay: bool = False


class Refresher:
    """Carries out flights. One per process and issuer."""

    def __init__(
        self,
        store: RefreshStore,
        exchange: TokenExchange,
        persister: Persister,
        standing: Standing,
        clock: Clock,
        rng: random.Random,
        policy: RefreshPolicy,
        hooks: RefreshHooks,
    ) -> None:
        self._store = store
        self._exchange = exchange
        self._persister = persister
        self._standing = standing
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._hooks = hooks
        self._claimant = Claimant()
        self._turns = Turns()
        self._closing = False

    def close(self) -> None:
        """Flights that have sent nothing yet give up at their next step; the others go on."""
        self._closing = True
        self._persister.close()

    async def run(self, flight: Flight, held: list[Claim]) -> Fresh | None:
        """Brings the flight to its end; the flight carries the error, whatever store or issuer do.

        Returns tokens that are in use and not stored yet: Persister.insist has to follow. A claim that is to be
        released after the spacing is appended to ``held``. Cancelling after the intent was written leaves the
        outcome unknown, as a crash would: run it where nobody cancels.
        """
        await self._turns.enter(flight)
        try:
            return await self._with_claim(flight, held)
        except StoreError as error:
            flight.fail(RefreshUnavailable(f"the store did not take part in a refresh: {error}"), STORE_PAUSE_S)
            return None
        finally:
            self._turns.leave()

    async def _with_claim(self, flight: Flight, held: list[Claim]) -> Fresh | None:
        claim = await self._claim(flight)
        if claim is None:
            return None
        claimed_at_s = self._clock.monotonic_s()
        sent = False
        try:
            case = await self._case(flight, claim, claimed_at_s)
            if case is None:
                return None
            sent = True
            return await self._send(flight, case)
        finally:
            if sent:
                held.append(claim)
            else:
                await self._store.release(claim)

    async def _claim(self, flight: Flight) -> Claim | None:
        """The claim; None when the flight ended while waiting for it (adopted, or given up)."""
        give_up_s = self._clock.monotonic_s() + self._policy.claim_wait_s
        while not flight.done.done():
            if self._closing:
                flight.fail(RefreshUnavailable("the gateway is stopping"), self._policy.poll_s)
                return None
            stored = await self._store.credential(flight.account_id)
            if self._adopted(flight, stored):
                return None
            claim = await self._store.claim(self._policy.scope, self._claimant(), self._policy.claim_ttl_s)
            if claim is not None:
                return claim
            if self._clock.monotonic_s() >= give_up_s:
                flight.fail(RefreshUnavailable("another refresh of this issuer is in the way"), self._policy.poll_s)
                return None
            await self._clock.sleep(self._policy.poll_s * (0.5 + self._rng.random()))
        return None

    def _adopted(self, flight: Flight, stored: Credential | None) -> bool:
        if stored is None or not is_newer(stored, flight.held):
            return False
        flight.show(stored, True)
        self._hooks.event(RefreshEvent.ADOPTED, flight.account_id)
        return True

    async def _case(self, flight: Flight, claim: Claim, claimed_at_s: float) -> Case | None:
        """Whether, and how, the token is to be sent; None when the flight has ended without sending."""
        stored = await self._store.credential(flight.account_id)
        if self._adopted(flight, stored):
            return None
        if stored is None or stored.refresh_token is None:
            await self._refuse(flight, "there is no refresh token; import a new login")
            return None
        case = Case(claim, claimed_at_s, stored, stored.refresh_token)
        intent = await self._store.intent(flight.account_id)
        if intent is not None and intent.token_digest != digest_of(case.token):
            intent = None
        if intent is None and stored.refresh_state is RefreshState.READY:
            return case
        saved = await self._persister.take_spooled(stored)
        if saved is not None:
            flight.show(saved, True)
            return None
        if stored.refresh_state is RefreshState.SPENT:
            await self._refuse(flight, "the refresh token was refused before; import a new login")
            return None
        return await self._after_unknown(flight, case, intent)

    async def _after_unknown(self, flight: Flight, case: Case, intent: RefreshIntent | None) -> Case | None:
        """The stored token was sent before and nobody knows what came of it."""
        if not flight.dead:
            flight.accept(replace(case.stored, refresh_state=RefreshState.UNCERTAIN), True)
            self._hooks.event(RefreshEvent.UNCERTAIN, flight.account_id)
            self._fail(flight, "the outcome of the last refresh is unknown; the access token serves on")
            return None
        if intent is None:
            return replace(case, replay=True)
        vanished = case.stored.refresh_state is RefreshState.READY
        wait_s = intent.started_at_s + self._policy.orphan_wait_s - self._clock.now_s()
        if vanished and 0 < wait_s <= self._policy.orphan_wait_s:
            flight.fail(RefreshUnavailable("a refresh was cut off; it is repeated when that is safe"), min(wait_s, 5.0))
            return None
        if intent.replays > 0:
            await self._store.begin_refresh(flight.account_id, case.claim, intent.token_digest)
            await self._spent(flight, case, "uncertain", "the outcome of the last refresh stayed unknown")
            return None
        return replace(case, replay=True)

    async def _send(self, flight: Flight, case: Case) -> Fresh | None:
        digest = digest_of(case.token)
        try:
            intent = await self._store.begin_refresh(flight.account_id, case.claim, digest)
            if case.replay:
                await self._count_replay(flight, case, intent)
        except Conflict:
            flight.fail(RefreshUnavailable("the credential changed while a refresh began"), self._policy.poll_s)
            return None
        age_s = self._clock.monotonic_s() - case.claimed_at_s
        if self._closing or age_s > self._policy.claim_ttl_s - self._policy.exchange_s:
            await self._not_sent(flight, case, "the refresh was put off before anything was sent")
            return None
        if case.replay:
            self._hooks.event(RefreshEvent.REPLAYED, flight.account_id)
        answer = await self._exchange.refresh(case.token, flight.reason)
        try:
            return await self._settle(flight, case, answer)
        except Conflict:
            flight.fail(RefreshUnavailable("the credential changed during a refresh"), self._policy.poll_s)
            return None

    async def _count_replay(self, flight: Flight, case: Case, intent: RefreshIntent) -> None:
        """The record says "unknown, and sent again" before it is, whatever is cut off from here on."""
        if intent.replays == 0:
            await self._store.begin_refresh(flight.account_id, case.claim, intent.token_digest)
        await self._store.abandon_refresh(flight.account_id, case.claim, RefreshState.UNCERTAIN.value)

    async def _settle(self, flight: Flight, case: Case, answer: TokenAnswer) -> Fresh | None:
        match answer.verdict:
            case Verdict.ROTATED:
                return await self._rotated(flight, case, answer)
            case Verdict.PERMANENT:
                await self._spent(flight, case, answer.code, "the issuer refused the refresh token")
            case Verdict.UNSENT:
                await self._not_sent(flight, case, "the issuer cannot be reached")
            case Verdict.TRANSIENT if not case.replay:
                self._hooks.event(RefreshEvent.TRANSIENT, flight.account_id)
                await self._store.abandon_refresh(flight.account_id, case.claim, None)
                self._fail(flight, f"the issuer did not refresh ({answer.code})", answer.retry_after_s)
            case Verdict.TRANSIENT:
                await self._spent(flight, case, answer.code, "the one replay of a lost refresh was not answered")
            case Verdict.UNKNOWN:
                self._hooks.event(RefreshEvent.UNCERTAIN, flight.account_id)
                if case.replay:
                    await self._spent(flight, case, answer.code, "the one replay of a lost refresh was lost too")
                else:
                    flight.accept(replace(case.stored, refresh_state=RefreshState.UNCERTAIN), True)
                    await self._store.abandon_refresh(flight.account_id, case.claim, RefreshState.UNCERTAIN.value)
                    self._fail(flight, "the refresh was sent and its answer was lost")
        return None

    async def _rotated(self, flight: Flight, case: Case, answer: TokenAnswer) -> Fresh | None:
        said = [
            claims_or_none(secret.reveal() if secret else None) for secret in (answer.id_token, answer.access_token)
        ]
        account = await self._account_id(flight.account_id)
        if account is not None and any(c.account_id not in {None, account} for c in said if c is not None):
            self._hooks.event(RefreshEvent.MISMATCH, flight.account_id)
            await self._spent(flight, case, "account_mismatch", "the issuer answered with another account's tokens")
            return None
        new = self._successor(case.stored, answer, said[1])
        self._warn_of_lost_scopes(case.stored, new)
        self._hooks.event(RefreshEvent.REFRESHED, flight.account_id)
        fresh = Fresh(new, case.claim, case.token, case.stored.version)
        return None if await self._persister.save(fresh, flight) else fresh

    async def _account_id(self, account_id: str) -> str | None:
        try:
            account = await self._store.account(account_id)
        except StoreError:
            return None
        return account.chatgpt_account_id if account else None

    def _successor(self, old: Credential, answer: TokenAnswer, claims: Claims | None) -> Credential:
        now_s = self._clock.now_s()
        return replace(
            old,
            access_token=answer.access_token or old.access_token,
            refresh_token=answer.refresh_token or old.refresh_token,
            id_token=answer.id_token or old.id_token,
            expires_at_s=fresh_expiry_s(claims, now_s) if answer.access_token else old.expires_at_s,
            refreshed_at_s=now_s,
            refresh_state=RefreshState.READY,
            version=old.version + 1,
        )

    def _warn_of_lost_scopes(self, old: Credential, new: Credential) -> None:
        before, after = claims_or_none(old.access_token.reveal()), claims_or_none(new.access_token.reveal())
        if before and after and before.scopes - after.scopes:
            lost = ", ".join(sorted(before.scopes - after.scopes))[:200]
            self._hooks.alert("scopes_lost", old.account_id, f"the refreshed token lacks: {lost}")

    async def _not_sent(self, flight: Flight, case: Case, why: str) -> None:
        """Nothing was sent, so the intent must not say so. The unknown outcome before a replay stays on record."""
        self._hooks.event(RefreshEvent.TRANSIENT, flight.account_id)
        await self._store.abandon_refresh(flight.account_id, case.claim, None)
        if case.replay:
            await self._store.begin_refresh(flight.account_id, case.claim, digest_of(case.token))
            await self._store.abandon_refresh(flight.account_id, case.claim, RefreshState.UNCERTAIN.value)
        self._fail(flight, why)

    async def _spent(self, flight: Flight, case: Case, code: str, why: str) -> None:
        """The token is of no more use. Unless somebody stored another meanwhile, only a login helps."""
        if self._adopted(flight, await self._store.credential(flight.account_id)):
            return
        self._hooks.event(RefreshEvent.PERMANENT, flight.account_id)
        flight.accept(replace(case.stored, refresh_state=RefreshState.SPENT), True)
        await self._store.abandon_refresh(flight.account_id, case.claim, RefreshState.SPENT.value)
        self._hooks.alert("needs_reauth", flight.account_id, f"{why} ({code}); import a new login")
        await self._refuse(flight, f"{why} ({code})")

    async def _refuse(self, flight: Flight, why: str) -> None:
        await self._standing.refused(flight.account_id, why, flight.dead)
        flight.fail(NeedsReauth(why), self._policy.backoff_max_s)

    def _fail(self, flight: Flight, why: str, retry_after_s: float | None = None) -> None:
        error: CredentialError = RefreshUnavailable(why)
        flight.fail(error, max(retry_after_s or 0.0, self._backoff_s(flight.failures)))

    def _backoff_s(self, failures: int = 0) -> float:
        """30 s, doubled with each failure in a row, at most 15 min, up to a fifth longer."""
        exact = min(self._policy.backoff_s * 2.0 ** min(failures, 16), self._policy.backoff_max_s)
        return exact * (1.0 + 0.2 * self._rng.random())
