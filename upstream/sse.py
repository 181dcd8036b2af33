"""Where does an event end, and which one is it?

Rules that hold:

* bytes are cut at event boundaries and otherwise left alone: what is forwarded is what the upstream wrote;
* a boundary is an empty line, with LF, CRLF and CR as line ends in any mix; the network may cut anywhere, inside a
  UTF-8 sequence or between CR and LF;
* half an event is never given out; an event larger than the cap is an error, however it was cut;
* a byte order mark is taken off the start of a stream, so that bytes of ours may go before it;
* JSON is decoded only when a substring test says that it is worth it, and never to forward an event;
* the type of an event is its ``data.type``, as the Codex CLI reads it; the ``event:`` line is the fallback.

Pure: no clock, no I/O. Framing after https://html.spec.whatwg.org/multipage/server-sent-events.html (``id`` and
``retry`` mean nothing to a relay and are forwarded unread).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

from upstream.errors import FaultKind, UpstreamError

TERMINAL_TYPES: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "error"})

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
# A line end and the empty line after it; atomic, or CR and LF of one line end would count as two.
_BOUNDARY: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_TYPE_LEAD: Final = b'{"type":"'
_TERMINAL_WORDS: Final = (b'"response"', b'"error"')
# the terminal event as the backend writes it: one data line whose type comes first
_PLAIN_TERMINAL: Final = re.compile(
    rb'(?:^|\n)data: ?(?=\{"type":"(response\.completed|response\.failed|response\.incomplete|error)")(\{)'
)
_SEQUENCE: Final = re.compile(rb'"sequence_number"\s*:\s*(\d{1,18})')


class _Typed(msgspec.Struct):
    type: str = ""


_TYPED: Final = msgspec.json.Decoder(_Typed)


class RawEvent(NamedTuple):
    """One event as the upstream wrote it.

    ``raw`` is all of its bytes with the empty line; ``name`` its ``event:`` field ("" without one); ``data`` its
    ``data:`` lines joined with LF (b"" when it has none: a comment or a keep-alive).
    """

    raw: bytes
    name: str
    data: bytes

    @property
    def type(self) -> str:
        """``data.type``, else the name of the event, else ""."""
        return event_type(self.data) or self.name


class Terminal(NamedTuple):
    """The event that ends a response. ``data`` is its JSON; ``end`` its offset behind it in the block."""

    type: str
    data: bytes
    end: int


class EventFramer:
    """Cuts a byte stream at event boundaries.

    ``max_event_bytes`` bounds one event, and with it what is ever held.
    """

    __slots__ = ("_flowing", "_held", "_max", "_started")

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._held = bytearray()
        self._started = False
        self._flowing = False  # started, and nothing is held: the next chunk may pass untouched

    @property
    def held(self) -> int:
        """Bytes of the unfinished event."""
        return len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """The longest run of whole events that is now known, b"" when none ended.

        A chunk that ends an event when nothing is held is returned itself. Raises UpstreamError(EVENT_TOO_LARGE);
        the framer must not be fed again then.
        """
        if self.passes(chunk):
            return chunk
        if not self._started and chunk.endswith(b"\n\n") and not self._held and not chunk.startswith(_BOM[:1]):
            self._started = self._flowing = len(chunk) <= self._max
            if self._flowing:
                return chunk  # the usual first read: whole events from its first byte on
        return self._feed(chunk)

    def passes(self, chunk: bytes) -> bool:
        """Whether ``feed`` would return this chunk itself and stay as it is."""
        return self._flowing and chunk.endswith(b"\n\n") and len(chunk) <= self._max

    def _feed(self, chunk: bytes) -> bytes:
        held = self._held
        seen = len(held)
        held += chunk
        if not self._started:
            seen = 0
            if len(held) < len(_BOM) and _BOM.startswith(held):
                return b""
            self._started = True
            if held.startswith(_BOM):
                del held[: len(_BOM)]
        cut = _last_boundary(held, seen)
        if len(held) > self._max:
            self._check_sizes(cut)
        self._flowing = cut == len(held)
        if not cut:
            return b""
        if self._flowing:
            out = bytes(held)
            held.clear()
            return out
        out = bytes(memoryview(held)[:cut])
        del held[:cut]
        return out

    def _check_sizes(self, cut: int) -> None:
        held = self._held
        largest = len(held) - cut
        start = 0
        for match in _BOUNDARY.finditer(held, 0, cut):
            largest = max(largest, match.end() - start)
            start = match.end()
        if largest > self._max:
            raise UpstreamError(FaultKind.EVENT_TOO_LARGE, f"an event of more than {self._max} bytes")


def _last_boundary(held: bytearray, seen: int) -> int:
    """The offset behind the last empty line; the bytes before ``seen`` are known to hold none."""
    start = max(seen - 1, 0)
    last = max(held.rfind(b"\n\n", start), held.rfind(b"\n\r", start), held.rfind(b"\r\r", start))
    if last >= 0:
        cut = last + 2
        # CRLF is one line end: its LF belongs to the boundary that its CR made
        return cut + 1 if held[last + 1] == 0x0D and held[cut : cut + 1] == b"\n" else cut
    # right behind a boundary a line end is an empty line by itself (the LF of a CRLF that was cut in two)
    if held[:2] == b"\r\n":
        return 2
    return 1 if held.startswith((b"\n", b"\r")) else 0


def split_events(block: bytes) -> list[RawEvent]:
    """The events of a block of whole events, in order; their ``raw`` joined is the block."""
    ends = _lf_ends(block) if b"\r" not in block else [match.end() for match in _BOUNDARY.finditer(block)]
    if not ends or ends[-1] != len(block):
        ends.append(len(block))
    events = []
    start = 0
    for end in ends:
        if end > start:
            events.append(_parse(block[start:end]))
        start = end
    return events


def _lf_ends(block: bytes) -> list[int]:
    ends = []
    at = block.find(b"\n\n")
    while at >= 0:
        ends.append(at + 2)
        at = block.find(b"\n\n", at + 2)
    return ends


def _parse(raw: bytes) -> RawEvent:
    name = ""
    data: list[bytes] = []
    for line in _LINE_END.split(raw) if b"\r" in raw else raw.split(b"\n"):
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
    return RawEvent(raw, name, data[0] if len(data) == 1 else b"\n".join(data))


def event_type(data: bytes) -> str:
    """``data.type`` of an event's JSON, "" when it has none or is no JSON object."""
    if data.startswith(_TYPE_LEAD):
        end = data.find(b'"', len(_TYPE_LEAD))
        found = data[len(_TYPE_LEAD) : end]
        if end > 0 and b"\\" not in found:
            return found.decode(errors="replace")
    try:
        return _TYPED.decode(data).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def is_plain(block: bytes) -> bool:
    """True when no event of the block can end a response or carry anything encrypted: three substring tests.

    Inside a text that a model wrote the quotes of these words are escaped. (``find``, because ``in`` first takes its
    left side for a number, and forms the message of the error that this makes.)
    """
    find = block.find
    return find(b'"response"') < 0 and find(b'"error"') < 0 and find(b'"encrypted_content"') < 0


def find_terminal(block: bytes) -> Terminal | None:
    """The first event of the block that ends a response, or None.

    Costs two substring tests when there is none: every terminal event has a ``response`` or an ``error`` in it, and
    inside a text that a model wrote their quotes are escaped. The type of the event decides.
    """
    if block.find(b'"response"') < 0 and block.find(b'"error"') < 0:
        return None
    last = _PLAIN_TERMINAL.search(block, max(0, block.rfind(b"\n\n", 0, -2)))
    if last is not None and block.endswith(b"\n\n") and block.find(b"\n", last.end()) == len(block) - 2:
        return Terminal(last[1].decode("ascii"), block[last.start(2) : -2], len(block))
    if block.find(b"\r") >= 0:
        return _first_terminal(block)
    at = _next_word(block, 0)
    while at >= 0:
        start = block.rfind(b"\n\n", 0, at)
        start = 0 if start < 0 else start + 2
        end = block.find(b"\n\n", at)
        end = len(block) if end < 0 else end + 2
        event = _parse(block[start:end])
        kind = event.type
        if event.data and kind in TERMINAL_TYPES:
            return Terminal(kind, event.data, end)
        at = _next_word(block, end)
    return None


def _next_word(block: bytes, start: int) -> int:
    """Where the first word stands that a terminal event cannot do without; -1 for nowhere."""
    found = -1
    for word in _TERMINAL_WORDS:
        at = block.find(word, start)
        if at >= 0 and (found < 0 or at < found):
            found = at
    return found


def _first_terminal(block: bytes) -> Terminal | None:
    end = 0
    for event in split_events(block):
        end += len(event.raw)
        if event.data:
            kind = event.type
            if kind in TERMINAL_TYPES:
                return Terminal(kind, event.data, end)
    return None


def sequence_numbers(block: bytes) -> list[int]:
    """The ``sequence_number`` of each event in the block that carries one, in order.

    A model's text cannot be mistaken for it: inside a JSON string its quotes are escaped.
    """
    return [int(digits) for digits in _SEQUENCE.findall(block)]


def last_sequence_number(block: bytes) -> int | None:
    """The ``sequence_number`` of the last event in the block that carries one."""
    at = block.rfind(b'"sequence_number"')
    while at >= 0:
        match = _SEQUENCE.match(block, at)
        if match is not None:
            return int(match[1])
        at = block.rfind(b'"sequence_number"', 0, at)
    return None


def count_numbered(block: bytes) -> int:
    """How many events of the block carry a ``sequence_number`` (in the common form); cheaper than reading them."""
    return block.count(b'"sequence_number":')
