"""Head and first piece leave together, every byte is counted, and closing is the connection's decision."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.outlet import Outlet


class Wire(asyncio.Transport):
    """Keeps each write apart."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return False


class Connection:
    def __init__(self) -> None:
        self.finished = 0

    def finish(self) -> None:
        self.finished += 1


def outlet() -> tuple[Outlet, Wire, Connection]:
    wire, connection = Wire(), Connection()
    return Outlet(wire, connection), wire, connection


def test_a_head_waits_for_the_first_piece_and_both_go_out_at_once() -> None:
    out, wire, _ = outlet()
    out.expects_head = True
    out.write(b"head")
    assert wire.writes == []
    out.write(b"piece")
    out.write(b"more")
    assert wire.writes == [b"headpiece", b"more"]
    assert out.written == 13


def test_an_interim_answer_goes_at_once_and_the_head_is_still_awaited() -> None:
    out, wire, _ = outlet()
    out.expects_head = True
    out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    out.write(b"head")
    out.write(b"piece")
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n", b"headpiece"]


def test_a_head_without_a_body_goes_when_flushed_and_once_only() -> None:
    out, wire, _ = outlet()
    out.expects_head = True
    out.write(b"head")
    out.flush()
    out.flush()
    assert wire.writes == [b"head"]
    assert out.written == 4


def test_closing_lets_the_head_go_and_leaves_the_end_to_the_connection() -> None:
    out, wire, connection = outlet()
    out.expects_head = True
    out.write(b"head")
    out.close()
    assert wire.writes == [b"head"]
    assert connection.finished == 1


def test_after_the_connection_has_parted_closing_reaches_nobody() -> None:
    out, _, connection = outlet()
    out.part()
    out.close()
    assert connection.finished == 0


def test_the_rest_is_the_transports() -> None:
    out, _, _ = outlet()
    assert out.get_extra_info("peername") == ("127.0.0.1", 1)
    assert out.get_extra_info("none", 7) == 7
    assert not out.is_closing()
