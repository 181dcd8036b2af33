"""The check on framing sees a missing framer: piping bytes through as they come is reported, the real framer is not."""

from __future__ import annotations

from typing import Protocol

from tests.fakes import faulty_events as events
from upstream.sse import EventFramer


class Framer(Protocol):
    def feed(self, chunk: bytes) -> bytes: ...


class NoFraming:
    """The seeded defect: what comes is forwarded at once."""

    def feed(self, chunk: bytes) -> bytes:
        return chunk


def half_events(framer: Framer, stream: bytes, cut: int) -> list[bytes]:
    """The pieces that would go down and do not end on an event boundary, when the stream is read in two reads."""
    pieces = [framer.feed(stream[:cut]), framer.feed(stream[cut:])]
    return [piece for piece in pieces if piece and not piece.endswith(b"\n\n")]


def test_a_pipe_without_framing_is_caught_and_the_framer_is_not() -> None:
    stream = b"".join(events.text_stream(["ä", "{}", "\\n\\n"]))
    inside = [cut for cut in range(1, len(stream)) if not stream[:cut].endswith(b"\n\n")]
    assert all(half_events(NoFraming(), stream, cut) for cut in inside)
    assert not any(half_events(EventFramer(1 << 20), stream, cut) for cut in range(1, len(stream)))
