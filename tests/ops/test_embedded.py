"""A gateway inside the running loop: it listens, takes accounts and keys in, and is gone when its block ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from auth.importer import ImportResult
from ops.embedded import embedded_gateway
from ops.settings import Settings
from ops.simulator import Simulator, SimulatorConfig
from store.records import Limits
from tests.fakes.clock import FakeClock
from tests.flow.stage import settings_for


def made_settings(folder: Path) -> Settings:
    return settings_for(folder, "http://127.0.0.1:9/backend-api/codex")


async def get(url: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.get(url, headers=headers)


async def test_it_listens_on_a_free_port_until_its_block_ends(tmp_path: Path) -> None:
    async with embedded_gateway(made_settings(tmp_path)) as gateway:
        assert (await get(f"{gateway.url}/healthz")).json() == {"status": "ok"}
        assert not gateway.ended.done()
    assert gateway.ended.done()
    with pytest.raises(httpx.ConnectError):
        await get(f"{gateway.url}/healthz")


async def test_a_key_and_its_limits_hold_at_once_and_a_tenant_is_made_once(tmp_path: Path) -> None:
    async with embedded_gateway(made_settings(tmp_path)) as gateway:
        assert (await get(f"{gateway.url}/v1/nothing", "at-cr-x")).status_code == 503, "no key exists yet"
        first, record = await gateway.make_key(limits=Limits(7, None), models=("m",))
        second, _ = await gateway.make_key()
        assert {(await get(f"{gateway.url}/v1/nothing", key.reveal())).status_code for key in (first, second)} == {404}
        assert (record.limits, record.models) == (Limits(7, None), ("m",))
        assert [tenant.id for tenant in await gateway.gateway.store.tenants()] == ["demo"]


async def test_accounts_are_taken_in_as_the_command_does_and_the_pool_has_them_at_once(tmp_path: Path) -> None:
    maker = Simulator(SimulatorConfig(), FakeClock(4_000_000_000.0))
    async with embedded_gateway(made_settings(tmp_path)) as gateway:
        results: list[ImportResult] = await gateway.import_accounts([maker.new_account() for _ in range(2)])
        known = {account.id for account in await gateway.gateway.store.accounts()}
        assert {one.account_id for one in results} == known
        assert {one.account.id for one in gateway.gateway.pool.snapshot().accounts} == known


async def test_what_was_taken_in_is_there_at_the_next_start(tmp_path: Path) -> None:
    async with embedded_gateway(made_settings(tmp_path)) as gateway:
        secret, _ = await gateway.make_key()
    async with embedded_gateway(made_settings(tmp_path)) as again:
        assert (await get(f"{again.url}/v1/nothing", secret.reveal())).status_code == 404


async def test_an_error_in_the_block_ends_it_too_and_leaves_no_task(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(ValueError, match="mine"):
        async with embedded_gateway(made_settings(tmp_path)) as gateway:
            raise ValueError("mine")
    assert gateway.ended.done()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_it_can_be_stopped_from_within(tmp_path: Path) -> None:
    async with embedded_gateway(made_settings(tmp_path)) as gateway:
        gateway.stop.drain.set()
        gateway.stop.quick.set()
        await asyncio.wait_for(gateway.ended, 5)
