"""Accounts in a real Chromium: brought in by each of the three ways, looked at, changed, and removed by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Stage
from tests.console.fake_api import FakeApi, Refusal
from tests.console.fake_records import house, login

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]


async def choose(page: Page, account: str, entry: str) -> None:
    await page.get_by_role("button", name=f"Actions for {account}").click()
    await page.get_by_role("menuitem", name=entry).click()


async def test_an_account_is_brought_in_by_device_code(staged: Staged) -> None:
    async with staged(FakeApi()) as stage:
        page = await stage.sign_in()
        await page.get_by_role("link", name="Add an account").click()
        await page.get_by_label("Pool").fill("team")
        await page.get_by_label("Expected account").fill("new@example.com")
        await page.get_by_role("button", name="Get a code").click()
        await expect(page.get_by_text("QX7F-3M2KD")).to_be_visible()
        assert "login=login_1" in page.url
        (begun,) = stage.api.called("POST", "/logins")
        assert begun == {"kind": "device", "pool": "team", "expect": "new@example.com"}
        link = page.get_by_role("link", name="Open the sign-in page")
        assert await link.get_attribute("href") == "https://auth.example.com/codex/device"
        assert await link.get_attribute("rel") == "noopener noreferrer"
        await expect(page.get_by_text("only new@example.com")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text("QX7F-3M2KD")).to_be_visible()
        stage.api.end_login(stage.api.logins[0], "done")
        await expect(page.get_by_text("is here and serves")).to_be_visible()
        await page.get_by_role("link", name="See the accounts").click()
        await expect(page.get_by_role("heading", name="new@example.com")).to_be_visible()
        stage.browser.check()


async def test_a_login_can_be_cancelled_and_tells_how_it_failed(staged: Staged) -> None:
    api = FakeApi(logins=[login("login_1", "device"), login("login_2", "device"), login("login_3", "callback")])
    async with staged(api) as stage:
        page = await stage.sign_in("/accounts/add?login=login_1")
        await page.get_by_role("button", name="Cancel this sign-in").click()
        await expect(page.get_by_text("It was cancelled. Nothing was stored.")).to_be_visible()
        assert api.logins[0]["state"] == "cancelled"
        api.end_login(api.logins[1], "failed", failure={"code": "account_mismatch", "message": "another account came"})
        await stage.open("/accounts/add?login=login_2")
        await expect(page.get_by_role("alert")).to_contain_text("another account came")
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was stored")
        api.end_login(api.logins[2], "expired")
        await stage.open("/accounts/add?login=login_3")
        await expect(page.get_by_role("alert")).to_contain_text("Nobody finished it in time")
        await stage.open("/accounts/add?login=login_9")
        await expect(page.get_by_role("alert")).to_contain_text("not there any more")
        stage.browser.check()


async def test_who_asks_twice_goes_on_with_the_open_one(staged: Staged) -> None:
    api = FakeApi(logins=[login("login_77", "device"), login("login_78", "callback") | {"authorize_url": None}])
    async with staged(api) as stage:
        page = await stage.sign_in("/accounts/add")
        message = "You have such a login open already (login_77); complete it or cancel it first"
        api.fail_next["POST /logins"] = Refusal(409, "conflict", message)
        await page.get_by_role("button", name="Get a code").click()
        await expect(page.get_by_text("QX7F-3M2KD")).to_be_visible()
        assert page.url.endswith("login=login_77")
        await stage.open("/accounts/add?login=login_78")
        await expect(page.get_by_text("only the session that began it can finish it")).to_be_visible()
        stage.browser.check()


async def test_an_account_is_brought_in_by_the_pasted_address(staged: Staged) -> None:
    async with staged(FakeApi()) as stage:
        page = await stage.sign_in("/accounts/add")
        await page.get_by_role("tab", name="Paste the address").click()
        await page.get_by_role("button", name="Begin").click()
        await expect(page.get_by_text("ssh -L 1455:localhost:1455")).to_be_attached()
        address = page.get_by_label("Address", exact=True)
        await address.fill("http://127.0.0.1:1455/auth/callback?error=access_denied")
        await page.get_by_role("button", name="Finish the sign-in").click()
        await expect(page.get_by_role("alert").filter(has_text="the address holds no code")).to_be_visible()
        await expect(address).to_be_focused()
        await address.fill(" http://127.0.0.1:1455/auth/callback?code=c0de&state=abc\n")
        await page.get_by_role("button", name="Finish the sign-in").click()
        await expect(page.get_by_text("is here and serves")).to_be_visible()
        assert stage.api.called("POST", "/logins/login_1/callback")[-1] == {
            "url": "http://127.0.0.1:1455/auth/callback?code=c0de&state=abc"
        }
        stage.browser.check()


async def test_accounts_are_brought_in_by_files_and_pasted_text(staged: Staged, tmp_path: Path) -> None:
    for name, text in (("one.json", '{"tokens": {"a": "}"}}'), ("two.json", "not json at all")):
        (tmp_path / name).write_text(text)
    async with staged(FakeApi()) as stage:
        page = await stage.sign_in("/accounts/add?way=file")
        await page.get_by_role("button", name="Bring in").click()
        await expect(page.get_by_role("alert")).to_contain_text("Choose a file, or paste")
        await page.get_by_label("Files").set_input_files([tmp_path / "one.json", tmp_path / "two.json"])
        await page.get_by_label("Or paste").fill('{"tokens": {"x": "{"}}\n{"tokens": {}}')
        await page.get_by_label("Only check").check()
        await page.get_by_role("button", name="Bring in").click()
        outcome = page.get_by_role("region", name="Outcome")
        await expect(outcome.get_by_role("listitem")).to_have_count(4)
        assert stage.api.accounts == []
        await page.get_by_label("Only check").uncheck()
        await page.get_by_role("button", name="Bring in").click()
        await expect(outcome.get_by_role("heading", name="What happened")).to_be_visible()
        await expect(outcome.get_by_role("listitem").filter(has_text="two.json")).to_contain_text("this is not JSON")
        await expect(outcome.get_by_role("listitem").filter(has_text="one.json")).to_contain_text("Added")
        await expect(page.get_by_label("Or paste")).to_have_value("")
        sent = stage.api.called("POST", "/accounts/import")[-1]
        assert [one["name"] for one in sent["documents"]] == ["one.json", "two.json", "pasted 1", "pasted 2"]
        assert json.loads(sent["documents"][2]["content"]) == {"tokens": {"x": "{"}}
        assert (sent["dry_run"], sent["force"]) == (False, False)
        assert len(stage.api.accounts) == 3
        stage.browser.check()


async def test_the_list_shows_state_reason_and_windows(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in("/accounts")
        cards = page.get_by_role("list", name="Accounts").get_by_role("listitem")
        await expect(cards).to_have_count(6)
        resting = cards.filter(has_text="alan")
        await expect(resting).to_contain_text("Resting")
        await expect(resting).to_contain_text("The plan's window is full, until")
        meter = resting.get_by_role("meter", name="5 hours window")
        assert await meter.get_attribute("aria-valuenow") == "100"
        await expect(cards.filter(has_text="edsger")).to_contain_text("refresh_token_reused")
        await page.get_by_label("Search accounts").fill("BARB")
        await expect(cards).to_have_count(1)
        await page.get_by_label("Search accounts").fill("")
        await page.get_by_label("State", exact=True).select_option("disabled")
        await expect(cards).to_have_count(1)
        await page.get_by_label("Search accounts").fill("nobody")
        await expect(page.get_by_text("No account fits")).to_be_visible()
        stage.browser.check()


async def test_an_account_is_changed_probed_and_removed(staged: Staged) -> None:
    async with staged(FakeApi(accounts=house()[:2])) as stage:
        page, api = await stage.sign_in("/accounts"), stage.api
        card = page.get_by_role("listitem").filter(has_text="ada")
        await choose(page, "ada", "Disable")
        await expect(card.get_by_text("Disabled", exact=True)).to_be_visible()
        assert api.called("PATCH", "/accounts/acc_1") == [{"enabled": False, "version": 1}]
        await choose(page, "ada", "Enable")
        await expect(card.get_by_text("Ready", exact=True)).to_be_visible()
        for entry, route, told in (("Probe", "probe", "was probed"), ("Refresh", "refresh", "has a new token")):
            await choose(page, "ada", entry)
            await expect(page.locator(".toast").filter(has_text=told)).to_be_visible()
            assert len(api.called("POST", f"/accounts/acc_1/{route}")) == 1
        api.fail_next["/accounts/acc_1/refresh"] = Refusal(502, "upstream_error", "the issuer said no")
        await choose(page, "ada", "Refresh")
        await expect(page.locator(".toast.bad")).to_contain_text("the issuer said no")
        await choose(page, "ada", "Edit")
        await page.get_by_label("Label").fill("countess")
        await page.get_by_label("Pool", exact=True).last.fill("mathematics")
        await page.get_by_label("Weight").fill("3")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="countess")).to_be_visible()
        assert {name: api.accounts[0][name] for name in ("label", "pool", "weight")} == {
            "label": "countess", "pool": "mathematics", "weight": 3,
        }  # fmt: skip
        await choose(page, "countess", "Remove")
        await page.get_by_label("Type the name").fill("count")
        await page.get_by_role("button", name="Remove the account").click()
        await expect(page.get_by_role("alert").filter(has_text="not its name")).to_be_visible()
        assert len(api.accounts) == 2
        await page.get_by_label("Type the name").fill("countess")
        await page.get_by_role("button", name="Remove the account").click()
        await expect(page.get_by_role("heading", name="countess")).to_have_count(0)
        assert [one["id"] for one in api.accounts] == ["acc_2"]
        stage.browser.check()


async def test_somebody_elses_change_is_told_and_shown(staged: Staged) -> None:
    async with staged(FakeApi(accounts=house()[:1])) as stage:
        page = await stage.sign_in("/accounts")
        stage.api.accounts[0].update(version=7, label="renamed elsewhere")
        await choose(page, "ada", "Disable")
        await expect(page.locator(".toast.bad")).to_contain_text("It has changed meanwhile")
        await expect(page.get_by_role("heading", name="renamed elsewhere")).to_be_visible()
        stage.browser.check()
