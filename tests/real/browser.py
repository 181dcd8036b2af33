"""A real headless Chromium that reaches loopback alone, and that tells what went wrong in its pages.

``running_browser`` gives a Browser with a fresh profile. Everything that a page should never do is noted: dialogs,
requests to another host, refusals by the page's policy, errors in the console and in scripts. ``Browser.check``
demands that there was none.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Dialog, Page, Request, async_playwright

from tests.real.conftest import missing

CHROMIUM = Path("/usr/bin/chromium")
INSTALL = "apt-get install chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_EXPECTED = re.compile(r"Failed to load resource: the server responded with a status of (4\d\d|502|503)")
"""The browser itself says this of every refusal that the pages go on to explain."""


@dataclass
class Browser:
    """``page`` is the first page; others are watched as they open. No slots: Playwright keeps marks on it."""

    context: BrowserContext
    page: Page
    dialogs: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on("dialog", self._dialog)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))

    async def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        await dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not _EXPECTED.search(message.text):
            self.problems.append(f"console: {message.text}")

    def requested(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in {"data", "blob", "about"} and address.hostname not in LOOPBACK:
            self.foreign.append(request.url)

    def check(self) -> None:
        """Fails when a page has done anything that it never should."""
        assert self.dialogs == []
        assert self.foreign == []
        assert self.problems == []


@contextlib.asynccontextmanager
async def running_browser(
    *,
    scheme: Literal["light", "dark"] = "light",
    width: int = 1280,
    height: int = 860,
    **options: Any,
) -> AsyncIterator[Browser]:
    """A browser with a fresh profile; both end with the block. Skips (fails under CI) without Chromium.

    The profile lies in a short path of its own: Chromium puts a socket there, whose path may have 108 bytes.
    """
    if not CHROMIUM.exists():
        missing(f"Chromium is not installed; with it: {INSTALL}")
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)))
        playwright = await stack.enter_async_context(async_playwright())
        context = await playwright.chromium.launch_persistent_context(
            home / "profile",
            executable_path=CHROMIUM,
            headless=True,
            args=list(FLAGS),
            env={"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LANG": "en_US.UTF-8"},
            locale="en-GB",
            timezone_id="UTC",
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            **options,
        )
        try:
            context.set_default_timeout(15_000)
            browser = Browser(context, context.pages[0] if context.pages else await context.new_page())
            context.on("request", browser.requested)
            context.on("page", browser.watch)
            browser.watch(browser.page)
            yield browser
        finally:
            await context.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A light one of desktop size."""
    async with running_browser() as running:
        yield running
