"""``/admin/api/usage``: who has used how much, since when, by account, tenant, key or model.

Counts are kept by the hour (ops.usage), so ``since_at_s`` reaches back to the start of its hour; without it, a week.
A principal that is bound to one tenant is not shown the gateway's books.
"""

from __future__ import annotations

from typing import Final

from gateway.admin.answers import UsageAnswer, UsageItem
from gateway.admin.bodies import UsageQuery
from gateway.admin.types import Call, Handlers, Reply
from ops.clock import Clock
from ops.usage import UsageShelf, usage_by

HOUR_S: Final = 3600.0
WEEK_S: Final = 7 * 86_400.0


class Usage:
    def __init__(self, store: UsageShelf, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def handlers(self) -> Handlers:
        return {"usage": self.show}

    async def show(self, call: Call) -> Reply:
        query: UsageQuery = call.query
        since_s = self._clock.now_s() - WEEK_S if query.since_at_s is None else query.since_at_s
        totals = await usage_by(self._store, query.by, since_s)
        return Reply(
            UsageAnswer(
                items=[
                    UsageItem(
                        name=name,
                        requests=one.requests,
                        input_tokens=one.input_tokens,
                        output_tokens=one.output_tokens,
                        errors=one.errors,
                    )
                    for name, one in sorted(totals.items(), key=lambda pair: (-pair[1].requests, pair[0]))
                ]
            )
        )
