"""The first events of an attempt, while it is still replaceable.

Handshake events (created, queued, in_progress, metadata, rate limits) promise nothing: overload and quota errors
arrive right behind them inside a 200 stream. They are held back until the first event that is not one of them, or
until ``hold_s`` has passed since the first event (0: no holding). What is held is forwarded unchanged on COMMIT.
"""

from __future__ import annotations

import re
from typing import Final

from ops.clock import Clock
from upstream.classify import classify_event
from upstream.errors import FaultKind, UpstreamError
from upstream.response import UpstreamResponse
from upstream.sse import split_events

HANDSHAKE_TYPES: Final = frozenset(
    {"response.created", "response.queued", "response.in_progress", "response.metadata", "codex.rate_limits"}
)
_FAILURE_TYPES: Final = frozenset({"response.failed", "error"})
_HANDSHAKE_WORDS: Final = frozenset(kind.encode() for kind in HANDSHAKE_TYPES)
_FAILURE_WORDS: Final = frozenset(kind.encode() for kind in _FAILURE_TYPES)
# an event that says its type first, with nothing before it but its name
_PLAIN: Final = re.compile(rb'(?:event:[^\n]*\n)?data: ?\{"type":"([a-z0-9_.]+)"')


class Handshake:
    """Holds handshake events for at most ``hold_s`` seconds after the first one."""

    def __init__(self, hold_s: float, clock: Clock) -> None:
        self._hold_s = hold_s
        self._clock = clock

    async def hold(self, response: UpstreamResponse) -> bytes:
        """All whole events up to the one that decides, as bytes to forward.

        Raises UpstreamError when the upstream fails before the commit, be it by connection or by an event that
        another account could do better.
        """
        block = await self._next(response, None)
        assert block is not None
        if self._promising(block) or not self._hold_s:
            return block
        held = [block]
        until_s = self._clock.monotonic_s() + self._hold_s
        while (left_s := until_s - self._clock.monotonic_s()) > 0:
            more = await self._next(response, left_s)
            if more is None:
                break
            held.append(more)
            if self._promising(more):
                break
        return b"".join(held)

    async def _next(self, response: UpstreamResponse, wait_s: float | None) -> bytes | None:
        block = await response.next_block(wait_s)
        if block == b"":
            raise UpstreamError(FaultKind.TRUNCATED, "the stream ended before its first event")
        return block

    def _promising(self, block: bytes) -> bool:
        """True when the block holds an event that is not a handshake; raises for a replaceable failure."""
        at = 0
        while block.find(b"\r") < 0 and (match := _PLAIN.match(block, at)) is not None:
            if match[1] in _FAILURE_WORDS:
                break
            if match[1] not in _HANDSHAKE_WORDS:
                return True
            at = block.find(b"\n\n", match.end()) + 2
            if at == len(block):
                return False
        return self._closer_look(block)

    def _closer_look(self, block: bytes) -> bool:
        """The same, event by event, for what the plain form does not settle."""
        for event in split_events(block):
            if not event.data:
                continue  # a comment promises nothing
            kind = event.type
            if kind in _FAILURE_TYPES:
                error = classify_event(kind, event.data, self._clock.now_s())
                if error is not None:
                    raise error
                return True
            if kind not in HANDSHAKE_TYPES:
                return True
        return False
