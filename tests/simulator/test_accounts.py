"""Accounts: tokens in the CLI's shape, windows that turn, seals that open for one account only."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulator import Simulator, SimulatorConfig
from ops.simulator.accounts import Sealer, Window
from tests.fakes.clock import FakeClock


def claims_of(token: str) -> dict[str, Any]:
    head, payload, signature = token.split(".")
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["alg"] == "RS256"
    assert signature
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def test_auth_json_has_the_shape_that_the_cli_writes() -> None:
    clock = FakeClock()
    auth = Simulator(SimulatorConfig(), clock).new_account(plan="plus", email="a@example.com", account_id="acct-1")
    assert set(auth) == {"auth_mode", "OPENAI_API_KEY", "tokens", "last_refresh"}
    tokens = auth["tokens"]
    assert tokens["account_id"] == "acct-1"
    assert tokens["refresh_token"].startswith("rt_")
    access, identity = claims_of(tokens["access_token"]), claims_of(tokens["id_token"])
    assert access["exp"] == int(clock.now_s()) + 864_000
    assert identity["email"] == "a@example.com"
    for claims in (access, identity):
        assert claims["https://api.openai.com/auth"]["chatgpt_account_id"] == "acct-1"
        assert claims["https://api.openai.com/auth"]["chatgpt_plan_type"] == "plus"


def test_the_same_seed_makes_the_same_accounts() -> None:
    made = [Simulator(SimulatorConfig(seed=seed), FakeClock()).new_account() for seed in (5, 5, 6)]
    assert made[0] == made[1] != made[2]


def test_an_account_id_is_taken_once() -> None:
    simulator = Simulator(SimulatorConfig(), FakeClock())
    simulator.new_account(account_id="acct-1")
    with pytest.raises(ValueError, match="exists"):
        simulator.new_account(account_id="acct-1")


def test_a_full_window_is_full_until_its_reset() -> None:
    window = Window(window_minutes=300, reset_at_s=1_000.0, used_percent=100.0)
    assert window.is_full(999.0)
    assert not window.is_full(1_000.0)
    assert window.reset_at_s == 1_000.0 + 300 * 60


@given(st.binary(max_size=64))
def test_a_seal_opens_for_its_account_and_purpose_only(payload: bytes) -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal("a", "reasoning", payload)
    assert sealed.startswith("gAAAA")
    assert sealer.opens("a", "reasoning", sealed)
    assert not sealer.opens("b", "reasoning", sealed)
    assert not sealer.opens("a", "compaction", sealed)
    assert not sealer.opens("a", "reasoning", sealed[:-2] + "zz!")
    assert not Sealer(b"x" * 32).opens("a", "reasoning", sealed)


@given(st.text(max_size=100))
def test_nothing_made_up_opens(text: str) -> None:
    assert not Sealer(b"k" * 32).opens("a", "reasoning", text)
