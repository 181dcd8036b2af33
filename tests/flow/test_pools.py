"""Tenants are given pools, in order: through the front door no request ever crosses into another's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx

from ops.simulator import running_simulator
from store.records import Secret, Tenant
from tests.flow.stage import TEXT, Stage, stage

HOMES = ("gold", "gold", "green")


async def key_for(scene: Stage, name: str, pools: tuple[str, ...]) -> Secret:
    store = scene.gateway.gateway.store
    await store.add_tenant(Tenant(name, name, pools=pools))
    secret, _ = await scene.gateway.make_key(name)
    return secret


async def ask(scene: Stage, key: Secret, times: int, **body: object) -> Counter[str]:
    """The statuses or, of those that were served, the pools of the accounts that answered."""
    homes = {account.id: account.pool for account in await scene.gateway.gateway.store.accounts()}
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for _ in range(times):
            answer = await client.post(
                f"{scene.gateway.url}/v1/responses",
                json={**TEXT, **body},
                headers={"authorization": f"Bearer {key.reveal()}"},
            )
            found[homes.get(answer.headers.get("x-relay-account", ""), str(answer.status_code))] += 1
    return found


async def test_a_tenant_is_served_by_its_pools_alone_and_in_their_order(tmp_path: Path) -> None:
    async with running_simulator() as simulator:
        documents = [simulator.state.new_account(account_id=f"acct-{n}") for n in range(len(HOMES))]
        async with stage(tmp_path, simulator.base_url, documents=documents) as scene:
            store = scene.gateway.gateway.store
            for account, home in zip(scene.accounts, HOMES, strict=True):
                await store.put_account(replace(account, pool=home), account.version)
            gold = await key_for(scene, "rich", ("gold",))
            green = await key_for(scene, "poor", ("green",))
            both = await key_for(scene, "both", ("green", "gold"))
            nowhere = await key_for(scene, "lost", ("silver",))
            await scene.gateway.gateway.background.share()
            assert await ask(scene, gold, 6) == {"gold": 6}
            assert await ask(scene, green, 4) == {"green": 4}
            assert await ask(scene, both, 4, prompt_cache_key="talk") == {"green": 4}
            assert await ask(scene, nowhere, 2) == {"503": 2}
            simulator.state.exhaust("acct-2")
            assert await ask(scene, both, 4, prompt_cache_key="talk") == {"gold": 4}
            assert await ask(scene, green, 3) == {"429": 3}
            assert simulator.state.requests_to("/backend-api/codex/responses")
