"""The browser login of the simulated issuer: consent, code, verifier."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from auth.callback import REDIRECT_URI, Challenge, authorize_url, new_challenge
from ops.simulator import RunningSimulator, decide_by_url
from tests.fakes.clock import FakeClock


def url_of(sim: RunningSimulator, challenge: Challenge, client_id: str = "") -> str:
    return authorize_url(sim.issuer, client_id or sim.state.config.client_id, challenge)


async def exchange(
    sim: RunningSimulator, http: httpx.AsyncClient, callback: str, verifier: str, redirect_uri: str = REDIRECT_URI
) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "client_id": sim.state.config.client_id,
        "code": parse_qs(urlsplit(callback).query)["code"][0],
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
    }
    return await http.post(f"{sim.issuer}/oauth/token", data=form)


async def test_a_person_approves_and_the_code_works_once(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    account_id = sim.state.new_account()["tokens"]["account_id"]
    challenge = new_challenge()
    url = url_of(sim, challenge)
    page = await http.get(url)
    assert page.status_code == 200
    assert challenge.state.reveal() in page.text
    form = {**dict(parse_qsl(urlsplit(url).query)), "account_id": account_id, "decision": "approve"}
    sent = await http.post(f"{sim.issuer}/oauth/authorize", data=form, follow_redirects=False)
    assert sent.status_code == 303
    callback = sent.headers["location"]
    assert callback.startswith(f"{REDIRECT_URI}?")
    assert parse_qs(urlsplit(callback).query)["state"] == [challenge.state.reveal()]
    tokens = (await exchange(sim, http, callback, challenge.code_verifier.reveal())).json()
    assert sim.state.access_tokens[tokens["access_token"]].account_id == account_id
    assert (await exchange(sim, http, callback, challenge.code_verifier.reveal())).status_code == 400


async def test_a_refusal_has_the_state_and_no_code(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    challenge = new_challenge()
    form = {**dict(parse_qsl(urlsplit(url_of(sim, challenge)).query)), "decision": "deny"}
    sent = await http.post(f"{sim.issuer}/oauth/authorize", data=form, follow_redirects=False)
    members = parse_qs(urlsplit(sent.headers["location"]).query)
    assert members["error"] == ["access_denied"]
    assert members["state"] == [challenge.state.reveal()]
    assert "code" not in members


@pytest.mark.parametrize("wrong", ["verifier", "redirect_uri", "late"])
async def test_a_code_is_bound_to_verifier_address_and_time(
    sim: RunningSimulator, http: httpx.AsyncClient, clock: FakeClock, wrong: str
) -> None:
    challenge = new_challenge()
    callback = decide_by_url(sim.state, url_of(sim, challenge), None, approve=True)
    if wrong == "late":
        clock.advance(601)
    verifier = "x" * 43 if wrong == "verifier" else challenge.code_verifier.reveal()
    uri = "http://localhost:1455/auth/callback" if wrong == "redirect_uri" else REDIRECT_URI
    assert (await exchange(sim, http, callback, verifier, uri)).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"client_id": "another"},
        {"redirect_uri": "http://evil.example/auth/callback"},
        {"code_challenge_method": "plain"},
        {"code_challenge": "<script>"},
        {"state": ""},
        {"response_type": "token"},
    ],
)
async def test_what_is_not_well_formed_is_never_redirected(
    sim: RunningSimulator, http: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    members = {**dict(parse_qsl(urlsplit(url_of(sim, new_challenge())).query)), **change}
    for answer in (
        await http.get(f"{sim.issuer}/oauth/authorize", params=members, follow_redirects=False),
        await http.post(f"{sim.issuer}/oauth/authorize", data=members, follow_redirects=False),
    ):
        assert answer.status_code == 400
        assert "<script>" not in answer.text


async def test_revoking_one_sign_in_leaves_the_other(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    first = sim.state.new_account()
    account_id = first["tokens"]["account_id"]
    challenge = new_challenge()
    callback = decide_by_url(sim.state, url_of(sim, challenge), account_id, approve=True)
    second = (await exchange(sim, http, callback, challenge.code_verifier.reveal())).json()
    await http.post(f"{sim.issuer}/oauth/revoke", json={"token": second["refresh_token"]})
    assert sim.state.access_refusal(second["access_token"]) == "token_revoked"
    assert sim.state.access_refusal(first["tokens"]["access_token"]) is None
    assert sim.state.refresh_tokens[first["tokens"]["refresh_token"]].state == "live"


async def test_another_process_decides_by_the_control_api(sim: RunningSimulator, http: httpx.AsyncClient) -> None:
    challenge = new_challenge()
    url = url_of(sim, challenge)
    done = await http.post(f"{sim.url}/simulator/authorize", json={"url": url, "deny": True})
    assert "error=access_denied" in done.json()["callback"]
    bad = await http.post(f"{sim.url}/simulator/authorize", json={"url": url_of(sim, challenge, "another")})
    assert bad.status_code == 400
    begun = await http.post(
        f"{sim.issuer}/api/accounts/deviceauth/usercode", json={"client_id": sim.state.config.client_id}
    )
    login = begun.json()
    scripted = {"items": [{"status": 429, "body": {"error": "slow_down"}}]}
    assert (await http.post(f"{sim.url}/simulator/device/script", json=scripted)).status_code == 200
    wrong = await http.post(f"{sim.url}/simulator/device/script", json={"items": ["http=500"]})
    assert wrong.status_code == 400
    expired = await http.post(f"{sim.url}/simulator/device/expire", json={"user_code": login["user_code"]})
    assert expired.status_code == 200
    body = {"device_auth_id": login["device_auth_id"], "user_code": login["user_code"]}
    statuses = [
        (await http.post(f"{sim.issuer}/api/accounts/deviceauth/token", json=body)).status_code for _ in range(2)
    ]
    assert statuses == [429, 410]
