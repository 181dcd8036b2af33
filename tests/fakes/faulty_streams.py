"""Ways to misbehave inside a stream that began well; each function returns a :class:`Mode`.

``after`` is the number of whole events that are sent before the fault (see ``faulty_events`` for what they are);
``after=0`` is the answer's head alone. One chunk is one event unless the mode says otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from tests.fakes import faulty_events as events
from tests.fakes.faulty_modes import LAST_CHUNK, STREAM_HEADERS, chunk, chunks, head, named, opened, steps
from tests.fakes.faulty_wire import Fin, Hang, Mode, Repeat, Reset, Seen, Send, Split, Step

MIXED_TEXT = ("Zoë €", "😀 done")


@named
def split(*, size: int = 1, own_chunk: bool = False, eol: bytes = b"\n", parts: Sequence[str] = MIXED_TEXT) -> Mode:
    """A right stream in writes of ``size`` bytes: cuts fall inside UTF-8 and line ends. ``own_chunk``: each is a chunk
    of its own."""
    blocks = events.text_stream(parts, eol=eol)
    if own_chunk:
        text = b"".join(blocks)
        pieces = [Send(chunk(text[start : start + size])) for start in range(0, len(text), size)]
        return steps(Send(head()), *pieces, Send(LAST_CHUNK))
    return steps(Send(head()), Split(chunks(blocks) + LAST_CHUNK, size))


@named
def drip(*, every_s: float = 0.05, after: int = 0) -> Mode:
    """After ``after`` events a byte at a time, ``every_s`` apart."""
    rest = chunks(events.text_stream()[after:])
    return steps(*opened(after), Split(rest + LAST_CHUNK, 1, every_s))


@named
def rst(*, after: int = 3) -> Mode:
    """Reset after ``after`` events."""
    return steps(*opened(after), Reset())


@named
def fin(*, after: int = 3) -> Mode:
    """Orderly close after ``after`` events, without the last chunk."""
    return steps(*opened(after), Fin())


@named
def cut(*, after: int = 3, inside: int = 25) -> Mode:
    """Closed in the middle of an event: its first ``inside`` bytes went out in a chunk of their own."""
    return steps(*opened(after), Send(chunk(events.text_stream()[after][:inside])), Fin())


@named
def truncated_chunk(*, after: int = 3) -> Mode:
    """Closed in the middle of a chunk that announced more."""
    block = events.text_stream()[after]
    return steps(*opened(after), Send(b"%x\r\n%s" % (len(block) + 64, block)), Fin())


@named
def not_completed(*, after: int = 3) -> Mode:
    """A right end of the HTTP message after ``after`` events, without ``response.completed``."""
    return steps(*opened(after), Send(LAST_CHUNK))


@named
def failed(code: str = "server_error", *, after: int = 0, message: str = "it failed", ends: bool = True) -> Mode:
    """``response.failed`` with ``code`` as event number ``after``."""
    tail: tuple[Step, ...] = (Send(LAST_CHUNK),) if ends else (Hang(),)
    return steps(*opened(after), Send(chunk(events.failed(code, message, number=after))), *tail)


@named
def error_event(
    code: str = "server_error", *, after: int = 0, message: str = "it failed", nested: bool = False
) -> Mode:
    """A bare ``error`` event as event number ``after``, then the end."""
    block = events.error(code, message, nested=nested, number=after)
    return steps(*opened(after), Send(chunk(block) + LAST_CHUNK))


@named
def incomplete(reason: str = "max_output_tokens", *, after: int = 5) -> Mode:
    """``response.incomplete`` as event number ``after``, then the end."""
    return steps(*opened(after), Send(chunk(events.incomplete(reason, number=after)) + LAST_CHUNK))


@named
def idle(*, after: int = 3) -> Mode:
    """Silent after ``after`` events, the connection stays."""
    return steps(*opened(after), Hang())


@named
def comments(*, after: int = 3, every_s: float = 0.02) -> Mode:
    """After ``after`` events only SSE comments, without end."""
    return steps(*opened(after), Repeat(lambda _n: chunk(b": keep-alive\n\n"), every_s))


@named
def infinite(*, every_s: float = 0.0, times: int | None = None) -> Mode:
    """Deltas without end (or ``times`` of them, then silence)."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "again "}

    def delta(number: int) -> bytes:
        return chunk(events.event("response.output_text.delta", {"sequence_number": number + 4, **place}))

    return steps(*opened(4), Repeat(delta, every_s, times), Hang())


@named
def huge_event(*, size: int = 4 << 20) -> Mode:
    """One delta of ``size`` bytes in an otherwise right stream."""

    def play(_seen: Seen) -> list[Step]:
        blocks = events.text_stream(["x" * size])
        return [Send(head()), *(Send(chunk(block)) for block in blocks[:5]), Send(chunk(blocks[-1]) + LAST_CHUNK)]

    return Mode("huge_event", play)


@named
def endless_line(*, after: int = 1, times: int | None = None) -> Mode:
    """A ``data:`` line that never ends, 64 KiB at a time."""
    return steps(*opened(after), Send(chunk(b"data: ")), Repeat(lambda _n: chunk(b"x" * 65_536), 0.0, times), Hang())


@named
def nul() -> Mode:
    """A delta with a raw NUL byte in it."""
    return _with_bytes(b"\x00")


@named
def bad_utf8() -> Mode:
    """A delta with bytes that are not UTF-8."""
    return _with_bytes(b"\xff\xfe\xc3")


def _with_bytes(raw: bytes) -> Mode:
    blocks = [block.replace(b"lo", raw) if b"delta" in block else block for block in events.text_stream()]
    return steps(Send(head()), *(Send(chunk(block)) for block in blocks), Send(LAST_CHUNK))


@named
def gzipped() -> Mode:
    """A right stream, gzip-encoded although nobody asked for it."""
    packed = _gzip(b"".join(events.text_stream()))
    return steps(Send(head(headers=(*STREAM_HEADERS, ("content-encoding", "gzip"))) + chunk(packed) + LAST_CHUNK))


@named
def gzip_bomb(*, mib: int = 64) -> Mode:
    """A gzip stream that grows to ``mib`` MiB."""

    def play(_seen: Seen) -> list[Step]:
        packed = _gzip(b"data: " + bytes(1 << 20), mib)
        return [Send(head(headers=(*STREAM_HEADERS, ("content-encoding", "gzip"))) + chunk(packed) + LAST_CHUNK)]

    return Mode("gzip_bomb", play)


def _gzip(data: bytes, times: int = 1) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(data) for _ in range(times)]) + packer.flush()


@named
def sequence(numbers: Sequence[int] = (0, 1, 1, 5, 3)) -> Mode:
    """A right stream whose sequence numbers repeat and jump."""
    return steps(Send(head() + chunks(events.text_stream(sequence=numbers)) + LAST_CHUNK))
