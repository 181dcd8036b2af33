"""Has this call been made already? ``Idempotency-Key``: never two upstream runs for one intention.

A client that repeats a call under the same key gets 409 ``conflict`` while the first one runs, and for ``WINDOW_S``
after the first one's answer had begun. The answer itself is not kept, so it cannot be given again. A run that failed
before anything went down leaves the key free: the repetition is what the client wants then.

Rules that hold:

* a key belongs to its tenant and client key: equal words of two callers have nothing to do with each other;
* several workers count through the shared counters, several hosts agree through the hot store (``agree``); when those
  do not answer, each knows its own runs only. Over workers the window begins with the run, and anew with its end;
* memory is bounded: of more than ``capacity`` keys those answered longest ago are forgotten first;
* a request without the header costs nothing.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final, Protocol

from limits.storage import Storage

from auth.types import Caller
from gateway.errors import GatewayError
from ops.clock import Clock
from store.errors import StoreUnavailable

HEADER: Final = b"idempotency-key"
WINDOW_S: Final = 600
CAPACITY: Final = 65_536
_LONGEST: Final = 255
_PRINTABLE: Final = bytes(range(0x21, 0x7F))


class FleetKeys(Protocol):
    """Keys that many hosts know of; store.redis_once."""

    async def take(self, name: str, ttl_s: float) -> bool:
        """Whether nobody else has it. Raises StoreUnavailable."""

    def end(self, name: str, stay_s: float) -> None: ...


class Claim:
    """One run under a key. ``end`` says whether its answer had begun; more than once does nothing."""

    __slots__ = ("_gate", "name")

    def __init__(self, gate: IdempotencyGate, name: str) -> None:
        self._gate: IdempotencyGate | None = gate
        self.name = name

    def end(self, *, answered: bool) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.settle(self.name, answered=answered)


class IdempotencyGate:
    """All keys in use in this process; ``shared`` counts over the processes of one machine, ``fleet`` over hosts."""

    def __init__(
        self,
        clock: Clock,
        shared: Storage | None = None,
        capacity: int = CAPACITY,
        *,
        fleet: FleetKeys | None = None,
    ) -> None:
        self._clock = clock
        self._shared = shared
        self._fleet = fleet
        self._capacity = capacity
        self._running: set[str] = set()
        self._answered: OrderedDict[str, float] = OrderedDict()  # name -> end of its window, in that order

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._running) + len(self._answered)

    def claim(self, caller: Caller, key: bytes) -> Claim:
        """Takes ``key`` for one run of ``caller``.

        Raises GatewayError: 409 ``conflict`` while it is taken, 400 for a key that is none. Nothing is held then.
        """
        if not 0 < len(key) <= _LONGEST or key.translate(None, _PRINTABLE):
            raise GatewayError.invalid(f"Idempotency-Key must be 1 to {_LONGEST} printable characters without blanks.")
        name = _name(caller, key)
        self._forget()
        if name in self._running or name in self._answered or not self._take_shared(name):
            raise _conflict()
        self._running.add(name)
        return Claim(self, name)

    async def agree(self, claim: Claim) -> None:
        """Asks the other hosts. Raises GatewayError: 409 ``conflict``; end the claim then, as in any other case."""
        if self._fleet is None:
            return
        try:
            free = await self._fleet.take(claim.name, WINDOW_S)
        except StoreUnavailable:
            return
        if not free:
            raise _conflict()

    def settle(self, name: str, *, answered: bool) -> None:
        """The run is over. Synchronous; never raises."""
        self._running.discard(name)
        if answered:
            self._answered[name] = self._clock.monotonic_s() + WINDOW_S
        if self._fleet is not None:
            self._fleet.end(name, WINDOW_S if answered else 0.0)
        if self._shared is not None:
            try:
                self._shared.clear(name)
                if answered:
                    self._shared.incr(name, WINDOW_S)
            except StoreUnavailable:
                return

    def _take_shared(self, name: str) -> bool:
        if self._shared is None:
            return True
        try:
            return self._shared.incr(name, WINDOW_S) == 1
        except StoreUnavailable:
            return True

    def _forget(self) -> None:
        now_s = self._clock.monotonic_s()
        while self._answered:
            name, until_s = next(iter(self._answered.items()))
            if until_s > now_s and len(self) < self._capacity:
                return
            del self._answered[name]


def _conflict() -> GatewayError:
    return GatewayError(
        "conflict",
        "A call with this Idempotency-Key is running, or was answered less than ten minutes ago. "
        "Take a new key for a new call.",
    )


def _name(caller: Caller, key: bytes) -> str:
    scope = f"{caller.tenant_id}\0{caller.key_id}\0".encode()
    return "idem:" + hashlib.blake2b(scope + key, digest_size=16).hexdigest()
