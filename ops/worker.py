"""One worker of several, started by ops.workers as ``python -m ops.worker``.

    argv: LISTEN_FD CONTROL_FD REPORT_FD INDEX COUNT [CONFIG]

It reads the settings again, serves on the inherited socket, says once on REPORT_FD that it listens, and stops when
CONTROL_FD says so or ends.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from ops.house import Seat
from ops.log import configure
from ops.main import run_process
from ops.settings import SettingsError, load
from ops.stop import Stop


def main(arguments: list[str]) -> int:
    listen_fd, control_fd, report_fd, index, count = (int(word) for word in arguments[:5])
    path = Path(arguments[5]) if len(arguments) > 5 else None
    try:
        settings = load(path)
    except SettingsError as error:
        print(f"codex-relay: {error}", file=sys.stderr)  # noqa: T201 - the operator's terminal
        return 1
    server = settings.server.model_copy(update={"workers": count})
    settings = settings.model_copy(update={"server": server})
    configure(settings.log.level, settings.log.format)
    sock = socket.socket(fileno=listen_fd)
    sock.setblocking(False)

    def listen_for_stop(stop: Stop) -> None:
        stop.on_pipe(control_fd)

    def report() -> None:
        os.write(report_fd, b"1")

    return run_process(settings, Seat(index, count), sock, listen_for_stop, report)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
