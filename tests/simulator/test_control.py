"""The control API does from outside what a test in the same process does by calls."""

from __future__ import annotations

import ipaddress
from typing import Any

import httpx
import pytest

from ops.simulator import RunningSimulator, SimulatorConfig, build_simulator
from tests.simulator.conftest import Peer, text_of


class Controller:
    def __init__(self, sim: RunningSimulator, http: httpx.AsyncClient) -> None:
        self.sim, self.http = sim, http

    async def post(self, path: str, **body: Any) -> Any:
        answer = await self.http.post(f"{self.sim.url}/simulator/{path}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        return (await self.http.get(f"{self.sim.url}/simulator/{path}")).json()


@pytest.fixture
def control(sim: RunningSimulator, http: httpx.AsyncClient) -> Controller:
    return Controller(sim, http)


async def test_an_account_made_from_outside_works(control: Controller) -> None:
    made = await control.post("accounts", plan="plus", email="x@example.com")
    peer = Peer(control.http, control.sim, made["auth"])
    assert peer.account_id == made["account_id"]
    assert (await peer.ask("hi")).status_code == 200
    (listed,) = (await control.get("accounts"))["accounts"]
    assert (listed["account_id"], listed["plan"], listed["email"]) == (peer.account_id, "plus", "x@example.com")
    await peer.refresh()
    newest = await control.get(f"accounts/{peer.account_id}/auth")
    assert newest["tokens"]["refresh_token"] != made["auth"]["tokens"]["refresh_token"]


async def test_scripts_and_modes(control: Controller, peer: Peer) -> None:
    base = f"accounts/{peer.account_id}"
    await control.post(f"{base}/script", items=["http=503", {"status": 418, "body": {"a": 1}}])
    await control.post(f"{base}/mode", item="text=account")
    await control.post("mode", item="text=all")
    assert [(await peer.ask("hi")).status_code for _ in range(2)] == [503, 418]
    assert text_of(await peer.ask("hi")) == "account"
    await control.post(f"{base}/mode", item=None)
    assert text_of(await peer.ask("hi")) == "all"


async def test_tokens_and_limits(control: Controller, peer: Peer) -> None:
    base = f"accounts/{peer.account_id}"
    await control.post(f"{base}/exhaust", resets_in_s=60)
    assert (await peer.ask("hi")).status_code == 429
    await control.post(f"{base}/expire-access", code="account_deactivated")
    assert (await peer.ask("hi")).json()["error"]["code"] == "account_deactivated"
    await control.post("expire-access")
    assert (await peer.ask("hi")).json()["error"]["code"] == "token_expired"
    await control.post(f"{base}/end-refresh", state="expired")
    assert (await peer.refresh()).json()["error"]["code"] == "refresh_token_expired"
    assert (await control.post(f"{base}/pat"))["token"].startswith("at-")


async def test_the_issuer_is_scripted_too(control: Controller, peer: Peer) -> None:
    await control.post("oauth/script", items=[{"status": 500}, "no_id_token"], account_id=peer.account_id)
    await control.post("oauth/mode", item={"status": 429, "headers": {"retry-after": "5"}})
    assert (await peer.refresh()).status_code == 500
    answer = (await peer.refresh()).json()
    assert "id_token" not in answer
    assert (await peer.refresh()).headers["retry-after"] == "5"


async def test_counters_and_requests_tell_all_but_tokens(control: Controller, peer: Peer) -> None:
    await peer.ask("sim:events=1")
    await peer.refresh()
    await peer.refresh()
    counters = await control.get("counters")
    mine = counters["accounts"][peer.account_id]
    assert (mine["requests"], mine["streams"], mine["open_streams"], mine["reuses"]) == (1, 1, 0, 1)
    assert [token["exchanges"] for token in counters["refresh_tokens"]] == [2, 0]
    shown = (await control.get("requests?limit=3"))["requests"]
    assert [one["path"] for one in shown] == ["/backend-api/codex/responses", "/oauth/token", "/oauth/token"]
    assert shown[0]["account_id"] == peer.account_id
    assert shown[0]["json"]["model"] == "gpt-5.5"
    whole = str(counters) + str(shown)
    for secret in ("access_token", "refresh_token"):
        assert peer.auth["tokens"][secret] not in whole


async def test_gates_and_device_logins(control: Controller, peer: Peer) -> None:
    client_id = control.sim.state.config.client_id
    url = f"{control.sim.url}/api/accounts/deviceauth/usercode"
    codes = [(await control.http.post(url, json={"client_id": client_id})).json()["user_code"] for _ in range(2)]
    approved = await control.post("device/approve", user_code=codes[0], account_id=peer.account_id)
    assert approved == {"account_id": peer.account_id}
    await control.post("device/deny", user_code=codes[1])
    await control.post("gates/g/open")
    assert (await peer.ask("sim:gate=g")).status_code == 200


async def test_reset_forgets(control: Controller, peer: Peer) -> None:
    await control.post("reset")
    assert (await control.get("accounts"))["accounts"] == []
    assert (await peer.ask("hi")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("accounts", {"colour": "red"}, 400),
        ("accounts", [], 400),
        ("accounts/none/exhaust", {}, 404),
        ("mode", {}, 404),
        ("mode", {"item": "evnets=1"}, 400),
        ("oauth/script", {"items": ["explode"]}, 400),
        ("device/approve", {"user_code": "none"}, 404),
    ],
)
async def test_mistakes_are_said(control: Controller, path: str, body: Any, status: int) -> None:
    answer = await control.http.post(f"{control.sim.url}/simulator/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("10.0.0.9", 403)])
async def test_only_loopback_peers_have_control(address: str, status: int) -> None:
    assert ipaddress.ip_address(address)
    for config, expected in ((SimulatorConfig(), status), (SimulatorConfig(control_from_anywhere=True), 200)):
        transport = httpx.ASGITransport(build_simulator(config), client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://simulator") as client:
            assert (await client.get("/simulator/counters")).status_code == expected
