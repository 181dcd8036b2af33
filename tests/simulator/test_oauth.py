"""The issuer: refresh tokens work once, every presentation is counted, and each way an exchange goes wrong."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from ops.simulator import Fail, Refresh, SimulatorConfig, running_simulator
from ops.simulator.oauth import STRANGER
from tests.fakes.clock import FakeClock
from tests.simulator.conftest import Peer
from tests.simulator.test_accounts import claims_of


async def test_a_refresh_token_works_once_and_rotates(peer: Peer) -> None:
    old = peer.auth["tokens"]["refresh_token"]
    first = await peer.refresh()
    assert first.status_code == 200
    assert first.json()["refresh_token"] == peer.state.auth_json(peer.account_id)["tokens"]["refresh_token"] != old
    second = await peer.refresh()
    assert (second.status_code, second.json()["error"]["code"]) == (401, "refresh_token_reused")
    assert (await peer.refresh(first.json()["refresh_token"])).status_code == 200
    token = peer.state.refresh_tokens[old]
    assert (token.exchanges, token.rotations, token.state) == (2, 1, "used")
    assert peer.counts()["reuses"] == 1


async def test_old_access_tokens_outlive_a_rotation(peer: Peer) -> None:
    """Using up a refresh token does not kill the access token that came with it."""
    await peer.refresh()
    assert (await peer.ask("hi")).status_code == 200


async def test_forms_are_taken_like_json(peer: Peer) -> None:
    body = {
        "client_id": peer.state.config.client_id,
        "grant_type": "refresh_token",
        "refresh_token": peer.auth["tokens"]["refresh_token"],
        "scope": "openid profile email",
    }
    assert (await peer.http.post(f"{peer.sim.issuer}/oauth/token", data=body)).status_code == 200


async def test_reuse_can_revoke_the_family(http: httpx.AsyncClient) -> None:
    async with running_simulator(SimulatorConfig(reuse_revokes_family=True)) as sim:
        peer = Peer(http, sim, sim.state.new_account())
        newest = (await peer.refresh()).json()["refresh_token"]
        await peer.refresh()
        answer = await peer.refresh(newest)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "refresh_token_invalidated")


@pytest.mark.parametrize("state", ["expired", "invalidated"])
async def test_ended_tokens_say_why(peer: Peer, state: str) -> None:
    peer.state.end_refresh(peer.account_id, state)
    answer = await peer.refresh()
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, f"refresh_token_{state}")


async def test_tokens_expire_by_the_clock_and_unknown_ones_are_invalid_grant(peer: Peer, clock: FakeClock) -> None:
    clock.advance(91 * 86_400)
    assert (await peer.refresh()).json()["error"]["code"] == "refresh_token_expired"
    unknown = await peer.refresh("rt_made_up")
    assert (unknown.status_code, unknown.json()["error"]) == (400, "invalid_grant")


async def test_a_foreign_client_and_a_foreign_grant_are_refused(peer: Peer) -> None:
    url = f"{peer.sim.issuer}/oauth/token"
    assert (await peer.http.post(url, json={"client_id": "app_x"})).json() == {"error": "invalid_client"}
    assert (await peer.http.post(url, content=b"{", headers={"content-type": "application/json"})).status_code == 400
    grant = {"client_id": peer.state.config.client_id, "grant_type": "password"}
    assert (await peer.http.post(url, json=grant)).json()["error"] == "unsupported_grant_type"


async def test_the_short_lifetime_is_that_of_the_first_token_only(peer: Peer) -> None:
    auth = peer.state.new_account(access_token_lifetime_s=-1)
    fresh = Peer(peer.http, peer.sim, auth)
    assert (await fresh.ask("hi")).json()["error"]["code"] == "token_expired"
    fresh.auth["tokens"].update((await fresh.refresh()).json())
    assert (await fresh.ask("hi")).status_code == 200


async def test_a_lost_answer_has_rotated(peer: Peer) -> None:
    peer.state.script_oauth([Refresh("lost")])
    with pytest.raises(httpx.RemoteProtocolError):
        await peer.refresh()
    assert (await peer.refresh()).json()["error"]["code"] == "refresh_token_reused"


async def test_a_dropped_request_has_not_rotated(peer: Peer) -> None:
    peer.state.script_oauth([Refresh("drop")])
    with pytest.raises(httpx.RemoteProtocolError):
        await peer.refresh()
    assert (await peer.refresh()).status_code == 200


async def test_a_gate_holds_the_exchange_and_the_most_at_once_are_counted(peer: Peer, other: Peer) -> None:
    peer.state.set_oauth_mode(Refresh(gate="issuer"))
    both = [asyncio.create_task(one.refresh()) for one in (peer, other)]
    await peer.state.until(lambda: peer.state.counts["at_gate_issuer"] == 2)
    assert peer.state.refreshing == 2
    peer.state.open_gate("issuer")
    assert [(await answer).status_code for answer in both] == [200, 200]
    assert (peer.state.refreshing, peer.state.most_refreshing) == (0, 2)


async def test_a_hanging_exchange_has_not_rotated(peer: Peer) -> None:
    peer.state.script_oauth([Refresh("hang")], peer.account_id)
    asking = asyncio.create_task(peer.refresh())
    await peer.state.until(lambda: peer.state.counts["refreshes_hanging"] == 1)
    asking.cancel()
    await peer.state.until(lambda: peer.counts()["refresh_aborts"] == 1)
    assert (await peer.refresh()).status_code == 200


async def test_odd_answers(peer: Peer) -> None:
    """Each member left out, a stranger's id, no JSON, a megabyte too much, and any HTTP answer; in order."""
    peer.state.script_oauth(
        [
            Refresh("no_access_token"),
            Refresh("no_id_token"),
            Refresh("other_account"),
            Refresh("huge"),
            Refresh("not_json"),
            Fail(500, {"error": "server_error"}),
            Refresh("no_refresh_token"),
        ]
    )

    async def next_answer() -> httpx.Response:
        return await peer.refresh(peer.state.accounts[peer.account_id].refresh_token)

    assert "access_token" not in (await next_answer()).json()
    assert "id_token" not in (await next_answer()).json()
    stranger = (await next_answer()).json()
    for name in ("id_token", "access_token"):
        assert claims_of(stranger[name])["https://api.openai.com/auth"]["chatgpt_account_id"] == STRANGER
    assert len((await next_answer()).content) > 1024 * 1024
    with pytest.raises(json.JSONDecodeError):
        (await next_answer()).json()
    assert (await next_answer()).status_code == 500
    assert "refresh_token" not in (await next_answer()).json()


async def test_delays_go_by_the_clock(peer: Peer, clock: FakeClock) -> None:
    peer.state.set_oauth_mode(Refresh(delay_s=20), peer.account_id)
    asking = asyncio.create_task(peer.refresh())
    await peer.state.until(lambda: peer.state.refreshing == 1)
    await asyncio.sleep(0.02)
    assert not asking.done()
    clock.advance(21)
    assert (await asking).status_code == 200


async def test_revoking_ends_both_tokens(peer: Peer) -> None:
    token = peer.auth["tokens"]["refresh_token"]
    answer = await peer.http.post(f"{peer.sim.issuer}/oauth/revoke", json={"token": token})
    assert answer.status_code == 200
    assert (await peer.refresh()).json()["error"]["code"] == "refresh_token_invalidated"
    assert (await peer.ask("hi")).json()["error"]["code"] == "token_revoked"
