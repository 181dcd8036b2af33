"""The device-code login, from the user code to tokens that work."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from ops.simulator import Fail, RunningSimulator, approve, deny
from ops.simulator.accounts import b64url
from ops.simulator.device import UnknownCode
from tests.fakes.clock import FakeClock


async def begin(sim: RunningSimulator, http: httpx.AsyncClient) -> dict[str, Any]:
    url = f"{sim.issuer}/api/accounts/deviceauth/usercode"
    login: dict[str, Any] = (await http.post(url, json={"client_id": sim.state.config.client_id})).json()
    return login


async def poll(sim: RunningSimulator, http: httpx.AsyncClient, login: dict[str, Any]) -> httpx.Response:
    body = {"device_auth_id": login["device_auth_id"], "user_code": login["user_code"]}
    return await http.post(f"{sim.issuer}/api/accounts/deviceauth/token", json=body)


async def exchange(sim: RunningSimulator, http: httpx.AsyncClient, granted: dict[str, Any]) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": sim.state.config.client_id,
        "code": granted["authorization_code"],
        "code_verifier": granted["code_verifier"],
        "redirect_uri": f"{sim.issuer}/deviceauth/callback",
    }
    return await http.post(f"{sim.issuer}/oauth/token", data=form)


async def test_pending_then_approved_then_tokens(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    account_id = sim.state.new_account()["tokens"]["account_id"]
    login = await begin(sim, http)
    assert login["interval"] == "5"
    assert (await poll(sim, http, login)).status_code == 403
    assert approve(sim.state, login["user_code"].lower(), account_id) == account_id
    granted = (await poll(sim, http, login)).json()
    digest = hashlib.sha256(granted["code_verifier"].encode()).digest()
    assert granted["code_challenge"] == b64url(digest)
    tokens = (await exchange(sim, http, granted)).json()
    assert sim.state.access_tokens[tokens["access_token"]].account_id == account_id
    assert (await exchange(sim, http, granted)).status_code == 400
    assert (await poll(sim, http, login)).status_code == 400


async def test_a_wrong_verifier_spends_the_code(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    login = await begin(sim, http)
    approve(sim.state, login["user_code"])
    granted = (await poll(sim, http, login)).json()
    assert (await exchange(sim, http, {**granted, "code_verifier": "x"})).status_code == 400
    assert (await exchange(sim, http, granted)).status_code == 400


async def test_denied_expired_and_scripted_polls(
    sim: RunningSimulator, http: httpx.AsyncClient, clock: FakeClock
) -> None:
    first, second = await begin(sim, http), await begin(sim, http)
    deny(sim.state, first["user_code"])
    assert (await poll(sim, http, first)).status_code == 400
    sim.state.device_script.append(Fail(429, {"error": "slow_down"}))
    assert (await poll(sim, http, second)).status_code == 429
    clock.advance(901)
    assert (await poll(sim, http, second)).status_code == 410


async def test_a_person_approves_on_the_page(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    login = await begin(sim, http)
    page = await http.get(f"{sim.url}/codex/device", params={"user_code": login["user_code"]})
    assert login["user_code"] in page.text
    wrong = await http.post(f"{sim.url}/codex/device", data={"user_code": '"><script>'})
    assert "No login waits" in wrong.text
    assert "<script>" not in wrong.text
    done = await http.post(f"{sim.url}/codex/device", data={"user_code": login["user_code"]})
    assert "Approved" in done.text
    assert (await poll(sim, http, login)).status_code == 200
    assert len(sim.state.accounts) == 1


async def test_unknown_clients_and_codes(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{sim.issuer}/api/accounts/deviceauth/usercode", content=b"{")
    assert answer.status_code == 400
    with pytest.raises(UnknownCode):
        approve(sim.state, "AAAA-BBBBB")
    login = await begin(sim, http)
    with pytest.raises(UnknownCode):
        approve(sim.state, login["user_code"], "no-such-account")
