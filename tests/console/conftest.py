"""The console with the fake API on a free loopback port, and a browser for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Page

from tests.console.fake_api import PASSWORD, FakeApi, console_with
from tests.console.fake_records import house
from tests.real.browser import Browser, running_browser


@dataclass(slots=True)
class Stage:
    """``api`` is what the pages talk to; ``url`` is where they are."""

    api: FakeApi
    url: str
    browser: Browser

    @property
    def page(self) -> Page:
        return self.browser.page

    async def open(self, path: str = "") -> Page:
        await self.page.goto(f"{self.url}/console{path}")
        return self.page

    async def sign_in(self, path: str = "") -> Page:
        """Through the page, then to ``path``."""
        await self.open("/sign-in")
        await self.page.get_by_label("Name").fill("ada")
        await self.page.get_by_label("Password").fill(PASSWORD)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.get_by_role("button", name="Sign out", exact=True, include_hidden=True).wait_for(
            state="attached"
        )
        if path:
            await self.open(path)
            await self.page.get_by_role("button", name="Sign out", exact=True, include_hidden=True).wait_for(
                state="attached"
            )
        return self.page


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """``app`` on a free port of loopback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        running = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@contextlib.asynccontextmanager
async def stage(api: FakeApi | None = None, **options: Any) -> AsyncIterator[Stage]:
    api = api or FakeApi(accounts=house())
    async with served(console_with(api)) as url, running_browser(**options) as browser:
        yield Stage(api, url, browser)


@pytest.fixture
def staged() -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """``async with staged(api, scheme="dark", width=360) as stage``."""

    def opened(api: FakeApi | None = None, **options: Any) -> AbstractAsyncContextManager[Stage]:
        return stage(api, **options)

    return opened
