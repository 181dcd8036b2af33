"""Who a key is to the Codex CLI, where it is sent, and how much of the pool is used up."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from gateway.codex_paths import pool_usage, whoami, workspace_id
from router.explain import Explanation
from router.types import AccountState
from store.records import WindowRecord
from tests.fakes.faulty import FaultyUpstream
from tests.flow.stage import stage

NOW_S = 1_000_000.0
WHOAMI = "/api/accounts/v1/user-auth-credential/whoami"
CHECK = "/backend-api/wham/accounts/check"
USAGE = "/backend-api/wham/usage"


def account(used: float | None, resets_in_s: float = 600.0, *, usable: bool = True) -> Explanation:
    """An account with a primary window, or without any report."""
    windows = () if used is None else (WindowRecord("a", "primary", used, 300, NOW_S + resets_in_s, NOW_S),)
    return Explanation("a", "a", AccountState.OK, usable, (), "closed", windows)


@pytest.mark.parametrize(
    ("accounts", "used", "reached"),
    [
        ([account(50), account(100)], 75, False),
        ([account(50), account(None)], 25, False),
        ([account(80, resets_in_s=-1), account(40)], 20, False),
        ([account(100, usable=False), account(100, usable=False)], 100, True),
        ([account(130), account(70)], 85, False),
    ],
    ids=["mean", "unreported is empty", "over is empty", "all out", "capped"],
)
def test_many_accounts_are_used_as_one(accounts: list[Explanation], used: int, reached: bool) -> None:
    limit = pool_usage(accounts, "pro", NOW_S)["rate_limit"]
    assert limit["primary_window"]["used_percent"] == used
    assert (limit["limit_reached"], limit["allowed"]) == (reached, not reached)
    assert limit["secondary_window"] is None


def test_the_window_opens_again_with_the_first_account() -> None:
    window = pool_usage([account(10, 600), account(10, 90)], "pro", NOW_S)["rate_limit"]["primary_window"]
    assert (window["reset_after_seconds"], window["reset_at"]) == (90, int(NOW_S + 90))
    assert window["limit_window_seconds"] == 18_000


def test_no_account_at_all_is_a_limit_that_is_reached() -> None:
    assert pool_usage([], "pro", NOW_S)["rate_limit"]["limit_reached"]


def test_a_tenants_workspace_is_always_the_same_and_nobody_elses() -> None:
    assert workspace_id("a") == workspace_id("a") != workspace_id("b")
    assert uuid.UUID(workspace_id("a"))


async def test_the_answers_fit_together_and_show_no_account(tmp_path: Path) -> None:
    """whoami names the one workspace that accounts/check lists; no id, label or address of an account is in them."""
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url) as scene:
        me = (await scene.client.get(WHOAMI)).json()
        check = (await scene.client.get(CHECK)).json()
        usage = await scene.client.get(USAGE)
        assert [entry["id"] for entry in check["accounts"]] == [me["chatgpt_account_id"]]
        assert check["default_account_id"] == me["chatgpt_account_id"]
        assert check["accounts"][0]["workspace_backend_origin"] == "https://chatgpt.com"
        assert usage.json()["rate_limit"]["allowed"] is True
        shown = f"{me}{check}{usage.text}"
        for one in scene.accounts:
            assert one.id not in shown
            assert one.chatgpt_account_id not in shown
            assert one.email is None or one.email not in shown


async def test_behind_tls_the_workspace_is_where_it_was_asked(tmp_path: Path) -> None:
    sections = {"public_url": "https://relay.example"}
    async with FaultyUpstream() as upstream, stage(tmp_path, upstream.base_url, server=sections) as scene:
        (entry,) = (await scene.client.get(CHECK)).json()["accounts"]
        assert entry["workspace_backend_origin"] == "NO_CONSTRAINT"


def test_a_key_is_no_mailbox() -> None:
    from tests.gateway.test_idempotency import caller

    assert whoami(caller(), "pro")["email"].endswith(".invalid")
