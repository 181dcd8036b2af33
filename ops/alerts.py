"""What must a person see, and how is he told once and not a hundred times?

Every alert is a log line at once (gateway.observe). Here it is counted and becomes a webhook message, unless the same
kind for the same account was told within the hour. The log stays whole; the message is for a person's phone.

Kinds are a closed set: ``needs_reauth`` is raised by the one process whose refresh was refused for good, so it comes
once over the whole fleet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from ops.clock import Clock

REPEAT_S: Final = 3600.0
KEPT_MAX: Final = 1000


class Messages(Protocol):
    """Webhooks, as far as they are used here."""

    def send(self, kind: str, text: str, data: dict[str, Any]) -> None: ...


class Alerts:
    """Call it with (kind, account id, message). Never blocks, never raises."""

    def __init__(self, count: Callable[[str], None], messages: Messages | None, clock: Clock) -> None:
        self._count = count
        self._messages = messages
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def __call__(self, kind: str, account_id: str, message: str) -> None:
        self._count(kind)
        now_s = self._clock.monotonic_s()
        last_s = self._told.get((kind, account_id))
        if self._messages is None or (last_s is not None and now_s - last_s < REPEAT_S):
            return
        if len(self._told) >= KEPT_MAX:
            self._told.clear()
        self._told[kind, account_id] = now_s
        data = {"alert": kind, "account": account_id}
        self._messages.send(f"alert.{kind}", f"account {account_id}: {message}", data)
