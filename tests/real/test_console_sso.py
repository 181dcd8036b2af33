"""Single sign-on end to end: a real Chromium, a whole gateway, and a real OpenID provider."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from auth.oidc import CALLBACK_PATH
from ops.embedded import Embedded, embedded_gateway
from tests.flow.stage import settings_for
from tests.real.browser import running_browser
from tests.real.test_oidc_provider import CLIENT_SECRET, node, provider
from tests.redis_server import free_port

__all__ = ["node"]
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]


@contextlib.asynccontextmanager
async def scene(folder: Path, node_path: str) -> AsyncIterator[tuple[Embedded, Page]]:
    """A gateway whose people come from the provider, and a browser at its door."""
    async with contextlib.AsyncExitStack() as stack:
        port = free_port()
        home = f"http://localhost:{port}"
        issuer = await stack.enter_async_context(provider(node_path, redirect_uris=[home + CALLBACK_PATH]))
        settings = settings_for(
            folder,
            "http://127.0.0.1:9/backend-api/codex",
            server={"port": port, "public_url": home},
            oidc={
                "issuer": issuer,
                "client_id": "codex-relay",
                "client_secret": CLIENT_SECRET,
                "roles": {"chiefs": "owner", "ops": "admin", "staff": "member"},
            },
        )
        gateway = await stack.enter_async_context(embedded_gateway(settings))
        browser = await stack.enter_async_context(running_browser())
        await browser.page.goto(f"{home}/console/accounts")
        yield gateway, browser.page


async def through_the_provider(page: Page, login: str) -> None:
    await page.get_by_role("link", name="Continue with single sign-on").click()
    for _ in range(2):  # who are you, and may it
        await page.locator("input[name=login]").fill(login)
        await page.locator("input[name=login]").press("Enter")
        if "/interaction/" not in page.url:
            break


async def test_a_person_of_the_right_group_comes_in_and_lands_where_he_wanted(tmp_path: Path, node: str) -> None:
    async with scene(tmp_path, node) as (gateway, page):
        await through_the_provider(page, "ann")
        await expect(page.get_by_role("heading", name="Accounts")).to_be_visible()
        assert page.url.endswith("/console/accounts")
        (record,) = await gateway.gateway.store.search_audit(action="session.*")
        assert record.outcome == "ok"


async def test_a_person_without_a_role_is_told_so_and_stays_outside(tmp_path: Path, node: str) -> None:
    async with scene(tmp_path, node) as (_, page):
        await through_the_provider(page, "eve")
        await expect(page.get_by_text("Single sign-on did not let you in")).to_be_visible()
        assert "/console/sign-in" in page.url
