"""What must the other hosts agree to before a call is relayed?

That nobody runs the same call (its idempotency key), and that the caller's limits leave room. Both ask the hot store,
within its timeout and only when this process cannot answer alone; what they find shows at once (409) or at the
admission that follows (429). A hot store that is away refuses nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from auth.fleet_limits import FleetLimits
from auth.types import Caller
from gateway.idempotency import Claim, IdempotencyGate


class FleetGate:
    """For gateways whose limits are shared over hosts; the others have none."""

    def __init__(self, limits: FleetLimits, idempotency: IdempotencyGate, begin: Callable[[], None]) -> None:
        """``begin`` starts the time that one request may spend on the hot store in all."""
        self._begin = begin
        self._limits = limits
        self._idempotency = idempotency

    async def agree(self, caller: Caller, claim: Claim | None) -> None:
        """Admit the caller before the next await.

        Raises GatewayError (409). Whenever it raises, cancelled or not, the claim has been ended.
        """
        self._begin()
        try:
            if claim is not None:
                await self._idempotency.agree(claim)
            await self._limits.prepare(caller)
        except BaseException:
            if claim is not None:
                claim.end(answered=False)
            raise
