"""Refreshing with Redis as the durable store: any order of events, real processes, kill -9 on both sides."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from auth.refresh import RefreshStore
from ops.clock import SystemClock
from store.records import AccountStatus, RefreshState
from store.redis_store import RedisStore
from store.vault import KeyRing, Vault
from tests.auth.rig import settle
from tests.auth.test_processes import ended, worker
from tests.auth.test_refresh_machine import EXAMPLES, RefreshMachine, run_machine
from tests.auth.worker import KEY, POINTS
from tests.fakes.issuer import ModelIssuer
from tests.fakes.logins import account, credential
from tests.fakes.oauth_server import oauth_server
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.slow
_PREFIXES = itertools.count()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


async def opened(url: str, **options: Any) -> RedisStore:
    values = {"prefix": "codex-relay", "timeout_s": 5.0, **options}
    return await RedisStore.open(url, Vault(KeyRing([KEY])), **values)


def machine_on(url: str) -> type[RefreshMachine]:
    class RedisRefreshMachine(RefreshMachine):
        """Every run under a prefix of its own; the answers of a real server need a little real time."""

        async def open_store(self) -> RefreshStore:
            self.redis = await opened(url, prefix=f"run-{next(_PREFIXES)}", clock=self.clock)
            return self.redis

        async def close_store(self) -> None:
            if self.rigs:
                await self.redis.close()

        async def let_run(self) -> None:
            for _ in range(6):
                await settle(5)
                await self.redis.credential("acc_1")

    return RedisRefreshMachine


@pytest.mark.fault("B31")
@pytest.mark.fault("B55")
def test_no_order_of_events_over_redis_shows_a_token_against_the_rules(server: RedisServer) -> None:
    run_machine(machine_on(server.url), max(5, EXAMPLES // 8), 12)


async def expired_accounts(url: str, issuer: ModelIssuer, count: int) -> list[str]:
    store = await opened(url)
    for number in range(1, count + 1):
        owner = account(number)
        tokens = credential(owner, SystemClock().now_s(), life_s=-1)
        await store.add_account(owner, tokens)
        issuer.knows(owner, tokens)
    await store.close()
    return [f"acc_{number}" for number in range(1, count + 1)]


@pytest.mark.fault("B31")
async def test_processes_that_share_a_redis_show_each_expired_token_once(server: RedisServer) -> None:
    issuer = ModelIssuer(SystemClock())
    accounts = await expired_accounts(server.url, issuer, 4)
    async with oauth_server(issuer, delay_s=0.1) as url:
        order = {"path": server.url, "issuer": url, "accounts": accounts, "requests": 25, "tries": 3}
        processes = [await worker(**order) for _ in range(2)]
        answers = await asyncio.gather(*(ended(process) for process in processes))
    assert [set(answer) for answer in answers] == [{"version 2"}] * 2
    assert issuer.shown == {f"rt_acc_{number}_0": 1 for number in range(1, 5)}
    assert issuer.violations == []
    assert issuer.most_running == 1


@pytest.mark.fault("B37")
@pytest.mark.parametrize("point", POINTS)
async def test_kill_9_of_a_replica_costs_at_most_the_token_in_flight(server: RedisServer, point: str) -> None:
    issuer = ModelIssuer(SystemClock())
    accounts = await expired_accounts(server.url, issuer, 2)
    async with oauth_server(issuer, delay_s=0.4 if point == "after send" else 0.0) as url:
        order = {"path": server.url, "issuer": url, "requests": 1}
        victim = await worker(**order, accounts=["acc_1"], die=point)
        await victim.communicate()
        assert victim.returncode == -signal.SIGKILL
        issuer.receiver_died()
        assert issuer.shown.total() == (0 if point in {"before intent", "after intent"} else 1)
        server.kill()  # and the server with it: what it said yes to is on the disk
        server.start()
        answers = await ended(await worker(**order, accounts=accounts, tries=60))
    lost = point in {"after send", "after answer"}
    assert answers == ["NeedsReauth" if lost else "version 2", "version 2"]
    assert issuer.violations == []
    store = await opened(server.url)
    kept, tokens = await store.account("acc_1"), await store.credential("acc_1")
    await store.close()
    assert kept is not None
    assert tokens is not None
    assert kept.status is (AccountStatus.NEEDS_REAUTH if lost else AccountStatus.ACTIVE)
    assert tokens.refresh_state is (RefreshState.SPENT if lost else RefreshState.READY)


@pytest.mark.fault("B38")
async def test_a_server_that_dies_in_mid_exchange_gets_the_tokens_when_it_is_back(server: RedisServer) -> None:
    issuer = ModelIssuer(SystemClock())
    accounts = await expired_accounts(server.url, issuer, 1)
    async with oauth_server(issuer, delay_s=0.6) as url:
        process = await worker(path=server.url, issuer=url, accounts=accounts, requests=3, tries=60)
        while not issuer.shown:
            await asyncio.sleep(0.02)
        server.kill()
        await asyncio.sleep(1.0)
        server.start()
        answers = await ended(process)
    assert {answer.split()[0] for answer in answers} == {"version"}
    assert issuer.shown.total() == 1
    store = await opened(server.url)
    stored = await store.credential("acc_1")
    assert stored is not None
    assert stored.version == 2
    assert await store.intent("acc_1") is None
    await store.close()
