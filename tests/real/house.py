"""A simulator, a gateway in front of it and a client key: what the real clients of this folder are pointed at."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import structlog
import structlog.testing

from ops.embedded import Embedded, embedded_gateway
from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.flow.stage import settings_for


@dataclass(slots=True)
class House:
    """``accounts`` are the simulated accounts' ids, in the order of their import."""

    simulator: RunningSimulator
    gateway: Embedded
    key: str
    accounts: list[str]
    log: list[Any]

    @property
    def base_url(self) -> str:
        return f"{self.gateway.url}/v1"

    @property
    def port(self) -> int:
        return int(self.gateway.url.rpartition(":")[2])

    def sdk(self, **options: Any) -> openai.AsyncOpenAI:
        """The official SDK without retries of its own, so that what is counted is what the gateway did."""
        return openai.AsyncOpenAI(**{"api_key": self.key, "base_url": self.base_url, "max_retries": 0, **options})

    def posts(self) -> list[str]:
        """The accounts that model calls reached, in order."""
        return [
            str(one.account_id) for one in self.simulator.state.requests_to("/codex/responses") if one.method == "POST"
        ]

    def lines(self, route: str) -> list[dict[str, Any]]:
        """The gateway's log lines of finished requests."""
        return [one for one in self.log if one["event"] == "request" and one["route"] == route]

    def answered(self, route: str, status: int) -> int:
        """How many requests of ``route`` the gateway answered with ``status``."""
        return sum(one["status"] == status for one in self.lines(route))

    @property
    def moved(self) -> int:
        """How many answers said that the conversation had moved to another account."""
        return sum(one.get("moved", False) for one in self.lines("responses"))

    async def disable(self, account_id: str) -> None:
        """As ``codex-relay accounts disable`` does."""
        store = self.gateway.gateway.store
        (account,) = (one for one in await store.accounts() if one.chatgpt_account_id == account_id)
        await store.put_account(replace(account, enabled=False), account.version)
        await self.gateway.gateway.background.share()


@contextlib.asynccontextmanager
async def house(
    folder: Path,
    *,
    accounts: int = 2,
    config: SimulatorConfig | None = None,
    key: Mapping[str, Any] | None = None,
    **sections: Mapping[str, Any],
) -> AsyncIterator[House]:
    """Short deadlines as in the flow tests; ``sections`` change settings, ``key`` how the client's key is made."""
    with structlog.testing.capture_logs() as log:
        async with _house(folder, accounts, config or SimulatorConfig(), dict(key or {}), sections) as running:
            running.log = log
            yield running


@contextlib.asynccontextmanager
async def _house(
    folder: Path,
    accounts: int,
    config: SimulatorConfig,
    key: dict[str, Any],
    sections: dict[str, Mapping[str, Any]],
) -> AsyncIterator[House]:
    async with running_simulator(config) as simulator:
        documents = [simulator.state.new_account() for _ in range(accounts)]
        settings = settings_for(folder, simulator.base_url, **{"router": {"commit_hold_ms": 100}, **sections})
        async with embedded_gateway(settings) as gateway:
            await gateway.import_accounts(documents)
            secret, _ = await gateway.make_key(**key)
            ids = [str(one["tokens"]["account_id"]) for one in documents]
            yield House(simulator, gateway, secret.reveal(), ids, [])
