"""``codex-relay demo``: the main job on embedded defaults, and a clean end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.ops.processes import COMMAND, command

pytestmark = pytest.mark.slow


async def test_the_demo_streams_one_request_and_says_who_answered(tmp_path: Path) -> None:
    """Exit code 0; account, request id and count of events are printed; nothing is left in the folder."""
    ran = await command(tmp_path, "demo", "--once")
    assert ran.code == 0, ran.err
    account = re.search(r"^account +(acc_\w+) \(one of (.+)\)$", ran.out, re.MULTILINE)
    assert account is not None
    assert account[1] in account[2].split(", ")
    assert len(account[2].split(", ")) == 3
    assert re.search(r"^request +req_\w+$", ran.out, re.MULTILINE)
    events = re.search(r"^events +(\d+), the last of them response\.completed$", ran.out, re.MULTILINE)
    assert events is not None
    assert int(events[1]) > 24
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["streaming", "standing"])
async def test_a_signal_ends_a_demo_cleanly(tmp_path: Path, number: signal.Signals, when: str) -> None:
    """While it streams and while it stands: no traceback, no folder left behind, and the end comes soon."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "demo",
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    wanted = b"client " if when == "streaming" else b"stop "
    out = b""
    try:
        async with asyncio.timeout(20):
            while wanted not in out:
                line = await process.stdout.readline()
                assert line, out
                out += line
            if when == "standing":
                key = re.search(rb"^key +(\S+)$", out, re.MULTILINE)
                url = re.search(rb"^base_url +(\S+)$", out, re.MULTILINE)
                assert key is not None
                assert url is not None
                headers = {"authorization": f"Bearer {key[1].decode()}"}
                async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
                    assert (await client.get(f"{url[1].decode()}/models")).status_code == 200
            os.killpg(process.pid, number)
            rest, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"Traceback" not in out + rest + err
    assert b"Exception" not in err
    assert process.returncode == (0 if when == "standing" else 130)
    assert list(tmp_path.iterdir()) == []


async def test_a_demo_on_a_taken_port_says_so_in_one_line(tmp_path: Path) -> None:
    """Exit code 1 and the port's number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = await command(tmp_path, "demo", "--once", "--port", port)
    assert ran.code == 1
    assert port in ran.err
    assert "Traceback" not in ran.err
