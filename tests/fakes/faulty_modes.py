"""Ways to misbehave on a connection and in an answer's head, and the right answers; each function returns a Mode.

The name of a mode is the call that made it (``slowhead(every_s=0.1)``), so it can be a test's id. ``after`` is always
the number of whole events that are sent before the fault (see ``faulty_events`` for what they are); ``after=0`` is the
answer's head alone. Streams are chunked, one chunk an event, unless the mode says otherwise. Faults inside a stream
are in ``faulty_streams``, statuses in ``faulty_statuses``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Literal, ParamSpec

import zstandard

from tests.fakes import faulty_events as events
from tests.fakes.faulty_wire import Fin, Gate, Hang, Mode, Pause, Reset, Seen, Send, Split, Step

P = ParamSpec("P")
Headers = Sequence[tuple[str, str]]

STREAM_HEADERS: Headers = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-request-id", "req_faulty"),
    ("x-codex-primary-used-percent", "12.5"),
    ("x-codex-primary-window-minutes", "300"),
)
LAST_CHUNK = b"0\r\n\r\n"
HANDSHAKE_FAILURE = bytes.fromhex("15030300020228")
PROTOCOL_VERSION = bytes.fromhex("15030100020246")
"""TLS alert records; the second is what a server says that knows TLS 1.0 only."""


def named(build: Callable[P, Mode]) -> Callable[P, Mode]:
    """Names the mode after the call."""

    @functools.wraps(build)
    def call(*args: P.args, **kwargs: P.kwargs) -> Mode:
        made = build(*args, **kwargs)
        given = [_short(a) for a in args] + [f"{key}={_short(value)}" for key, value in kwargs.items()]
        return Mode(f"{build.__name__}({', '.join(given)})", made.steps, made.read)

    return call


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def steps(*all_steps: Step, read: Literal["request", "head"] = "request") -> Mode:
    """A mode from steps that do not depend on the request."""
    return Mode("steps", lambda _seen: all_steps, read)


def head(
    status: int = 200,
    headers: Headers = STREAM_HEADERS,
    *,
    framing: str = "transfer-encoding: chunked",
    reason: str = "OK",
) -> bytes:
    """A response head; ``framing`` is the last line, empty for none (the body then ends with the connection)."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{k}: {v}" for k, v in headers), *([framing] if framing else [])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunks(blocks: Sequence[bytes]) -> bytes:
    return b"".join(chunk(block) for block in blocks)


def opened(after: int, parts: Sequence[str] = events.DEFAULT_TEXT) -> list[Step]:
    """Head and the first ``after`` events, each as its own write."""
    return [Send(head()), *(Send(chunk(block)) for block in events.text_stream(parts)[:after])]


# --- answers that are right -----------------------------------------------------------------------------------------


@named
def good(
    parts: Sequence[str] = events.DEFAULT_TEXT,
    *,
    headers: Headers = (),
    gate_after: int | None = None,
    gate: str = "go",
    every_s: float = 0.0,
    then_close: bool = False,
) -> Mode:
    """A normal stream. ``gate_after``: it waits for ``up.open_gate(gate)`` after so many events. ``then_close``:
    keep-alive is promised, but the connection is closed after the answer."""

    def play(seen: Seen) -> list[Step]:
        blocks = events.text_stream(parts, response_id=f"resp_{seen.number}")
        told: list[Step] = [Send(head(headers=(*STREAM_HEADERS, *headers)))]
        for position, block in enumerate(blocks):
            if position == gate_after:
                told.append(Gate(gate))
            told.append(Send(chunk(block)))
            if every_s:
                told.append(Pause(every_s))
        told.append(Send(LAST_CHUNK))
        return [*told, Fin()] if then_close else told

    return Mode("good", play)


@named
def echo() -> Mode:
    """A normal stream whose only delta is the request's ``prompt_cache_key``: proves that no answer is mixed up."""

    def play(seen: Seen) -> list[Step]:
        raw = seen.body
        if seen.header("content-encoding") == "zstd":
            raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
        text = str(json.loads(raw).get("prompt_cache_key", ""))
        return [Send(head() + chunks(events.text_stream([text], response_id=f"resp_{seen.number}")) + LAST_CHUNK)]

    return Mode("echo", play)


@named
def raw_events(blocks: Sequence[bytes], *, ends: bool = True) -> Mode:
    """A stream of exactly these blocks; ``ends=False`` then waits for the peer."""
    tail: tuple[Step, ...] = (Send(LAST_CHUNK),) if ends else (Hang(),)
    return steps(Send(head()), *(Send(chunk(block)) for block in blocks), *tail)


@named
def no_chunks() -> Mode:
    """A right answer without chunks or length: it ends with the connection."""
    return steps(Send(head(framing="") + b"".join(events.text_stream())), Fin())


# --- before or instead of an answer ---------------------------------------------------------------------------------


@named
def close_pre(*, read: Literal["request", "head"] = "request") -> Mode:
    """The connection is closed before any byte of an answer."""
    return steps(Fin(), read=read)


@named
def rst_pre(*, read: Literal["request", "head"] = "request") -> Mode:
    """The connection is reset before any byte of an answer."""
    return steps(Reset(), read=read)


@named
def hang_pre(*, read: Literal["request", "head"] = "request") -> Mode:
    """Nothing is answered, the connection stays."""
    return steps(Hang(), read=read)


@named
def slowhead(*, every_s: float = 0.25) -> Mode:
    """The head comes a byte at a time; the stream after it is right."""
    return steps(Split(head(), 1, every_s), Send(chunks(events.text_stream()) + LAST_CHUNK))


@named
def head_then_hang(*, upto: int = 20) -> Mode:
    """The first ``upto`` bytes of a head, then nothing."""
    return steps(Send(head()[:upto]), Hang())


@named
def bighdr(*, size: int = 262_144, fields: int = 1) -> Mode:
    """A head with ``size`` more bytes in ``fields`` more fields, then a right stream."""
    value = "a" * max(1, size // fields)
    extra = [(f"x-big-{n}", value) for n in range(fields)]
    return steps(Send(head(headers=(*STREAM_HEADERS, *extra)) + chunks(events.text_stream()) + LAST_CHUNK))


@named
def garbage(data: bytes = b"\x00\xff\x13\x37 this is not HTTP\r\n\r\n") -> Mode:
    """Bytes that are not HTTP, then the end."""
    return steps(Send(data), Fin())


@named
def http09() -> Mode:
    """A body without a head, as HTTP/0.9 had it."""
    return steps(Send(b"<html>hello</html>\n"), Fin())


@named
def tls_bytes(alert: bytes = HANDSHAKE_FAILURE) -> Mode:
    """A fatal TLS alert record: instead of HTTP, or (``on_client_hello``) as the answer to a handshake."""
    return steps(Send(alert), Fin())


@named
def bad_chunk(size: bytes = b"zz", *, after: int = 1) -> Mode:
    """A chunk whose size line is ``size``."""
    return steps(*opened(after), Send(size + b"\r\nx\r\n"), Hang())


@named
def informational(*codes: int) -> Mode:
    """1xx answers (100 and 103 when none is named), then a right stream."""
    first = b"".join(b"HTTP/1.1 %d Info\r\nlink: </x>; rel=preload\r\n\r\n" % code for code in codes or (100, 103))
    return steps(Send(first + head() + chunks(events.text_stream()) + LAST_CHUNK))


@named
def bodyless(code: int = 204) -> Mode:
    """204 or 304: a right head that must not have a body."""
    return steps(Send(head(code, (("x-request-id", "req_faulty"),), framing="", reason="Nothing")))


@named
def trailers() -> Mode:
    """A right stream with trailer fields after the last chunk."""
    sent = head(headers=(*STREAM_HEADERS, ("trailer", "x-sum")))
    return steps(Send(sent + chunks(events.text_stream()) + b"0\r\nx-sum: 1\r\nauthorization: Bearer evil\r\n\r\n"))


@named
def split_header(inject: bytes = b"\r\nset-cookie: evil=1", *, field: str = "x-codex-turn-state") -> Mode:
    """``inject`` stands raw inside a header value (CR LF makes a field of it; also try a bare CR, LF or NUL)."""
    sent = head().replace(b"\r\n\r\n", b"\r\n" + field.encode() + b": a" + inject + b"\r\n\r\n", 1)
    return steps(Send(sent + chunks(events.text_stream()) + LAST_CHUNK))


@named
def both_lengths() -> Mode:
    """content-length and transfer-encoding in one head: framing that must not be trusted."""
    sent = head(headers=(*STREAM_HEADERS, ("content-length", "5")))
    return steps(Send(sent + chunks(events.text_stream()) + LAST_CHUNK))


@named
def leftover(data: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nevil!", *, gate: str | None = None) -> Mode:
    """A right stream, then bytes that answer no request: with the last chunk, or when ``up.open_gate(gate)`` is
    called."""
    body = head() + chunks(events.text_stream())
    if gate is None:
        return steps(Send(body + LAST_CHUNK + data), Hang())
    return steps(Send(body + LAST_CHUNK), Gate(gate), Send(data), Hang())
