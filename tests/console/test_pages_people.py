"""Signing in and out, one-time links, roles, keys, tenants, people, audit and profile, in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from playwright.async_api import Page, expect

from auth.roles import Role
from tests.console.conftest import Stage
from tests.console.fake_api import CODE, PASSWORD, TOKEN, FakeApi
from tests.console.fake_records import house, person

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]


async def enter(page: Page, name: str, password: str) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_signing_in_with_a_code_leads_where_one_wanted_to_go(staged: Staged) -> None:
    async with staged(FakeApi(totp=True, oidc=True, accounts=house())) as stage:
        page = await stage.open("/accounts?pool=spare")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        sso = page.get_by_role("link", name="Continue with single sign-on")
        assert await sso.get_attribute("href") == "/console/oidc/start?next=%2Fconsole%2Faccounts%3Fpool%3Dspare"
        await enter(page, "ada", "wrong password")
        await expect(page.get_by_role("alert")).to_contain_text("name, the password or the code is wrong")
        await enter(page, "ada", "again and again")
        await expect(page.get_by_role("alert")).to_contain_text("Try again in 1 min")
        await enter(page, "ada", PASSWORD)
        await expect(page.get_by_label("One-time code")).to_be_focused()
        await page.get_by_label("One-time code").fill("000000")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("code is wrong")
        await page.get_by_label("One-time code").fill(f"{CODE[:3]} {CODE[3:]}")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("listitem").filter(has_text="barbara")).to_be_visible()
        assert page.url.endswith("/console/accounts?pool=spare")
        await expect(page.get_by_label("Pool")).to_have_value("spare")
        stage.api.signed_in = False
        await page.get_by_role("link", name="Tenants").click()
        await expect(page.get_by_text("Your session has ended")).to_be_visible()
        stage.browser.check()


@pytest.mark.parametrize("path", ["//elsewhere.example", "https://elsewhere.example", "/console//x", "/admin/api/x"])
async def test_signing_in_never_leads_away(staged: Staged, path: str) -> None:
    async with staged() as stage:
        page = await stage.open(f"/sign-in?next={path}")
        await enter(page, "ada", PASSWORD)
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert page.url == f"{stage.url}/console"
        stage.browser.check()


@pytest.mark.parametrize("path", ["/welcome", "/link"])
async def test_a_one_time_link_makes_the_first_owner_and_leaves_no_trace(staged: Staged, path: str) -> None:
    async with staged(FakeApi(bootstrap_needed=True)) as stage:
        page = await stage.open(f"{path}#{TOKEN}")
        await expect(page.get_by_text("this makes you the owner")).to_be_visible()
        assert "#" not in page.url
        await page.get_by_label("Your name").fill("ada")
        await page.get_by_label("Password", exact=True).fill("short")
        await page.get_by_label("Password again").fill("short")
        await page.get_by_role("button", name="Become the owner").click()
        await expect(page.get_by_role("alert")).to_contain_text("Password")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Become the owner").click()
        await expect(page.get_by_role("alert")).to_contain_text("not the same")
        await page.get_by_label("Password again").fill(PASSWORD)
        await page.get_by_role("button", name="Become the owner").click()
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        assert stage.api.called("POST", "/bootstrap") == [{"token": TOKEN, "password": PASSWORD, "name": "ada"}]
        await stage.open("/sign-in")
        await page.go_back()
        assert TOKEN not in page.url
        await stage.open(f"{path}#broken")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_label("Password again").fill(PASSWORD)
        await page.get_by_role("button", name="Set the password").click()
        await expect(page.get_by_role("alert")).to_contain_text("Ask an owner for a new one")
        stage.browser.check()


PAGES = ["Overview", "Accounts", "Tenants", "Keys", "Audit", "Administrators", "Profile"]


@pytest.mark.parametrize(
    ("role", "shown", "offered"),
    [
        (Role.OWNER, PAGES, {"/accounts", "/tenants", "/keys", "/admins"}),
        (Role.ADMIN, PAGES, {"/accounts", "/tenants", "/keys"}),
        (Role.AUDITOR, PAGES, set()),
        (Role.MEMBER, ["Profile"], set()),
    ],
)
async def test_only_what_the_role_may_do_is_offered(
    staged: Staged, role: Role, shown: list[str], offered: set[str]
) -> None:
    async with staged(FakeApi(role=role, accounts=house())) as stage:
        page = await stage.sign_in()
        links = page.get_by_role("navigation", name="Main").get_by_role("link")
        assert await links.all_inner_texts() == shown
        for path in ("/accounts", "/tenants", "/keys", "/admins"):
            await stage.open(path)
            if role is Role.MEMBER:
                await expect(page.get_by_role("alert")).to_contain_text("Your role may not see this page")
                continue
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
            await expect(page.locator(".loading")).to_have_count(0)
            acts = await page.locator("#page-actions").locator("a, button").count()
            menus = await page.get_by_role("main").locator("[aria-haspopup=menu], .danger-text").count()
            assert (acts > 0, menus > 0) == (path in offered, path in offered), path
        assert all(method == "GET" or path == "/session" for method, path, _ in stage.api.calls)
        stage.browser.check()


async def test_the_sandboxs_pages_are_not_shown(staged: Staged) -> None:
    async with staged(FakeApi(sandbox=False)) as stage:
        page = await stage.sign_in("/tasks")
        await expect(page.get_by_role("heading", name="No such page")).to_be_visible()
        assert "Tasks" not in await page.get_by_role("navigation", name="Main").inner_text()


async def test_a_key_is_made_shown_once_and_revoked(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in("/keys")
        await page.get_by_role("button", name="Create a key").click()
        await page.get_by_label("Name").fill("robot")
        await page.get_by_label("Models").fill("gpt-5.5, gpt-5.5-mini")
        await page.get_by_label("Ends").select_option("86400")
        await page.get_by_role("button", name="Create", exact=True).click()
        await expect(page.get_by_text("cr_once_and_never_again")).to_be_visible()
        await page.get_by_role("button", name="I have it").click()
        await expect(page.get_by_text("cr_once_and_never_again")).to_have_count(0)
        assert stage.api.called("POST", "/keys") == [
            {"tenant": "ten_1", "name": "robot", "scopes": ["relay"], "models": ["gpt-5.5", "gpt-5.5-mini"],
             "expires_in_s": 86400}
        ]  # fmt: skip
        await page.get_by_role("button", name="Revoke robot").click()
        await page.get_by_role("button", name="Revoke", exact=True).click()
        await expect(page.get_by_role("row").filter(has_text="robot")).to_contain_text("Revoked")
        stage.browser.check()


async def test_tenants_and_people_are_made_and_the_last_owner_stays(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in("/tenants")
        await page.get_by_role("button", name="Create a tenant").click()
        await page.get_by_label("Name").fill("Support")
        await page.get_by_label("Pools").fill("spare, default")
        await page.get_by_role("button", name="Create", exact=True).click()
        await expect(page.get_by_role("row").filter(has_text="Support")).to_contain_text("spare → default")
        await page.get_by_role("link", name="Administrators").click()
        await page.get_by_role("button", name="Add a person").click()
        await page.get_by_label("Name").fill("grace")
        await page.get_by_label("Role").select_option("admin")
        await page.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_text("/console/welcome#one-time-token")).to_be_visible()
        await page.get_by_role("button", name="I have it").click()
        await expect(page.get_by_role("row").filter(has_text="grace")).to_be_visible()
        await page.get_by_role("button", name="More for ada").click()
        await page.get_by_role("menuitem", name="Disable").click()
        await expect(page.locator(".toast.bad")).to_contain_text("the last owner who can sign in")
        assert stage.api.admins[0]["enabled"] is True
        stage.browser.check()


async def test_the_audit_log_is_paged_filtered_and_verified(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.sign_in("/audit")
        rows = page.get_by_role("table").get_by_role("row")
        await expect(rows).to_have_count(101)
        await page.get_by_role("button", name="Next page").click()
        await expect(rows).to_have_count(21)
        await page.get_by_role("button", name="Earlier page").click()
        await expect(rows).to_have_count(101)
        await page.get_by_label("Action").fill("keys.create")
        await page.get_by_role("button", name="Show").click()
        await expect(rows).to_have_count(31)
        await page.get_by_role("button", name="Verify the chain").click()
        await expect(page.get_by_text("All 120 records are whole")).to_be_visible()
        stage.api.audit_fault = "record 17 does not follow record 16"
        await page.get_by_role("button", name="Verify the chain").click()
        await expect(page.get_by_role("alert")).to_contain_text("record 17 does not follow")
        stage.browser.check()


async def test_the_profile_changes_password_codes_and_sessions(staged: Staged) -> None:
    async with staged(FakeApi(admins=[person("adm_1", "ada", "owner")])) as stage:
        page = await stage.sign_in("/profile")
        await page.get_by_label("Present password").fill(PASSWORD)
        await page.get_by_label("New password", exact=True).fill("another long password")
        await page.get_by_label("New password again").fill("another long password")
        await page.get_by_role("button", name="Change the password").click()
        await expect(page.locator(".toast")).to_contain_text("other sessions have ended")
        await page.get_by_role("button", name="Set up").click()
        await expect(page.get_by_role("img", name="QR code")).to_be_visible()
        await expect(page.get_by_text("JBSWY3DPEHPK3PXP")).to_be_visible()
        await page.get_by_label("Code of the app").fill("999999")
        await page.get_by_role("button", name="Turn on").click()
        await expect(page.get_by_role("alert")).to_contain_text("the code is wrong")
        await page.get_by_label("Code of the app").fill(CODE)
        await page.get_by_role("button", name="Turn on").click()
        await expect(page.get_by_role("button", name="Turn off")).to_be_visible()
        await page.get_by_role("button", name="Turn off").click()
        await page.get_by_role("dialog").get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("dialog").get_by_role("button", name="Turn off").click()
        await expect(page.get_by_role("button", name="Set up")).to_be_visible()
        await page.get_by_role("button", name="Sign out Chrome").click()
        await expect(page.locator(".toast").filter(has_text="That session has ended")).to_be_visible()
        assert ("DELETE", "/me/sessions/ses_2", None) in stage.api.calls
        await page.get_by_role("button", name="Sign out", exact=True).click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        stage.browser.check()
