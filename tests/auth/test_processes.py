"""Real processes over one SQLite file and one issuer on a socket: one exchange per expiry, and kill -9 anywhere."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.clock import SystemClock
from store.records import AccountStatus, RefreshState
from tests.auth.worker import POINTS, open_store
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import account, credential
from tests.fakes.oauth_server import oauth_server

pytestmark = pytest.mark.slow


async def worker(**order: Any) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.auth.worker",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode())
    process.stdin.close()
    return process


async def ended(process: asyncio.subprocess.Process) -> list[str]:
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: list[str] = json.loads(out)
    return found


async def expired_accounts(path: Path, issuer: ModelIssuer, count: int) -> list[str]:
    store = await open_store(str(path))
    for number in range(1, count + 1):
        owner = account(number)
        tokens = credential(owner, SystemClock().now_s(), life_s=-1)
        await store.add_account(owner, tokens)
        issuer.knows(owner, tokens)
    await store.close()
    return [f"acc_{number}" for number in range(1, count + 1)]


@pytest.mark.fault("B31")
async def test_three_processes_with_many_requests_show_each_expired_token_once(tmp_path: Path) -> None:
    issuer = ModelIssuer(SystemClock())
    path = tmp_path / "relay.db"
    accounts = await expired_accounts(path, issuer, 4)
    async with oauth_server(issuer, delay_s=0.1) as url:
        order = {"path": str(path), "issuer": url, "accounts": accounts, "requests": 25, "tries": 3}
        processes = [await worker(**order) for _ in range(3)]
        answers = await asyncio.gather(*(ended(process) for process in processes))
    assert [set(answer) for answer in answers] == [{"version 2"}] * 3
    assert issuer.shown == {f"rt_acc_{number}_0": 1 for number in range(1, 5)}
    assert issuer.violations == []
    assert issuer.most_running == 1


@pytest.mark.fault("B37")
@pytest.mark.parametrize("point", POINTS)
async def test_kill_9_in_mid_refresh_costs_at_most_the_token_in_flight(tmp_path: Path, point: str) -> None:
    issuer = ModelIssuer(SystemClock())
    path = tmp_path / "relay.db"
    accounts = await expired_accounts(path, issuer, 2)
    async with oauth_server(issuer, delay_s=0.4 if point == "after send" else 0.0) as url:
        order = {"path": str(path), "issuer": url, "requests": 1}
        victim = await worker(**order, accounts=["acc_1"], die=point)
        await victim.communicate()
        assert victim.returncode == -signal.SIGKILL
        issuer.receiver_died()
        shown = issuer.shown.total()
        assert shown == (0 if point in {"before intent", "after intent"} else 1)
        answers = await ended(await worker(**order, accounts=accounts, tries=60))
    assert answers[1] == "version 2", "the other account is not touched"
    assert answers[0] == ("NeedsReauth" if point in {"after send", "after answer"} else "version 2")
    assert issuer.violations == []
    store = await open_store(str(path))
    kept = await store.account("acc_1")
    tokens = await store.credential("acc_1")
    await store.close()
    assert kept is not None
    assert tokens is not None
    lost = answers[0] == "NeedsReauth"
    assert kept.status is (AccountStatus.NEEDS_REAUTH if lost else AccountStatus.ACTIVE)
    assert tokens.refresh_state is (RefreshState.SPENT if lost else RefreshState.READY)
