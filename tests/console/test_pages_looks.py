"""The console by keyboard alone, in the dark, on a narrow screen, and when the gateway is away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Stage
from tests.console.fake_api import PASSWORD, FakeApi, Refusal
from tests.console.fake_records import house, login

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]
PATHS = ("", "/accounts", "/accounts/add", "/tenants", "/keys", "/admins", "/audit", "/profile")


async def tab_to(page: Page, name: str) -> None:
    """Presses Tab until what has the focus is called ``name``; whatever has it must be seen to have it."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        script = """() => { const e = document.activeElement, name = e.getAttribute('aria-label');
            return [name ?? e.labels?.[0]?.textContent ?? e.textContent, getComputedStyle(e).outlineStyle]; }"""
        found, outline = await page.evaluate(script)
        assert outline != "none", found
        if found.strip().startswith(name):
            return
    raise AssertionError(f"{name} is not reached by the keyboard")


async def test_an_account_is_disabled_by_keyboard_alone(staged: Staged) -> None:
    async with staged(FakeApi(accounts=house()[:2])) as stage:
        page = await stage.open("/sign-in")
        await expect(page.get_by_label("Name")).to_be_focused()
        await page.keyboard.type("ada")
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await tab_to(page, "Accounts")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="ada")).to_be_visible()
        await tab_to(page, "Actions for ada")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("menuitem", name="Probe")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Actions for ada")).to_be_focused()
        await page.keyboard.press("ArrowDown")
        for _ in range(2):
            await page.keyboard.press("ArrowDown")
        await expect(page.get_by_role("menuitem", name="Disable")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Actions for ada")).to_be_focused()
        await expect(page.locator("#live")).to_have_text("Account disabled")
        assert stage.api.accounts[0]["enabled"] is False
        await page.keyboard.press("Enter")
        await page.keyboard.press("ArrowUp")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Type the name")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_role("button", name="Actions for ada")).to_be_focused()
        stage.browser.check()


async def test_the_way_in_is_chosen_by_arrows(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in("/accounts/add")
        await page.get_by_role("tab", name="Device code").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("tab", name="Paste the address")).to_be_focused()
        await page.keyboard.press("ArrowLeft")
        await page.keyboard.press("ArrowLeft")
        await expect(page.get_by_role("tab", name="auth.json")).to_have_attribute("aria-selected", "true")
        await expect(page.get_by_label("Or paste")).to_be_visible()
        stage.browser.check()


async def contrasts(page: Page) -> list[str]:
    """Texts whose contrast with what is behind them is below 4.5 (WCAG AA)."""
    found: list[str] = await page.evaluate(
        """() => {
        const parts = (c) => c.match(/[\\d.]+/g).map(Number);
        const part = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const lum = ([r, g, b]) => [r, g, b].map(part).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
            if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
        const bad = [];
        for (const e of document.querySelectorAll('#app *')) {
            const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
            if (!text || !e.checkVisibility()) continue;
            const style = getComputedStyle(e);
            const [a, b] = [lum(parts(style.color)), lum(behind(e))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) bad.push(`${e.tagName} ${e.textContent.trim().slice(0, 40)} ${ratio.toFixed(2)}`);
        }
        return bad; }"""
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_can_be_read(staged: Staged, scheme: str) -> None:
    async with staged(
        FakeApi(accounts=house(), logins=[login("login_1", "device")], oidc=True), scheme=scheme
    ) as stage:
        page = await stage.open("/sign-in")
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert await contrasts(page) == []
        await stage.sign_in()
        light = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (light == "rgb(245, 246, 248)") is (scheme == "light")
        for path in (*PATHS, "/accounts/add?login=login_1"):
            await stage.open(path)
            await expect(page.locator(".loading")).to_have_count(0)
            await page.wait_for_timeout(200)
            assert await contrasts(page) == [], path
        stage.browser.check()


async def test_nothing_is_cut_off_on_a_narrow_screen(staged: Staged) -> None:
    api = FakeApi(accounts=house(), logins=[login("login_1", "device"), login("login_2", "callback")])
    async with staged(api, width=360, height=740) as stage:
        page = await stage.sign_in()
        for path in (*PATHS, "/accounts/add?login=login_1", "/accounts/add?login=login_2", "/accounts/add?way=file"):
            await stage.open(path)
            await expect(page.locator(".loading")).to_have_count(0)
            await page.wait_for_timeout(200)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
        await expect(page.get_by_role("link", name="Keys")).to_be_hidden()
        await page.get_by_role("button", name="Menu").click()
        await page.get_by_role("link", name="Keys").click()
        await expect(page.get_by_role("heading", name="Keys")).to_be_visible()
        stage.browser.check()


async def test_an_empty_gateway_says_what_to_do(staged: Staged) -> None:
    async with staged(FakeApi(tenants=[], keys=[], audit=[])) as stage:
        page = await stage.sign_in()
        for path, told in (
            ("", "Requests are refused until there is one"),
            ("/accounts", "The gateway relays nothing until an account is here"),
            ("/tenants", "A tenant is who keys belong to"),
            ("/keys", "Clients are refused without one"),
            ("/audit", "No record fits"),
        ):
            await stage.open(path)
            await expect(page.get_by_text(told)).to_be_visible()
        stage.browser.check()


async def test_a_gateway_that_fails_is_told_and_tried_again(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in()
        stage.api.fail_next["/keys"] = Refusal(503, "store_unavailable", "The store is away.")
        await page.get_by_role("link", name="Keys").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("row").filter(has_text="laptop of Ada")).to_be_visible()
        await stage.browser.context.set_offline(True)
        await page.get_by_role("link", name="Tenants").click()
        await expect(page.get_by_role("alert")).to_contain_text("The gateway does not answer")
        assert all("ERR_INTERNET_DISCONNECTED" in one for one in stage.browser.problems)
