"""Which access token does a request use now?

TokenSource keeps one decrypted credential per account and hands it out; the hot path is a dict look-up and one look
at the clock. Renewing goes on beside the requests:

    fresh                 serve
    nearly at its end     serve, and start a refresh in the background (one flight per account)
    dead, or refused      wait up to ``wait_s`` for the flight, else RefreshUnavailable: take another account
    refused for good      serve while the access token lives, then NeedsReauth

Rules that hold:

* a living access token is handed out whatever becomes of its refresh;
* flights run in tasks of the given ``spawn`` and belong to nobody's request: a client that leaves, a request's deadline
  and SIGTERM do not cut them. ``drain`` must have ended before that task group is cancelled;
* ages are measured on the monotonic clock from the moment a credential was read, so a jump of the wall clock neither
  kills tokens nor starts a storm;
* tokens that the store could not take yet are never replaced by the older ones it still holds.

How one refresh goes is auth.refresh's matter; what the access token is sent to is not ours.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from auth.errors import CredentialError, NeedsReauth, RefreshUnavailable
from auth.flight import Flight, is_newer
from auth.hooks import RefreshHooks
from auth.oauth import RefreshReason, TokenExchange
from auth.persist import Fresh, Persister
from auth.refresh import Refresher, RefreshPolicy, RefreshStore
from auth.spool import NoSpool, Spool
from auth.standing import Standing
from ops.clock import Clock
from store.errors import StoreError
from store.records import Account, AccountStatus, Claim, Credential, RefreshState

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task that outlives the caller: ``create_task`` of the lifespan's task group."""

REFUSED_AGAIN_S = 60.0
"""A token that is refused this soon after it was renewed because of a refusal is not renewed again at once."""


@dataclass(slots=True)
class Cell:
    """What this process knows of one account's tokens. All times are monotonic."""

    credential: Credential
    saved: bool
    refresh_at_s: float
    dead_at_s: float
    keep_at_s: float
    retry_at_s: float = -math.inf
    failures: int = 0
    renewed_at_s: float = -math.inf


class TokenSource:
    """Access tokens of all accounts, for one process."""

    def __init__(
        self,
        store: RefreshStore,
        exchange: TokenExchange,
        spawn: Spawn,
        clock: Clock,
        rng: random.Random,
        policy: RefreshPolicy,
        *,
        hooks: RefreshHooks | None = None,
        spool: Spool | None = None,
    ) -> None:
        hooks = hooks or RefreshHooks()
        self._store = store
        self._spawn = spawn
        self._clock = clock
        self._rng = rng
        self._policy = policy
        self._hooks = hooks
        self._standing = Standing(store, hooks)
        self._persister = Persister(store, spool or NoSpool(), clock, hooks, policy.persist_retry_s)
        self._refresher = Refresher(store, exchange, self._persister, self._standing, clock, rng, policy, hooks)
        self._cells: dict[str, Cell] = {}
        self._flights: dict[str, Flight] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._spacing: set[asyncio.Task[None]] = set()
        self._closing = False

    async def get(self, account: Account) -> Credential:
        """A credential whose access token lives, as far as we know.

        Raises NeedsReauth, RefreshUnavailable (after at most ``wait_s``). Cancelling leaves a refresh running.
        """
        cell = self._cells.get(account.id)
        if cell is not None and self._clock.monotonic_s() < cell.refresh_at_s:
            return cell.credential
        cell = await self._cell(account.id)
        if self._lives(cell):
            if self._clock.monotonic_s() >= cell.refresh_at_s and self._may_refresh(cell):
                self._start(cell, RefreshReason.PROACTIVE)
            return cell.credential
        return await self._newer(cell, RefreshReason.PROACTIVE)

    async def renew(self, account: Account, rejected: Credential) -> Credential:
        """After the upstream refused ``rejected`` with a 401 that is the account's: other tokens, or an error.

        Uses what this process or the store has got meanwhile, else refreshes. A token that is refused again right
        after such a renewal is not renewed again for a while (RefreshUnavailable), so that an upstream that refuses
        everything cannot start a chain of exchanges. Raises NeedsReauth, RefreshUnavailable. Cancelling leaves a
        refresh running.
        """
        cell = await self._cell(account.id)
        if cell.credential.access_token == rejected.access_token:
            cell = await self._reread(cell)
        if cell.credential.access_token != rejected.access_token:
            if self._lives(cell):
                return cell.credential
            return await self._newer(cell, RefreshReason.UNAUTHORIZED)
        now_s = self._clock.monotonic_s()
        if self._lives(cell):
            cell.dead_at_s = cell.refresh_at_s = cell.keep_at_s = now_s
            if now_s - cell.renewed_at_s < REFUSED_AGAIN_S:
                cell.retry_at_s = max(cell.retry_at_s, now_s + self._policy.backoff_s)
        return await self._newer(cell, RefreshReason.UNAUTHORIZED)

    async def force(self, account: Account) -> Credential:
        """Refreshes now because an operator asked; takes the same claim as every other refresh.

        Waits as long as it takes. Raises NeedsReauth, RefreshUnavailable. Cancelling leaves the refresh running.
        """
        cell = await self._reread(await self._cell(account.id))
        flight = self._flights.get(account.id) or self._start(cell, RefreshReason.FORCED)
        await asyncio.wait({flight.done})
        return _result(flight)

    async def condemn(self, account: Account, reason: str) -> None:
        """Puts ``needs_reauth`` on record because the account's tokens do not work though the issuer gives them."""
        await self._standing.refused(account.id, reason, True)

    def invalidate(self, account_id: str) -> None:
        """Forgets what was read of the account (removed, or of unknown state). Tokens not stored yet are kept."""
        cell = self._cells.get(account_id)
        if cell is not None and cell.saved and account_id not in self._flights:
            del self._cells[account_id]

    async def reload(self, account_ids: Iterable[str]) -> None:
        """Reads the credentials again that this process holds; call it when the directory revision has changed.

        A refresh of ours that still waits for its turn ends with what another process has got. A store that does
        not answer changes nothing.
        """
        for account_id in account_ids:
            cell = self._cells.get(account_id)
            if cell is not None:
                cell = await self._reread(cell)
                flight = self._flights.get(account_id)
                if flight is not None and is_newer(cell.credential, flight.held) and self._lives(cell):
                    flight.show(cell.credential, cell.saved)

    async def recover(self) -> int:
        """At start: stores what an earlier process had to leave in the spool; how many."""
        return await self._persister.recover()

    async def keep(self, accounts: Iterable[Account]) -> int:
        """One round of the keeper: refreshes what is due, one after another; how many were tried.

        Due is up to ``ahead_s`` before a request would start it, at a random point, so that accounts that were
        imported together do not come due together.
        """
        tried = 0
        for account in accounts:
            if not account.enabled or account.status is not AccountStatus.ACTIVE or self._closing:
                continue
            try:
                cell = await self._cell(account.id)
            except CredentialError:
                continue
            if self._clock.monotonic_s() >= cell.keep_at_s and self._may_refresh(cell):
                flight = self._start(cell, RefreshReason.PROACTIVE)
                await asyncio.wait({flight.done})
                tried += 1
        return tried

    async def keep_on(self, accounts: Callable[[], Iterable[Account]], every_s: float) -> None:
        """Rounds of the keeper until drained or cancelled."""
        while not self._closing:
            await self.keep(accounts())
            await self._clock.sleep(every_s)

    async def drain(self) -> None:
        """At shutdown: no new refresh begins; those that were sent are waited for until their tokens are stored.

        Claims that were kept for the spacing are released. Takes at most about one exchange and one write. Call it
        before the task group of ``spawn`` is cancelled.
        """
        self._closing = True
        self._refresher.close()
        for task in self._spacing:
            task.cancel()
        while self._running:
            await asyncio.wait(self._running)

    def _lives(self, cell: Cell) -> bool:
        return self._clock.monotonic_s() < cell.dead_at_s

    def _may_refresh(self, cell: Cell) -> bool:
        """Whether a refresh may begin by itself. An uncertain or spent token is left alone while its access lives."""
        state = cell.credential.refresh_state
        ready = state is RefreshState.READY or (state is RefreshState.UNCERTAIN and not self._lives(cell))
        free = cell.credential.account_id not in self._flights and not self._closing
        return ready and free and self._clock.monotonic_s() >= cell.retry_at_s

    async def _cell(self, account_id: str) -> Cell:
        cell = self._cells.get(account_id)
        if cell is not None:
            return cell
        try:
            stored = await self._store.credential(account_id)
        except StoreError as error:
            raise RefreshUnavailable(f"the account's tokens cannot be read: {error}") from error
        if stored is None:
            raise NeedsReauth("the account has no tokens; import a login")
        return self._cells.get(account_id) or self._take(stored, True)

    async def _reread(self, cell: Cell) -> Cell:
        """The cell after a look into the store; as it is when the store does not answer or has nothing newer."""
        account_id = cell.credential.account_id
        try:
            stored = await self._store.credential(account_id)
        except StoreError:
            return cell
        now = self._cells.get(account_id, cell)
        same = stored is not None and stored.access_token == now.credential.access_token
        if stored is not None and (is_newer(stored, now.credential) or (same and now.saved)):
            return self._take(stored, True)
        return now

    def _take(self, credential: Credential, saved: bool) -> Cell:
        """Takes a credential into use. The same access token again keeps the ages that were measured for it."""
        account_id = credential.account_id
        cell = self._cells.get(account_id)
        if cell is not None and cell.credential.access_token == credential.access_token:
            cell.credential, cell.saved = credential, saved
            return cell
        now_s, wall_s = self._clock.monotonic_s(), self._clock.now_s()
        life_s = credential.expires_at_s - credential.refreshed_at_s
        wait_s = credential.expires_at_s - wall_s
        ahead_s = min(self._policy.ahead_s, max(life_s, 0.0) / 2)
        refresh_at_s = now_s + wait_s - ahead_s
        cell = Cell(
            credential,
            saved,
            refresh_at_s=refresh_at_s,
            dead_at_s=now_s + wait_s,
            keep_at_s=refresh_at_s - ahead_s * self._rng.random(),
        )
        self._cells[account_id] = cell
        return cell

    async def _newer(self, cell: Cell, reason: RefreshReason) -> Credential:
        """Waits for a flight that gets tokens which live. Raises NeedsReauth, RefreshUnavailable."""
        account_id = cell.credential.account_id
        flight = self._flights.get(account_id)
        if flight is None:
            if cell.credential.refresh_state is RefreshState.SPENT:
                cell = await self._reread(cell)
                if self._lives(cell):
                    return cell.credential
                why = "the refresh token was refused and the access token has ended"
                await self._standing.refused(account_id, why, True)
                raise NeedsReauth(why)
            if not self._may_refresh(cell):
                raise RefreshUnavailable("the access token is dead and its refresh has to wait")
            flight = self._start(cell, reason)
        flight.dead = True
        await asyncio.wait({flight.done}, timeout=self._policy.wait_s)
        if not flight.done.done():
            raise RefreshUnavailable("the access token is dead and its refresh is still under way")
        _result(flight)
        cell = await self._cell(account_id)
        if not self._lives(cell):
            raise RefreshUnavailable("the refreshed access token is dead too")
        return cell.credential

    def _start(self, cell: Cell, reason: RefreshReason) -> Flight:
        if self._closing:
            raise RefreshUnavailable("the gateway is stopping")
        flight = Flight(
            account_id=cell.credential.account_id,
            held=cell.credential,
            reason=reason,
            dead=not self._lives(cell),
            accept=self._accept,
            done=asyncio.get_running_loop().create_future(),
            failures=cell.failures,
        )
        self._flights[flight.account_id] = flight
        task = self._spawn(self._fly(flight))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return flight

    def _accept(self, credential: Credential, saved: bool) -> None:
        self._take(credential, saved)

    async def _fly(self, flight: Flight) -> None:
        held: list[Claim] = []
        fresh: Fresh | None = None
        try:
            try:
                fresh = await self._refresher.run(flight, held)
            finally:
                if fresh is None:
                    self._flights.pop(flight.account_id, None)
                flight.fail(RefreshUnavailable("the refresh was cut off"), self._policy.poll_s)
                self._land(flight)
            for claim in held:
                await self._release_later(claim)
            if fresh is not None:
                await self._persister.insist(fresh, flight)
        except Exception as error:  # noqa: BLE001 - whatever breaks in one refresh must not end the others' task group
            self._hooks.alert("refresh_broken", flight.account_id, f"a refresh broke: {type(error).__name__}")
        finally:
            if self._flights.get(flight.account_id) is flight:
                del self._flights[flight.account_id]

    def _land(self, flight: Flight) -> None:
        cell = self._cells.get(flight.account_id)
        if cell is None:
            return
        if isinstance(flight.done.result(), Credential):
            cell.failures = 0
            if flight.reason is RefreshReason.UNAUTHORIZED:
                cell.renewed_at_s = self._clock.monotonic_s()
        else:
            cell.failures += 1
            cell.retry_at_s = self._clock.monotonic_s() + (flight.retry_after_s or 0.0)

    async def _release_later(self, claim: Claim) -> None:
        """Keeps the claim for the spacing, so that no sibling is refreshed too soon after this one."""
        task = asyncio.current_task()
        assert task is not None
        self._spacing.add(task)
        try:
            if not self._closing:
                await self._clock.sleep(self._policy.spacing_s)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._spacing.discard(task)
            try:
                await self._store.release(claim)
            except StoreError:
                pass  # it runs out by itself


def _result(flight: Flight) -> Credential:
    outcome = flight.done.result()
    if isinstance(outcome, Credential):
        return outcome
    raise type(outcome)(str(outcome))
