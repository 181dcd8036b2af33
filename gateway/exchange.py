"""What is known of one HTTP exchange, from its first byte to its summary line.

One Exchange is made per request, travels in the ASGI scope, and is filled in where things become known. At the
end it is read exactly once: by the log line, the metrics and the audit record. It holds no content and no secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from auth.types import Caller
from upstream.types import Usage

SCOPE_KEY: Final = "codex_relay.exchange"


@dataclass(slots=True)
class Exchange:
    """``started_s`` and ``first_event_s`` are monotonic; ``end`` is why a stream ended (a closed set of words);
    ``disordered``: the upstream's sequence numbers repeated or jumped. ``route`` is ``none`` until one is found.
    ``actor`` is who acts on the admin API, as the audit log names him."""

    id: str
    method: str
    path: str
    started_s: float
    route: str = "none"
    caller: Caller | None = None
    model: str | None = None
    stream: bool = False
    status: int = 0
    outcome: str = "ok"
    error_code: str | None = None
    account_id: str | None = None
    attempts: int = 0
    moved: bool = False
    adaptations: tuple[str, ...] = ()
    extra_headers: tuple[tuple[bytes, bytes], ...] = ()
    first_event_s: float | None = None
    end: str | None = None
    usage: Usage | None = None
    bytes_out: int = 0
    events: int = 0
    disordered: bool = False
    actor: str | None = None


class RequestIds:
    """Request ids: 96 random bits each, taken from the kernel for many at once, because each call there is dear."""

    BATCH: Final = 512
    SIZE: Final = 12

    def __init__(self) -> None:
        self._ids = self._generate()

    def _generate(self) -> Iterator[str]:
        while True:
            random = os.urandom(self.BATCH * self.SIZE).hex()
            for at in range(0, len(random), 2 * self.SIZE):
                yield "req_" + random[at : at + 2 * self.SIZE]

    def __call__(self) -> str:
        return next(self._ids)


def new_exchange(scope: MutableMapping[str, Any], started_s: float, request_id: str) -> Exchange:
    """Makes the exchange of a request and hangs it into the scope."""
    exchange = Exchange(request_id, scope["method"], scope["path"], started_s)
    scope[SCOPE_KEY] = exchange
    return exchange


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange:
    exchange = scope[SCOPE_KEY]
    assert isinstance(exchange, Exchange)
    return exchange
