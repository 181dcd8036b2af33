"""The console in a real Chromium in front of a whole gateway and the simulated issuer: nothing in between is played.

The first owner comes in by his link; accounts come in by device code, by the address that the browser ended at and by
files; one is probed, refreshed, disabled and removed; a key is made and works; the audit log is whole.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, expect

from auth.admins import AdminDirectory
from ops.embedded import Embedded, embedded_gateway
from ops.house_admin import sign_in
from ops.simulator import RunningSimulator, SimulatorConfig, running_simulator
from tests.flow.stage import settings_for
from tests.real.browser import Browser, running_browser

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(240)]
PASSWORD = "a plain long password"


@dataclass(slots=True)
class Scene:
    simulator: RunningSimulator
    gateway: Embedded
    browser: Browser
    token: str

    @property
    def page(self) -> Page:
        return self.browser.page

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.gateway.url}/console{path}")

    async def first_owner(self) -> None:
        """Through the page behind the one-time link."""
        await self.open(f"/link#{self.token}")
        await self.page.get_by_label("Your name").fill("ada")
        await self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        await self.page.get_by_label("Password again").fill(PASSWORD)
        await self.page.get_by_role("button", name="Become the owner").click()
        await expect(self.page.get_by_role("heading", name="Overview")).to_be_visible()

    async def choose(self, account: str, entry: str) -> None:
        await self.page.get_by_role("button", name=f"Actions for {account}").click()
        await self.page.get_by_role("menuitem", name=entry).click()

    async def told(self, text: str) -> None:
        await expect(self.page.locator(".toast").filter(has_text=text).last).to_be_visible(timeout=15_000)


@contextlib.asynccontextmanager
async def scene(folder: Path, **sections: Any) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(running_simulator(SimulatorConfig(device_interval_s=1)))
        settings = settings_for(folder, simulator.base_url, **sections)
        gateway = await stack.enter_async_context(embedded_gateway(settings))
        store = gateway.gateway.store
        token = await sign_in(settings, store, AdminDirectory(store, gateway.clock), gateway.clock).bootstrap()
        browser = await stack.enter_async_context(running_browser())
        yield Scene(simulator, gateway, browser, token.reveal())


async def popup_of(page: Page, link: str) -> Page:
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name=link).click()
    return await opened.value


async def test_a_device_code_brings_an_account_in_that_serves(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        now.simulator.state.new_account(account_id="acct-1", email="one@example.com")
        await now.first_owner()
        await now.page.get_by_role("link", name="Add an account").click()
        await now.page.get_by_label("Expected account").fill("one@example.com")
        await now.page.get_by_role("button", name="Get a code").click()
        code = await now.page.locator(".copy-text.code").inner_text()
        address = now.page.url
        await now.page.reload()
        await expect(now.page.locator(".copy-text.code")).to_have_text(code)
        issuer = await popup_of(now.page, "Open the sign-in page")
        await issuer.locator("[name=user_code]").fill(code)
        await issuer.locator("[name=account_id]").select_option("acct-1")
        await issuer.locator("button").first.click()
        await expect(now.page.get_by_text("is here and serves")).to_be_visible(timeout=30_000)
        assert now.page.url == address
        await now.page.get_by_role("link", name="See the accounts").click()
        await expect(now.page.get_by_role("heading", name="one@example.com")).to_be_visible()
        await now.choose("one@example.com", "Probe")
        await now.told("The account was probed")
        await expect(now.page.get_by_role("meter")).to_have_count(2)
        await now.choose("one@example.com", "Refresh")
        await now.told("The account has a new token")

        await now.open("/tenants")
        await now.page.locator("#page-actions").get_by_role("button", name="Create a tenant").click()
        await now.page.get_by_label("Name").fill("Research")
        await now.page.get_by_role("button", name="Create", exact=True).click()
        await expect(now.page.get_by_role("row").filter(has_text="Research")).to_be_visible()
        await now.open("/keys")
        await now.page.get_by_role("button", name="Create a key").click()
        await now.page.get_by_label("Name").fill("laptop")
        await now.page.get_by_role("button", name="Create", exact=True).click()
        key = await now.page.get_by_role("dialog").locator("code").first.inner_text()
        await now.page.get_by_role("button", name="I have it").click()
        await now.gateway.gateway.background.share()
        async with httpx.AsyncClient(base_url=now.gateway.url, trust_env=False) as client:
            body = {"model": "gpt-5.5", "input": "hello"}
            answer = await client.post("/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        now.browser.check()


async def test_a_pasted_address_brings_an_account_in_and_another_account_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        for name in ("one", "two"):
            now.simulator.state.new_account(account_id=f"acct-{name}", email=f"{name}@example.com")
        await now.first_owner()
        for expected, account, told in (
            ("two@example.com", "acct-one", "Nothing was stored"),
            ("one@example.com", "acct-one", "is here and serves"),
        ):
            await now.open("/accounts/add?way=callback")
            await now.page.get_by_label("Expected account").fill(expected)
            await now.page.get_by_role("button", name="Begin").click()
            issuer = await popup_of(now.page, "Open the sign-in page")
            await issuer.locator("[name=account_id]").select_option(account)
            async with issuer.expect_event("requestfailed") as ended:
                await issuer.locator("button[value=approve], button").first.click()
            address = (await ended.value).url
            assert "/auth/callback?" in address
            await now.page.get_by_label("Address", exact=True).fill(address)
            await now.page.get_by_role("button", name="Finish the sign-in").click()
            await expect(now.page.get_by_text(told).last).to_be_visible(timeout=15_000)
            await issuer.close()
        await now.open("/accounts")
        await expect(now.page.get_by_role("heading", level=2)).to_have_text(["one@example.com"])
        now.browser.check()


async def test_files_come_in_and_accounts_are_changed_and_leave(tmp_path: Path) -> None:
    async with scene(tmp_path) as now:
        paths = []
        for name in ("one", "two"):
            document = now.simulator.state.new_account(account_id=f"acct-{name}", email=f"{name}@example.com")
            paths.append(tmp_path / f"{name}.json")
            paths[-1].write_text(json.dumps(document))
        (tmp_path / "bad.json").write_text("[]")
        await now.first_owner()
        await now.open("/accounts/add?way=file")
        await now.page.get_by_label("Files").set_input_files([*paths, tmp_path / "bad.json"])
        await now.page.get_by_label("Or paste").fill(" rubbish")
        await now.page.get_by_role("button", name="Bring in").click()
        outcomes = now.page.get_by_role("region", name="Outcome").get_by_role("listitem")
        await expect(outcomes.filter(has_text="Added")).to_have_count(2, timeout=15_000)
        await expect(outcomes.filter(has_text="Refused")).to_have_count(2)
        await now.open("/accounts")
        cards = now.page.get_by_role("list", name="Accounts").get_by_role("listitem")
        await expect(cards).to_have_count(2)
        await now.choose("one@example.com", "Disable")
        await expect(cards.filter(has_text="one@example.com")).to_contain_text("Disabled")
        await now.choose("one@example.com", "Edit")
        await now.page.get_by_label("Label").fill("<img src=x onerror=alert(1)>")
        await now.page.get_by_label("Pool", exact=True).last.fill("spare")
        await now.page.get_by_role("button", name="Save").click()
        await now.told("Saved")
        await expect(cards.filter(has_text="pool spare")).to_contain_text("<img src=x")
        await now.choose("two@example.com", "Remove")
        await now.page.get_by_label("Type the name").fill("two@example.com")
        await now.page.get_by_role("button", name="Remove the account").click()
        await now.told("taken back at the issuer")
        await expect(cards).to_have_count(1)

        await now.open("/audit")
        await expect(now.page.get_by_role("row").filter(has_text="admin:ada").first).to_be_visible()
        await now.page.get_by_role("button", name="Verify the chain").click()
        await expect(now.page.get_by_text("records are whole")).to_be_visible()
        for path in ("", "/tenants", "/keys", "/admins", "/profile"):
            await now.open(path)
            await expect(now.page.locator(".loading")).to_have_count(0)
            await expect(now.page.get_by_role("alert")).to_have_count(0)
        await now.page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(now.page.get_by_role("heading", name="Sign in")).to_be_visible()
        await now.page.get_by_label("Name").fill("ada")
        await now.page.get_by_label("Password").fill(PASSWORD)
        await now.page.get_by_role("button", name="Sign in").click()
        await expect(now.page.get_by_role("heading", name="Overview")).to_be_visible()
        now.browser.check()
