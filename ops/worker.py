"""One worker of several, started by ops.workers as ``python -m ops.worker``.

    argv: LISTEN_FD CONTROL_FD REPORT_FD INDEX COUNT RUN_FOLDER        standard input: the settings as JSON

It serves on the inherited socket, says once on REPORT_FD that it listens, and stops when CONTROL_FD says so or ends.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import structlog

from ops.log import configure
from ops.main import run_process
from ops.seat import Seat
from ops.settings import from_whole_json
from ops.stop import Stop
from ops.workers import counter_file, replica_of


def main(arguments: list[str]) -> int:
    """The exit code: 0 after an orderly end, 1 when the start was refused."""
    listen_fd, control_fd, report_fd, index, count = (int(word) for word in arguments[:5])
    settings = from_whole_json(sys.stdin.buffer.read())
    sink = configure(settings.log.level, settings.log.format)
    structlog.contextvars.bind_contextvars(worker=index)  # on every line of this process
    sock = socket.socket(fileno=listen_fd)
    sock.setblocking(False)

    def listen_for_stop(stop: Stop) -> None:
        stop.on_pipe(control_fd)

    def report() -> None:
        os.write(report_fd, b"1")

    folder = Path(arguments[5])
    seat = Seat(index, count, counter_file(folder), replica_of(folder))
    return run_process(settings, seat, sock, sink, listen_for_stop, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
