"""An account comes in while the gateway serves: by device code, without a shell, and requests use it at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx

from auth.leaving import leave
from auth.logins import LoginState
from ops.embedded import embedded_gateway
from ops.simulator import SimulatorConfig, approve, running_simulator
from tests.flow.stage import TEXT, settings_for


async def test_an_account_that_is_approved_serves_within_a_second(tmp_path: Path) -> None:
    async with running_simulator(SimulatorConfig(device_interval_s=1)) as sim:
        sections: dict[str, Any] = {"oauth": {"issuer": sim.issuer}}
        async with embedded_gateway(settings_for(tmp_path, sim.base_url, **sections)) as gateway:
            secret, _ = await gateway.make_key()
            async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
                headers = {"authorization": f"Bearer {secret.reveal()}"}
                none_yet = await client.post("/v1/responses", json=TEXT, headers=headers)
                assert none_yet.status_code == 503
                entrance = gateway.gateway.entrance
                login = await entrance.onboarding.begin("device", requested_by="admin:ann", session_id="s", pool="p")
                approve(sim.state, login.user_code or "")
                async with asyncio.timeout(15):
                    while (await entrance.onboarding.get(login.id)).state is LoginState.PENDING:
                        await asyncio.sleep(0.05)
                done = await entrance.onboarding.get(login.id)
                assert done.state is LoginState.DONE, done.failure
                await asyncio.sleep(1.0)
                served = await client.post("/v1/responses", json=TEXT, headers=headers)
                assert served.status_code == 200
                assert served.headers["x-relay-account"] == done.account_id
                assert sim.state.counts["accounts_check"] == 1
                records = await gateway.gateway.store.search_audit(action="account.login.*")
                assert [one.action for one in records] == ["account.login.begin", "account.login.done"]
                assert done.account_id is not None
                left = await leave(gateway.gateway.store, entrance.oauth, done.account_id)
                assert (left.removed, left.revoked) == (True, True)
                assert sim.state.counts["revocations"] == 1
