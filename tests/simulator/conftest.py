"""A simulator on loopback with a clock that stands still, and a client that speaks to it as one account."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from ops.simulator import RunningSimulator, Simulator, SimulatorConfig, running_simulator
from tests.fakes.clock import FakeClock


@dataclass
class Peer:
    """One account's client."""

    http: httpx.AsyncClient
    sim: RunningSimulator
    auth: dict[str, Any]

    @property
    def state(self) -> Simulator:
        return self.sim.state

    @property
    def account_id(self) -> str:
        return str(self.auth["tokens"]["account_id"])

    @property
    def headers(self) -> dict[str, str]:
        tokens = self.auth["tokens"]
        return {"authorization": f"Bearer {tokens['access_token']}", "chatgpt-account-id": tokens["account_id"]}

    def counts(self) -> Any:
        return self.state.accounts[self.account_id].counts

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        return await self.http.post(f"{self.sim.base_url}/responses", json=body, headers={**self.headers, **headers})

    async def ask(self, prompt: str, *items: dict[str, Any], **members: Any) -> httpx.Response:
        return await self.post(asked(prompt, *items, **members))

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(f"{self.sim.url}{path}", headers={**self.headers, **headers})

    async def refresh(self, token: str | None = None) -> httpx.Response:
        body = {
            "client_id": self.state.config.client_id,
            "grant_type": "refresh_token",
            "refresh_token": token or self.auth["tokens"]["refresh_token"],
        }
        return await self.http.post(f"{self.sim.issuer}/oauth/token", json=body)


def asked(prompt: str, *items: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A body that the backend takes; ``items`` follow the user's message."""
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}
    base = {"model": "gpt-5.5", "instructions": "", "store": False, "stream": True}
    return {**base, "include": ["reasoning.encrypted_content"], "input": [user, *items], **members}


def events_of(answer: httpx.Response | str) -> list[dict[str, Any]]:
    """The data of the whole events of a stream."""
    text = answer if isinstance(answer, str) else answer.text
    blocks = text.split("\n\n")[:-1]
    return [json.loads(block.split("data: ", 1)[1]) for block in blocks if "data: " in block]


def types_of(answer: httpx.Response) -> list[str]:
    return [event["type"] for event in events_of(answer)]


def output_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The output items as a client collects them."""
    return [event["item"] for event in events_of(answer) if event["type"] == "response.output_item.done"]


def text_of(answer: httpx.Response) -> str:
    return "".join(e["delta"] for e in events_of(answer) if e["type"] == "response.output_text.delta")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def sim(clock: FakeClock) -> AsyncIterator[RunningSimulator]:
    async with running_simulator(SimulatorConfig(), clock) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture
def peer(sim: RunningSimulator, http: httpx.AsyncClient) -> Peer:
    return Peer(http, sim, sim.state.new_account())


@pytest.fixture
def other(sim: RunningSimulator, http: httpx.AsyncClient, peer: Peer) -> Peer:
    """A second account of the same backend."""
    return Peer(http, sim, sim.state.new_account())
