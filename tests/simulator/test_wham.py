"""Models, usage, routing and the rest of the ChatGPT side."""

from __future__ import annotations

import pytest

from ops.simulator import Fail
from tests.fakes.clock import FakeClock
from tests.simulator.conftest import Peer

MODELS = "/backend-api/codex/models?client_version=0.169.0"
NEEDED = {
    "slug",
    "display_name",
    "description",
    "default_reasoning_level",
    "supported_reasoning_levels",
    "shell_type",
    "visibility",
    "supported_in_api",
    "priority",
    "base_instructions",
    "supports_reasoning_summaries",
    "support_verbosity",
    "truncation_policy",
    "supports_parallel_tool_calls",
    "experimental_supported_tools",
    "context_window",
}


async def test_models_have_every_needed_member_and_an_etag(peer: Peer) -> None:
    answer = await peer.get(MODELS)
    models = answer.json()["models"]
    assert all(set(model) >= NEEDED for model in models)
    assert "gpt-5.5" in {model["slug"] for model in models if not model["use_responses_lite"]}
    assert {model["visibility"] for model in models} == {"list", "hide"}
    unchanged = await peer.get(MODELS, **{"if-none-match": answer.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_accounts_may_have_lists_of_their_own(peer: Peer) -> None:
    few = Peer(peer.http, peer.sim, peer.state.new_account(models=["gpt-5.5"]))
    answer = await few.get(MODELS)
    assert [model["slug"] for model in answer.json()["models"]] == ["gpt-5.5"]
    assert answer.headers["etag"] != (await peer.get(MODELS)).headers["etag"]
    assert (await few.ask("hi", model="gpt-6-sol")).status_code == 400
    assert (await peer.ask("hi", model="gpt-6-sol")).status_code == 200


async def test_models_and_usage_can_be_scripted_to_fail(peer: Peer) -> None:
    peer.state.models_script.append(Fail(500, {"detail": "x"}))
    peer.state.usage_script.append(Fail(403, "<html>", {"content-type": "text/html"}))
    assert [(await peer.get(MODELS)).status_code for _ in range(2)] == [500, 200]
    assert [(await peer.get("/backend-api/wham/usage")).status_code for _ in range(2)] == [403, 200]


async def test_usage_shows_the_windows(peer: Peer, clock: FakeClock) -> None:
    account = peer.state.accounts[peer.account_id]
    account.secondary.used_percent = 12.5
    account.credits_balance = "3.50"
    peer.state.exhaust(peer.account_id, 120)
    usage = (await peer.get("/backend-api/wham/usage")).json()
    assert usage["rate_limit"]["limit_reached"] is True
    assert usage["rate_limit"]["primary_window"] == {
        "used_percent": 100,
        "limit_window_seconds": 18_000,
        "reset_after_seconds": 120,
        "reset_at": int(clock.now_s()) + 120,
    }
    assert usage["rate_limit"]["secondary_window"]["used_percent"] == 12
    assert usage["rate_limit_reached_type"] == {"kind": "rate_limit_reached"}
    assert usage["credits"]["balance"] == "3.50"
    clock.advance(121)
    assert (await peer.get("/backend-api/wham/usage")).json()["rate_limit"]["allowed"] is True


async def test_accounts_check_lists_the_tokens_account(peer: Peer, other: Peer) -> None:
    checked = (await other.get("/backend-api/wham/accounts/check")).json()
    assert [entry["id"] for entry in checked["accounts"]] == [other.account_id]
    assert checked["default_account_id"] == other.account_id
    assert checked["accounts"][0]["workspace_backend_origin"] == "NO_CONSTRAINT"
    assert checked["accounts"][0]["account_routing_override"] == "NO_CONSTRAINT"


@pytest.mark.parametrize(
    "path",
    [
        "/backend-api/wham/settings/user",
        "/backend-api/wham/rate-limit-reset-credits",
        "/backend-api/wham/usage",
        MODELS,
    ],
)
async def test_every_endpoint_wants_a_good_token(peer: Peer, path: str) -> None:
    assert (await peer.get(path)).status_code == 200
    assert (await peer.get(path, authorization="Bearer no")).status_code == 401


async def test_the_rest_is_not_found(peer: Peer) -> None:
    for path in ("/backend-api/ps/plugins/installed", "/backend-api/codex/analytics-events/events", "/"):
        answer = await peer.get(path)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_a_personal_access_token_says_whose_it_is_and_works(peer: Peer) -> None:
    token = peer.state.new_pat(peer.account_id)
    path = "/api/accounts/v1/user-auth-credential/whoami"
    who = (await peer.get(path, authorization=f"Bearer {token}")).json()
    assert (who["chatgpt_account_id"], who["chatgpt_plan_type"]) == (peer.account_id, "pro")
    assert (await peer.get(path, authorization="Bearer at-nobody")).status_code == 401
    assert (await peer.get(MODELS, authorization=f"Bearer {token}")).status_code == 200
