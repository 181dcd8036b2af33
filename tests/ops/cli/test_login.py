"""``accounts login`` against the simulated issuer, and ``accounts remove``, which ends the login there."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import pytest

from auth.callback import REDIRECT_URI
from ops.simulator import RunningSimulator, SimulatorConfig, approve, decide_by_url, deny, running_simulator
from tests.ops.cli.conftest import Cli
from tests.ops.cli.test_account_acts import cli_for

QUICK = SimulatorConfig(device_interval_s=1)


async def waiting_code(sim: RunningSimulator) -> str:
    await sim.state.until(lambda: bool(sim.state.device_logins))
    return next(iter(sim.state.device_logins.values())).user_code


async def test_a_device_login_brings_the_account_in(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator(QUICK) as sim:
        cli = cli_for(sim, make_cli)
        owner = sim.state.new_account(email="owner@example.com")["tokens"]
        arguments = ("accounts", "login", "--label", "mine", "--pool", "team", "--expect", "Owner@Example.com")
        command = asyncio.create_task(asyncio.to_thread(cli.run, *arguments))
        code = await waiting_code(sim)
        approve(sim.state, code, owner["account_id"])
        done = await command
        assert code in done.stderr
        assert f"{sim.issuer}/codex/device" in done.stderr
        assert "mine (acc_" in done.stderr
        [account] = await asyncio.to_thread(cli.json, "accounts", "list")
        assert (account["label"], account["pool"], account["email"]) == ("mine", "team", "owner@example.com")
        records = await asyncio.to_thread(cli.json, "audit", "search", "--action", "account.login.*")
        assert [one["action"] for one in records] == ["account.login.begin", "account.login.done"]
        for secret in (sim.state.accounts[owner["account_id"]].refresh_token, owner["access_token"]):
            assert secret not in done.output + str(records)
        assert sim.state.counts["code_presentations"] == 1


@pytest.mark.parametrize("how", ["denied", "another"])
async def test_a_login_that_fails_says_why_and_stores_nothing(make_cli: Callable[..., Cli], how: str) -> None:
    async with running_simulator(QUICK) as sim:
        cli = cli_for(sim, make_cli)
        arguments = ("accounts", "login", "--expect", "owner@example.com")
        command = asyncio.create_task(asyncio.to_thread(cli.run, *arguments, code=1))
        code = await waiting_code(sim)
        if how == "denied":
            deny(sim.state, code)
        else:
            approve(sim.state, code)
        done = await command
        assert ("access_denied" if how == "denied" else "another account") in done.stderr
        assert await asyncio.to_thread(cli.json, "accounts", "list") == []
        assert sim.state.counts["revocations"] == (how == "another")


async def test_the_address_of_another_login_is_refused_and_going_away_cancels(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        wrong = f"{REDIRECT_URI}?{urlencode({'code': 'x', 'state': 'of another'})}\n"
        begun = await asyncio.to_thread(cli.run, "accounts", "login", "--callback", code=1, stdin=wrong)
        assert "another login" in begun.stderr
        assert "Aborted" in begun.stderr
        [cancelled] = await asyncio.to_thread(cli.json, "audit", "search", "--action", "account.login.cancelled")
        assert cancelled["actor"].startswith("cli:")
        assert await asyncio.to_thread(cli.json, "accounts", "list") == []
        assert sim.state.counts["code_presentations"] == 0


async def start(cli: Cli, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops.cli", *arguments),
        env={"PATH": os.environ["PATH"], "HOME": str(cli.folder), **cli.environment},
        cwd=Path(__file__).parents[3],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.slow
async def test_a_browser_login_at_a_real_terminal(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        owner = sim.state.new_account(email="owner@example.com")["tokens"]["account_id"]
        process = await start(cli, "accounts", "login", "--callback")
        assert process.stdin is not None
        assert process.stderr is not None
        url = ""
        while not url.startswith(sim.issuer):
            url = (await process.stderr.readline()).decode().strip()
        callback = decide_by_url(sim.state, url, owner, approve=True)
        _, err = await process.communicate(f"{callback}\n".encode())
        assert process.returncode == 0, err
        assert b"owner@example.com (acc_" in err
        [account] = await asyncio.to_thread(cli.json, "accounts", "list")
        assert account["email"] == "owner@example.com"


@pytest.mark.slow
async def test_interrupting_cancels_the_login(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator() as sim:
        cli = cli_for(sim, make_cli)
        process = await start(cli, "accounts", "login")
        assert process.stderr is not None
        shown = b""
        while not re.search(rb"ctrl-C", shown):
            shown += await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        [cancelled] = await asyncio.to_thread(cli.json, "audit", "search", "--action", "account.login.cancelled")
        assert cancelled["outcome"] == "ok"


async def test_removing_an_account_ends_its_login_at_the_issuer(make_cli: Callable[..., Cli]) -> None:
    async with running_simulator(QUICK) as sim:
        cli = cli_for(sim, make_cli)
        command = asyncio.create_task(asyncio.to_thread(cli.json, "accounts", "login", "--label", "mine"))
        approve(sim.state, await waiting_code(sim))
        assert (await command)["state"] == "done"
        gone = await asyncio.to_thread(cli.json, "accounts", "remove", "mine", "--yes")
        assert gone["revoked"] is True
        [account] = sim.state.accounts.values()
        assert sim.state.refresh_tokens[account.refresh_token].state == "invalidated"
