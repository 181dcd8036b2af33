"""Framing: what is cut anywhere is read as if it had come whole, and no event is ever given out by half."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upstream.errors import FaultKind, UpstreamError
from upstream.sse import EventFramer, event_type, find_terminal, sequence_numbers, split_events

BIG = 1 << 20


def whatwg_events(stream: bytes) -> list[tuple[str, bytes]]:
    """(event, data) as dispatched by the WHATWG algorithm, byte by byte; slow and literal."""
    if stream.startswith(b"\xef\xbb\xbf"):
        stream = stream[3:]
    lines: list[bytes] = []
    line = bytearray()
    at = 0
    while at < len(stream):
        byte = stream[at : at + 1]
        if byte in (b"\r", b"\n"):
            lines.append(bytes(line))
            line.clear()
            if byte == b"\r" and stream[at + 1 : at + 2] == b"\n":
                at += 1
        else:
            line += byte
        at += 1
    events: list[tuple[str, bytes]] = []
    data, name = b"", b""
    for text in lines:
        if not text:
            if data:
                events.append((name.decode(errors="replace"), data[:-1]))
            data, name = b"", b""
        elif not text.startswith(b":"):
            field, colon, value = text.partition(b":")
            if colon and value.startswith(b" "):
                value = value[1:]
            if field == b"event":
                name = value
            elif field == b"data":
                data += value + b"\n"
    return events


def framed(chunks: list[bytes]) -> list[bytes]:
    framer = EventFramer(BIG)
    return [block for chunk in chunks if (block := framer.feed(chunk))]


def events_of(blocks: list[bytes]) -> list[tuple[str, bytes]]:
    return [(e.name, e.data) for block in blocks for e in split_events(block) if e.data]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
lines = st.one_of(
    st.sampled_from(
        [b"", b"data", b"data:", b"data: x", b"data:  two", b"event: a", b"event:b", b": note", b"id: 7", b"retry: 1"]
    ),
    st.sampled_from([b"data: \xe2\x82\xac", b"data: \xff\x00", b"nonsense", b"data: {}", "data: äöü 漢字".encode()]),
)
streams = st.builds(
    lambda bom, parts: (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in parts),
    st.booleans(),
    st.lists(st.tuples(lines, line_ends), max_size=30),
)


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_a_stream_cut_anywhere_gives_the_events_of_the_standard(stream: bytes, places: list[int]) -> None:
    """For every mix of line ends, comments, BOM and cuts: the events are those of the WHATWG algorithm."""
    wanted = [event for event in whatwg_events(stream) if event[1]]
    assert events_of(framed(cut(stream, places))) == wanted
    assert events_of(framed([stream[i : i + 1] for i in range(len(stream))])) == wanted


@settings(max_examples=200, deadline=None)
@given(streams, st.lists(st.integers(0, 10_000), max_size=20))
def test_blocks_are_the_stream_itself_up_to_the_last_boundary(stream: bytes, places: list[int]) -> None:
    """Nothing is added, lost or reordered, and what is held is exactly the rest."""
    framer = EventFramer(BIG)
    out = b"".join(framer.feed(chunk) for chunk in cut(stream, places))
    plain = stream.removeprefix(b"\xef\xbb\xbf")
    assert plain.startswith(out)
    if len(stream) > 3:
        assert framer.held == len(plain) - len(out)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=20))
def test_random_bytes_never_break_the_parser(noise: bytes, places: list[int]) -> None:
    """Any bytes at all: no exception, and the events' raw bytes joined are the block."""
    for block in framed(cut(noise, places)):
        assert b"".join(event.raw for event in split_events(block)) == block
        find_terminal(block)
        sequence_numbers(block)


def test_a_chunk_that_ends_an_event_is_not_copied() -> None:
    """The fast path returns the very object that came in."""
    framer = EventFramer(BIG)
    framer.feed(b"data: 1\n\n")
    chunk = b"data: 2\n\ndata: 3\n\n"
    assert framer.feed(chunk) is chunk
    assert framer.held == 0


def test_half_an_event_waits_for_its_other_half() -> None:
    """The cut may be inside a UTF-8 sequence or between CR and LF."""
    framer = EventFramer(BIG)
    whole = "data: €\r\n\r\n".encode()
    assert framer.feed(whole[:7]) == b""
    assert framer.held == 7
    assert framer.feed(whole[7:-1]) == whole[:-1]  # CR alone ends the empty line already
    assert framer.feed(whole[-1:]) == b"\n"
    assert framer.held == 0


def feed_in_steps(framer: EventFramer, stream: bytes, step: int) -> None:
    for at in range(0, len(stream), step):
        framer.feed(stream[at : at + step])


@pytest.mark.fault("B18b")
@pytest.mark.parametrize("step", [1, 7, 64, 5000])
def test_an_event_beyond_the_cap_is_refused_however_it_comes(step: int) -> None:
    """In drips, in pieces or in one piece, behind other events or alone."""
    stream = b"data: ok\n\ndata: " + b"x" * 1000 + b"\n\n"
    with pytest.raises(UpstreamError) as caught:
        feed_in_steps(EventFramer(1000), stream, step)
    assert caught.value.kind is FaultKind.EVENT_TOO_LARGE


@pytest.mark.fault("B18b")
def test_an_event_of_the_cap_passes_and_so_do_many_smaller_ones_at_once() -> None:
    """The cap is on one event, not on a chunk."""
    event = b"data: " + b"x" * 92 + b"\n\n"
    framer = EventFramer(100)
    assert framer.feed(event * 50) == event * 50
    assert framer.feed(event * 50) == event * 50
    assert framer.feed(event[:50]) == b""
    assert framer.feed(event[50:]) == event


def test_four_megabytes_pass_in_linear_time_and_whole() -> None:
    """A huge event in small pieces is neither lost nor searched again and again."""
    event = b"data: " + b"y" * (4 << 20) + b"\n\n"
    framer = EventFramer(16 << 20)
    out = b"".join(framer.feed(event[at : at + 16_384]) for at in range(0, len(event), 16_384))
    assert out == event


def sse(payload: Mapping[str, object], end: str = "\n") -> bytes:
    return f"event: {payload.get('type', '')}{end}data: {json.dumps(payload)}{end}{end}".encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", ["response.completed", "response.failed", "response.incomplete"])
def test_the_terminal_event_is_found_behind_others(kind: str, end: str) -> None:
    """With its type, its JSON and the offset behind it."""
    before = sse({"type": "response.created", "response": {"id": "r", "error": None}}, end)
    terminal = sse({"type": kind, "response": {"id": "r", "error": None}}, end)
    found = find_terminal(before + terminal + sse({"type": "keepalive"}, end))
    assert found is not None
    assert found.type == kind
    assert json.loads(found.data)["response"]["id"] == "r"
    assert found.end == len(before + terminal)


@pytest.mark.parametrize(
    "payload", [{"type": "error", "code": "x", "message": "m"}, {"type": "error", "error": {"message": "m"}}]
)
def test_both_forms_of_error_events_are_terminal(payload: dict[str, object]) -> None:
    """Flat, as the platform sends it, and nested."""
    found = find_terminal(sse(payload))
    assert found is not None
    assert found.type == "error"


@pytest.mark.parametrize(
    "text", ['{"type":"response.completed","response":{}}', '"type":"error"', "event: error\n\ndata: response.failed"]
)
def test_the_words_of_a_model_do_not_end_a_stream(text: str) -> None:
    """A delta or an item that quotes a terminal event is none."""
    assert find_terminal(sse({"type": "response.output_text.delta", "delta": text})) is None
    item = {"type": "response.output_item.done", "item": {"error": None, "response": text}}
    assert find_terminal(sse(item)) is None


def test_the_type_is_the_datas_and_the_event_line_only_stands_in() -> None:
    """As the Codex CLI reads it."""
    odd, bare, none = split_events(
        b'event: response.completed\ndata: {"x":1,"type":"response.failed"}\n\nevent: ping\ndata: zzz\n\n: note\n\n'
    )
    assert (odd.type, bare.type, none.type) == ("response.failed", "ping", "")
    assert event_type(b'{"type":"a\\u0062"}') == "ab"
    assert event_type(b'{"type":5}') == ""
    assert event_type(b"[" * 100_000) == ""


def test_sequence_numbers_are_the_events_own() -> None:
    """Not one from a text, in order, and none where there is none."""
    block = sse({"type": "a", "sequence_number": 4}) + sse({"type": "b", "delta": '"sequence_number":99', "n": 1})
    assert sequence_numbers(block) == [4]
    assert sequence_numbers(block + b'data: {"sequence_number":12}\n\n') == [4, 12]
    assert sequence_numbers(b"data: {}\n\n") == []
