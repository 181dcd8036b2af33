"""What the Codex CLI is given: its environment, its arguments, its output and its signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from ops.codex_child import (
    TASK_LINK,
    Ways,
    child_arguments,
    child_environment,
    prints_links,
    run_child,
)
from store.records import Secret

WAYS = Ways(Secret("http://codex:pw@127.0.0.1:5"), Secret("at-token"), Path("/tmp/ca.pem"))
LINKS = "https://relay.example/console/tasks/"


def test_the_users_environment_stays_but_for_what_leads_elsewhere() -> None:
    users = {
        "PATH": "/bin", "CODEX_HOME": "/home/me/.codex", "CODEX_RELAY_KEY": "at-cr-1", "CODEX_API_KEY": "sk-1",
        "CODEX_AUTHAPI_BASE_URL": "https://elsewhere", "HTTPS_PROXY": "http://corp:3128", "OPENAI_API_KEY": "sk-mine",
    }  # fmt: skip
    child = child_environment(users, WAYS)
    assert child == {
        "PATH": "/bin",
        "CODEX_HOME": "/home/me/.codex",
        "OPENAI_API_KEY": "sk-mine",
        "HTTPS_PROXY": "http://codex:pw@127.0.0.1:5",
        "https_proxy": "http://codex:pw@127.0.0.1:5",
        "NO_PROXY": "localhost,127.0.0.1,::1",
        "no_proxy": "localhost,127.0.0.1,::1",
        "CODEX_ACCESS_TOKEN": "at-token",
        "CODEX_CA_CERTIFICATE": "/tmp/ca.pem",
    }


@pytest.mark.parametrize(
    "entry", ["*", "chatgpt.com", ".chatgpt.com", "*.openai.com", "OpenAI.com", "com", "chatgpt.com:443", "."]
)
def test_no_exception_of_the_users_leads_past_the_proxy(entry: str) -> None:
    child = child_environment({"no_proxy": f"internal.example, {entry} ,10.0.0.0/8"}, WAYS)
    assert child["NO_PROXY"] == child["no_proxy"] == "internal.example,10.0.0.0/8,localhost,127.0.0.1,::1"


def test_commands_of_the_model_get_the_users_own_proxy_and_no_token() -> None:
    users = {"https_proxy": "http://corp:3128", "NO_PROXY": 'a"b', "no_proxy": "c"}
    given = child_arguments(("exec", "hi"), users, LINKS)
    assert given[-2:] == ["exec", "hi"]
    settings = given[1:-2:2]
    assert given[0:-2:2] == ["-c"] * len(settings)
    assert 'model_provider="openai"' in settings
    policy = [one.removeprefix("shell_environment_policy.set.") for one in settings if one.startswith("shell_")]
    assert policy == [
        'CODEX_ACCESS_TOKEN=""',
        'HTTPS_PROXY="http://corp:3128"',
        'https_proxy="http://corp:3128"',
        'NO_PROXY="a\\u0022b"',
        'no_proxy="c"',
    ]


def test_a_proxy_with_a_password_is_not_put_where_everybody_can_read_it() -> None:
    given = child_arguments((), {"HTTPS_PROXY": "http://me:pw@corp:3128"}, LINKS)
    assert "pw" not in " ".join(given)


def test_a_link_to_a_task_becomes_its_id() -> None:
    assert child_arguments(("cloud", "diff", f"{LINKS}task_e_1"), {}, LINKS)[-3:] == ["cloud", "diff", "task_e_1"]


def test_links_are_printed_by_three_commands() -> None:
    assert [prints_links(("cloud", one)) for one in ("exec", "list", "status", "diff", "apply")] == [True] * 3 + [
        False
    ] * 2
    assert not any(prints_links(one) for one in ((), ("cloud",), ("exec", "list"), ("apply", "exec")))


async def run(script: str, links: str | None = None, environment: dict[str, str] | None = None) -> int:
    return await run_child(sys.executable, ("-c", script), environment or {"PATH": os.environ["PATH"]}, links)


@pytest.mark.slow
async def test_the_exit_code_is_the_childs() -> None:
    assert await run("raise SystemExit(7)") == 7
    assert await run("import os, signal; os.kill(os.getpid(), signal.SIGTERM)") == 128 + signal.SIGTERM


@pytest.mark.slow
async def test_a_program_that_cannot_be_started_is_said() -> None:
    with pytest.raises(OSError):
        await run_child("/nonexistent/codex", (), {}, None)


@pytest.mark.slow
async def test_links_are_rewritten_wherever_the_output_is_cut(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = (
        "import sys, time\n"
        f"text = b'\\xff one {TASK_LINK.decode()}t1 two {TASK_LINK.decode()}t2 {TASK_LINK.decode()[:20]}'\n"
        "for n in range(len(text)):\n"
        "    sys.stdout.buffer.write(text[n:n+1]); sys.stdout.buffer.flush()\n"
        "    if n % 16 == 0: time.sleep(0.002)\n"
    )
    assert await run(script, LINKS) == 0
    expected = f" one {LINKS}t1 two {LINKS}t2 {TASK_LINK.decode()[:20]}".encode()
    assert capfdbinary.readouterr().out == b"\xff" + expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_signal_to_us_is_one_to_the_child(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = (
        "import signal, sys, time, pathlib\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "time.sleep(30)\n"
    )
    running = asyncio.create_task(run(script))
    async with asyncio.timeout(20):
        while not ready.exists():
            await asyncio.sleep(0.02)
    os.kill(os.getpid(), number)
    assert await running == 42


@pytest.mark.slow
async def test_a_cancelled_run_leaves_no_child(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"import os, time, pathlib\npathlib.Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(30)\n"
    running = asyncio.create_task(run(script))
    async with asyncio.timeout(20):
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.02)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
