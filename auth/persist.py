"""How do new tokens reach the store, whatever the store does?

After an exchange the new refresh token exists in this process only, and the old one is gone. So the write may fail,
but the tokens may not be lost:

    write --ok------------------------------> stored: in use
      |--unavailable--> in use from memory, into the spool, written again with growing pauses until it is stored
      |--conflict--> what does the store hold now?
                       our own tokens        an earlier try did land: stored
                       the token we replaced a later claim began on the dead token: ours are its successor, put them
                       another login         an operator imported a newer one: theirs stays, ours is dropped, loudly
                       nothing               the account was removed: ours is dropped, loudly

Rules that hold:

* tokens of another login in the store are never overwritten: an import is a decision of a person, a refresh is not;
* the spool holds them from the first failed write on; when even the spool fails, writing goes on until drained;
* with a spool that holds them, writing ends after ``persist_retry_s``: the next start, or whoever finds the open
  intent, takes them from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from auth.flight import Flight, digest_of
from auth.hooks import RefreshEvent, RefreshHooks
from auth.spool import Spool, Spooled
from ops.clock import Clock
from store.base import CredentialStore
from store.errors import Conflict, NotFound, StoreError
from store.records import Claim, Credential, Secret

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


@dataclass(slots=True)
class Fresh:
    """New tokens on their way to the store."""

    credential: Credential
    claim: Claim
    spent: Secret
    expected_version: int
    spooled: bool = False


class Persister:
    """Writes new credentials until they are stored. One per process."""

    def __init__(
        self, store: CredentialStore, spool: Spool, clock: Clock, hooks: RefreshHooks, persist_retry_s: float
    ) -> None:
        self._store = store
        self._spool = spool
        self._clock = clock
        self._hooks = hooks
        self._persist_retry_s = persist_retry_s
        self._closing = False

    def close(self) -> None:
        """From now on a write that fails is not repeated once the spool holds the tokens."""
        self._closing = True

    async def save(self, fresh: Fresh, flight: Flight) -> bool:
        """One try to store the tokens, then they are shown to the flight's waiters in any case.

        Returns True when the matter is settled (stored, or overruled by a newer login); False when :meth:`insist`
        has to follow. By then the spool holds the tokens, if it could.
        """
        stored = await self._write(fresh)
        if stored is not None:
            flight.show(stored, True)
            return True
        flight.show(fresh.credential, False)
        self._hooks.event(RefreshEvent.PERSIST_FAILED, fresh.credential.account_id)
        fresh.spooled = await self._into_spool(fresh)
        return False

    async def insist(self, fresh: Fresh, flight: Flight) -> None:
        """Writes again and again, with growing pauses, until stored, overruled, or left to the spool."""
        started_s = self._clock.monotonic_s()
        pause_s = FIRST_PAUSE_S
        while True:
            if not self._closing:
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            stored = await self._write(fresh)
            if stored is not None:
                await self._spool.forget(fresh.credential.account_id)
                flight.show(stored, True)
                return
            fresh.spooled = fresh.spooled or await self._into_spool(fresh)
            waited_s = self._clock.monotonic_s() - started_s
            if self._closing or (fresh.spooled and waited_s >= self._persist_retry_s):
                break
        self._hooks.alert(
            "refresh_not_persisted",
            fresh.credential.account_id,
            "new tokens are not in the store: "
            + ("they wait in the spool file beside it" if fresh.spooled else "and the spool failed too"),
        )

    async def take_spooled(self, stored: Credential) -> Credential | None:
        """What the spool holds as the successor of ``stored``, put into the store; None when there is none.

        Raises StoreError when it could not be stored; the spool keeps it then.
        """
        waiting = await self._spool.get(stored.account_id)
        if waiting is None:
            return None
        if stored.refresh_token is None or digest_of(stored.refresh_token) != waiting.replaces:
            await self._spool.forget(stored.account_id)
            return None
        saved = await self._store.put_credential(waiting.credential, stored.version)
        await self._spool.forget(stored.account_id)
        self._hooks.event(RefreshEvent.ADOPTED, stored.account_id)
        return saved

    async def recover(self) -> int:
        """At start: stores what the spool holds; how many. What cannot be stored now stays for the next time."""
        recovered = 0
        for account_id in await self._spool.account_ids():
            try:
                stored = await self._store.credential(account_id)
                if stored is None:
                    continue
                recovered += await self.take_spooled(stored) is not None
            except StoreError:
                continue
        return recovered

    async def _write(self, fresh: Fresh) -> Credential | None:
        """The credential that is to be used, as the store holds it; None when the store did not take the write."""
        try:
            return await self._store.finish_refresh(fresh.credential, fresh.claim, fresh.expected_version)
        except (Conflict, NotFound):
            try:
                return await self._after_conflict(fresh)
            except StoreError:
                return None
        except StoreError:
            return None

    async def _after_conflict(self, fresh: Fresh) -> Credential:
        stored = await self._store.credential(fresh.credential.account_id)
        if stored is not None and stored.access_token == fresh.credential.access_token:
            return stored
        if stored is not None and stored.refresh_token == fresh.spent:
            return await self._store.put_credential(fresh.credential, stored.version)
        self._hooks.event(RefreshEvent.PERSIST_CONFLICT, fresh.credential.account_id)
        self._hooks.alert(
            "refresh_overruled",
            fresh.credential.account_id,
            "the account was removed during a refresh; its new tokens are dropped"
            if stored is None
            else "a newer login was stored during a refresh; it stays, and the tokens of the older login are dropped",
        )
        return stored or fresh.credential

    async def _into_spool(self, fresh: Fresh) -> bool:
        try:
            await self._spool.put(Spooled(fresh.credential, digest_of(fresh.spent)))
        except OSError:
            return False
        return True
