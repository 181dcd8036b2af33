"""What is one refresh, as this process sees it while it is under way?

A Flight is the single attempt of this process to get newer tokens for one account. Everybody who needs them waits
on the same flight. It ends in a credential or in an error, and may show a credential early (adopted from another
process, or new but not yet stored).

Turns lets one flight at a time deal with the claim of the issuer: one poller per process on the store, and those
whose access token is dead go before those that refresh ahead of time.

No I/O here; asyncio only for waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from auth.errors import CredentialError
from auth.oauth import RefreshReason
from store.records import Credential, Secret

Accept = Callable[[Credential, bool], None]
"""Takes a credential into use; the flag says whether the store holds it."""


def digest_of(refresh_token: Secret) -> str:
    """The name of a refresh token in intents: hex SHA-256."""
    return hashlib.sha256(refresh_token.reveal().encode()).hexdigest()


def is_newer(found: Credential, held: Credential) -> bool:
    """Whether ``found`` brings other tokens than ``held``; a mere change of state does not count."""
    return found.version > held.version and found.access_token != held.access_token


@dataclass(slots=True, eq=False)
class Flight:
    """One refresh of one account. ``dead``: the access token no longer serves, so people wait and a replay is allowed.

    ``held`` is the credential that is to be replaced. ``retry_after_s`` is how long to leave the account alone when
    the flight failed; ``failures`` counts those in a row before this one.
    """

    account_id: str
    held: Credential
    reason: RefreshReason
    dead: bool
    accept: Accept
    done: asyncio.Future[Credential | CredentialError]
    failures: int = 0
    retry_after_s: float | None = None

    def show(self, credential: Credential, saved: bool) -> None:
        """Takes ``credential`` into use and lets the waiters go."""
        self.accept(credential, saved)
        if not self.done.done():
            self.done.set_result(credential)

    def fail(self, error: CredentialError, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        if not self.done.done():
            self.done.set_result(error)


class Claimant:
    """The name under which this process claims: pid and random, made when first asked, and anew after a fork.

    A name that was made before a fork would be shared by the workers, and a claim by one would look like the other's.
    """

    __slots__ = ("_name", "_pid")

    def __init__(self) -> None:
        self._pid = 0
        self._name = ""

    def __call__(self) -> str:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._name = f"{self._pid}-{os.urandom(8).hex()}"
        return self._name


@dataclass(slots=True)
class Turns:
    """Who of this process's flights may try for the claim. Fair, except that dead access tokens go first."""

    _waiting: list[tuple[Flight, asyncio.Future[None]]] = field(default_factory=list)
    _taken: bool = False

    async def enter(self, flight: Flight) -> None:
        """Waits for the turn. Cancelling gives up the place, or passes the turn on when it had just come."""
        if not self._taken:
            self._taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (flight, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            elif place in self._waiting:
                self._waiting.remove(place)
            raise

    def leave(self) -> None:
        """Passes the turn on."""
        while self._waiting:
            place = next((entry for entry in self._waiting if entry[0].dead), self._waiting[0])
            self._waiting.remove(place)
            if not place[1].done():
                place[1].set_result(None)
                return
        self._taken = False
