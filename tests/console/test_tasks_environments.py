"""Environments in a real Chromium: made, changed, removed by name; secrets go in and are never asked for again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from playwright.async_api import expect

from tests.console.conftest import Stage
from tests.console.fake_api import FakeApi
from tests.console.fake_tasks import with_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]


async def test_an_environment_is_made_with_secrets_domains_and_limits(staged: Staged) -> None:
    api = FakeApi()
    tasks = with_sandbox(api, environments=[])
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks/new")
        await page.get_by_role("main").get_by_role("link", name="New environment").click()
        await page.get_by_label("Name", exact=True).fill("Shop")
        await page.get_by_label("Repository").fill("https://git.example/shop/web.git")
        await page.get_by_label("Set-up script").fill("npm ci\nnpm run build\n")
        await page.get_by_label("Test command").fill("npm test")
        await page.get_by_label("Variables").fill("LANG=C.UTF-8\n\nnot a variable")
        await page.get_by_label("The set-up may reach").fill("registry.npmjs.org\n*.example.com")
        await page.get_by_label("Processors").fill("16")
        await page.get_by_role("button", name="Add a secret").click()
        secret = page.locator(".secret")
        await secret.get_by_label("Name").fill("NPM_TOKEN")
        await secret.get_by_label("Value").fill("npm-very-secret")
        assert await secret.get_by_label("Value").get_attribute("type") == "password"
        await page.get_by_role("button", name="Create", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("is not NAME=value")
        await page.get_by_label("Variables").fill("LANG=C.UTF-8\nURL=a=b\n__proto__=x")
        await page.get_by_role("button", name="Create", exact=True).click()
        await expect(page.get_by_role("alert")).to_contain_text("At most 8 here")
        await expect(page.get_by_label("Processors")).to_be_focused()
        await page.get_by_label("Processors").fill("1.5")
        await page.get_by_role("button", name="Create", exact=True).click()
        row = page.get_by_role("row").filter(has_text="Shop")
        await expect(row).to_contain_text("registry.npmjs.org, *.example.com")
        await expect(row).to_contain_text("NPM_TOKEN")
        assert "npm-very-secret" not in await page.content()
        (*_, sent) = tasks.sent("POST", "/v1/environments")
        assert sent == {
            "label": "Shop", "repository": "https://git.example/shop/web.git",
            "setup_script": "npm ci\nnpm run build\n", "maintenance_script": "", "test_command": "npm test",
            "variables": {"LANG": "C.UTF-8", "URL": "a=b", "__proto__": "x"},
            "network": {"setup": {"domains": ["registry.npmjs.org", "*.example.com"]}, "agent": {"domains": []}},
            "limits": {"cpus": 1.5}, "secrets": {"NPM_TOKEN": "npm-very-secret"},
        }  # fmt: skip
        assert {path for method, path, _, _ in tasks.calls if method == "POST"} == {"/v1/environments?tenant=ten_1"}
        stage.browser.check()


async def test_an_environment_is_changed_and_removed_by_name(staged: Staged) -> None:
    api = FakeApi()
    tasks = with_sandbox(api)
    async with staged(api) as stage:
        page = await stage.sign_in("/environments")
        await page.get_by_role("link", name="Shop", exact=True).click()
        await expect(page.get_by_label("Name", exact=True)).to_have_value("Shop")
        await page.get_by_label("Take away PYPI_TOKEN").check()
        await page.get_by_role("button", name="Add a secret").click()
        await page.locator(".secret").get_by_label("Name").fill("OTHER")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("OTHER has no value")
        await page.locator(".secret").get_by_label("Value").fill("s3cret")
        await page.get_by_label("The agent may reach").fill("docs.example.com")
        await page.get_by_label("Time in seconds").fill("")
        await page.get_by_role("button", name="Save").click()
        row = page.get_by_role("row", name="Shop env_1")
        await expect(row).to_contain_text("docs.example.com")
        await expect(row).to_contain_text("OTHER")
        (sent,) = [body for method, _, body, _ in tasks.calls if method == "PATCH"]
        assert "wall_s" not in sent["limits"]
        assert sent["secrets"] == {"PYPI_TOKEN": None, "OTHER": "s3cret"}
        assert sent["network"]["setup"]["methods"] == ["GET", "HEAD", "POST"]  # what the page does not show, it keeps
        await page.get_by_role("link", name="Shop", exact=True).click()
        await page.get_by_role("button", name="Remove").click()
        await page.get_by_label("Type the name").fill("shop")
        await page.get_by_role("button", name="Remove the environment").click()
        await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("This is not its name")
        await page.get_by_label("Type the name").fill("Shop")
        await page.get_by_role("button", name="Remove the environment").click()
        await expect(page.get_by_role("row").filter(has_text="Docs")).to_be_visible()
        assert [one["label"] for one in tasks.environments] == ["Docs"]
        stage.browser.check()


async def test_a_change_by_somebody_else_is_not_written_over(staged: Staged) -> None:
    api = FakeApi()
    tasks = with_sandbox(api)
    async with staged(api) as stage:
        page = await stage.sign_in("/environments/env_1")
        await page.get_by_label("Name", exact=True).fill("Mine")
        tasks.environments[0]["version"] = 2
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("alert")).to_contain_text("It has changed meanwhile")
        assert tasks.environments[0]["label"] == "Shop"
        stage.browser.check()
