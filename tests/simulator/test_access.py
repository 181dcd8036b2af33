"""Who is let in by the simulated backend, and what every answer tells of the account."""

from __future__ import annotations

from typing import Any

import pytest

from ops.simulator import Simulator, SimulatorConfig
from ops.simulator.access import authenticate, bearer, limit_headers, models_etag, visible_models
from ops.simulator.accounts import Account
from ops.simulator.script import Fail
from tests.fakes.clock import FakeClock


@pytest.mark.parametrize(
    ("value", "token"),
    [("Bearer t", "t"), ("bearer  t ", "t"), ("Bearer", None), ("Bearer ", None), ("Basic t", None), ("t", None)],
)  # fmt: skip
def test_a_token_comes_as_bearer(value: str, token: str | None) -> None:
    assert bearer({"authorization": value}) == token


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(SimulatorConfig(), FakeClock())


def login(simulator: Simulator, account_id: str) -> dict[str, Any]:
    tokens = simulator.new_account(account_id=account_id)["tokens"]
    assert isinstance(tokens, dict)
    return tokens


def test_token_and_account_must_belong_together(simulator: Simulator) -> None:
    first, second = login(simulator, "acct-a"), login(simulator, "acct-b")
    let_in = {"authorization": f"Bearer {first['access_token']}", "chatgpt-account-id": "acct-a"}
    found = authenticate(simulator, let_in)
    assert isinstance(found, Account)
    assert found is simulator.accounts["acct-a"]
    for headers in (
        {**let_in, "chatgpt-account-id": "acct-b"},
        {**let_in, "authorization": f"Bearer {second['access_token']}"},
        {**let_in, "authorization": "Bearer unknown"},
        {"chatgpt-account-id": "acct-a"},
        {"authorization": let_in["authorization"]},
    ):
        refused = authenticate(simulator, headers)
        assert isinstance(refused, Fail)
        assert refused.status == 401


def test_an_account_may_see_fewer_models_and_its_etag_tells(simulator: Simulator) -> None:
    login(simulator, "acct-a")
    account = simulator.accounts["acct-a"]
    everything, etag = visible_models(simulator, account), models_etag(simulator, account)
    account.models = ("gpt-5.5",)
    assert [one["slug"] for one in visible_models(simulator, account)] == ["gpt-5.5"]
    assert len(everything) > 1
    assert models_etag(simulator, account) != etag


def test_every_answer_tells_both_windows_and_the_plan(simulator: Simulator) -> None:
    login(simulator, "acct-a")
    told = limit_headers(simulator, simulator.accounts["acct-a"])
    assert told["x-codex-primary-window-minutes"] == "300"
    assert told["x-codex-secondary-window-minutes"] == "10080"
    assert told["x-codex-plan-type"]
    assert told["x-codex-credits-has-credits"] == "false"
