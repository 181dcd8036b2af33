"""The worker beside the gateway: started again when it dies, gone with it, and nothing of it in the gateway."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ops.clock import SystemClock
from ops.sandbox_child import SandboxChild, with_address
from ops.settings import Settings

pytestmark = pytest.mark.slow
WAITS = "import os, sys; sys.stdin.read(); os.read(int(sys.argv[1]), 1)"


def test_the_address_is_this_gateways_unless_the_settings_say_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert with_address(Settings(), sock).sandbox.gateway_url == f"http://127.0.0.1:{port}"
        told = Settings(sandbox={"gateway_url": "https://gw.example"})
        assert with_address(told, sock).sandbox.gateway_url == "https://gw.example"


async def test_a_child_that_dies_is_started_again_and_ends_when_told() -> None:
    child = SandboxChild(Settings(), SystemClock(), (sys.executable, "-c", WAITS))

    def alive() -> int | None:
        return child.pid

    minding = asyncio.create_task(child.mind())
    async with asyncio.timeout(30):
        while child.pid is None:
            await asyncio.sleep(0.01)
        first = child.pid
        os.kill(first, 9)
        while child.starts < 2 or child.pid is None:
            await asyncio.sleep(0.05)
        second = child.pid
        assert second != first
        minding.cancel()
        await asyncio.gather(minding, return_exceptions=True)
        await child.end()
    assert alive() is None
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_the_process_that_serves_loads_no_engine() -> None:
    code = (
        "import sys, ops.main, ops.house, ops.house_late, ops.house_tasks, ops.cli.root\n"
        "print([name for name in sys.modules if name.startswith(('aiodocker', 'sandbox.docker', 'ops.house_sandbox'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.strip() == "[]"
