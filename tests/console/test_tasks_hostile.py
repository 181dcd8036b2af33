"""What a model, a container or a repository says is shown on the pages of tasks and does nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import pytest
from playwright.async_api import expect

from gateway.tasks.routes import REST
from tests.console.conftest import Stage
from tests.console.fake_api import FakeApi, Refusal
from tests.console.fake_tasks import FakeTasks, attempt, environment, task, with_sandbox
from tests.console.payloads import ELSEWHERE, PAYLOADS
from tests.console.test_pages_hostile import unharmed
from tests.console.test_pages_looks import contrasts

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]

OUTPUT: Final = (
    *PAYLOADS,
    "\x1b[2J\x1b[H\x1b[31mred\x1b[0m",
    "\x1b]0;a title\x07after the title",
    f"\x1b]8;;https://{ELSEWHERE}/\x1b\\a link\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07clipboard",
    "\x1b]" + "never ends " * 50,
    "\x1b[" + "9" * 500 + "m",
    "\x9b31m\x90device\x9c",
    "over\rwritten\b\b\b",
    "NUL \x00 and \x7f and \ufeff",
    "\u202etxt.exe\u202c \u2066isolated\u2069 \u061c",
    "\ufffd\ufffe\U000e0001",
    "x" * 200_000,
    "\x1b" * 20_000,
    "\n" * 5_000,
)


def hostile() -> tuple[FakeApi, FakeTasks]:
    """Every text in every place where one of somebody else can stand: one task for each, one with all of them."""
    api = FakeApi()
    tasks = with_sandbox(api, environments=[environment(n, text) for n, text in enumerate(PAYLOADS, 1)])
    for n, text in enumerate(OUTPUT, 1):
        bad = attempt(1, rank=1, reasons=[text], message=text, worker=text)
        files = [{"attempt": 1, "name": name, "size_bytes": 1} for name in ("diff.patch", text, f"a/{text}/../b")]
        review = {"claimed_by": text, "approved_by": [text], "rejected_by": text, "reason": text}
        one = task(n, text, ("ready", "failed", text)[n % 3], [bad], prompt=text, model=text, created_by=text,
                   ended=text if n % 3 else None, review=review, files=files, environment_id=f"env_{n}")  # fmt: skip
        tasks.tasks.append(one)
        tasks.diffs[(one["id"], 1)] = diff_of(text)
        for kind, data in lines_of(text):
            tasks.say(one, kind, data)
    for one in tasks.environments:
        text = one["label"]
        one.update(repository=text, setup_script=text, secrets=[text], variables={"A": text})
        one["network"]["setup"]["domains"] = [text]
    return api, tasks


def diff_of(text: str) -> str:
    first = text.split("\n", 1)[0] or "x"
    return (
        f"diff --git a/{first} b/{first}\nsimilarity index {first}\n--- a/{first}\n+++ b/{first}\n"
        f"@@ -1,2 +1,2 @@ {first}\n"
        f" {first}\n-{first}\n+{first}\n\\ {first}\n"
        "diff --git a/x.js b/x.js\n--- a/x.js\n+++ b/x.js\n@@ -0,0 +1,2 @@\n"
        f'+const a = "{first}"; // {first}\n+{first}\n'
    )


def lines_of(text: str) -> list[tuple[str, dict[str, object]]]:
    return [
        ("setup.output", {"text": text, "label": text}),
        ("codex.item.completed", {"item": {"type": "agent_message", "text": text}}),
        ("codex.item.started", {"item": {"type": "command_execution", "command": text}}),
        ("codex.item.completed", {"item": {"type": "command_execution", "aggregated_output": text, "exit_code": text}}),
        ("codex.item.completed", {"item": {"type": "file_change", "changes": [{"kind": text, "path": text}, None]}}),
        ("codex.item.completed", {"item": {"type": text, text: [text]}}),
        ("codex.item.completed", {"item": {"type": "command_execution", "aggregated_output": {"a": text}}}),
        ("codex.turn.failed", {"error": {"message": text}}),
        (f"worker.{text}", {text: text, "item": text, "error": text}),
    ]


async def test_hostile_lists_are_inert(staged: Staged) -> None:
    api, _ = hostile()
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks?limit=x&state=constructor")
        for path in ("/tasks", "/tasks/new", "/environments", "/environments/env_1", "/environments/env_31"):
            await stage.open(path)
            await expect(page.locator(".loading")).to_have_count(0)
            await expect(page.get_by_role("alert")).to_have_count(0)
            await page.wait_for_timeout(200)
            await unharmed(stage)
        stage.browser.check()


async def test_hostile_tasks_diffs_and_logs_are_inert(staged: Staged) -> None:
    api, tasks = hostile()
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks")
        for one in tasks.tasks:
            await page.evaluate(f"history.pushState(null, '', '/console/tasks/{one['id']}')")
            await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
            await expect(page.locator(".diff-file").first).to_be_attached(timeout=30_000)
            await page.get_by_role("tab", name="Log").click()
            await expect(page.locator(".log-line")).to_have_count(9, timeout=30_000)
            await unharmed(stage)
            shown = await page.locator("#app").inner_text()
            assert not set(shown) & set("\x00\x07\x08\x1b\x7f\x9b\u202e\u2066\ufeff")
            hrefs = await page.eval_on_selector_all(".files a", "all => all.map(a => a.pathname)")
            assert all(href.startswith("/v1/tasks/") for href in hrefs)
        stage.browser.check()


async def test_escape_sequences_steer_nothing(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.open("/sign-in")
        cases = {
            "\x1b[31mred\x1b[0m": "red", "\x1b[2J\x1b[Hx": "x", "\x1b]0;title\x07y": "y",
            "\x1b]8;;https://a/\x1b\\link\x1b]8;;\x1b\\": "link", "a\r\nb\rc": "a\nb\nc",
            "\x1b]open\nend": "\ufffd]open\nend",
            "\x1b": "\ufffd", "\x9b31m": "\ufffd31m", "a\x00b": "a\ufffdb", "tab\there": "tab\there",
        }  # fmt: skip
        script = "all => import('/console/static/pages/task_log.js').then(log => all.map(log.inert))"
        assert await page.evaluate(script, list(cases)) == list(cases.values())
        long = "async () => { const log = await import('/console/static/pages/task_log.js');"
        long += " const before = performance.now();"
        long += " for (const one of ['\\u001b[', '\\u001b]', '\\u001b', '\\u001b[1;']) log.inert(one.repeat(200000));"
        long += " return performance.now() - before; }"
        assert await page.evaluate(long) < 5000


async def test_source_is_cut_into_parts_without_losing_any(staged: Staged) -> None:
    async with staged() as stage:
        page = await stage.open("/sign-in")
        lines = [
            *OUTPUT[:-2],
            "/* open",
            "a /* b */ c",
            "'open",
            "x = 'it\\'s' # why",
            '"//" // yes',
            "a - b -- c",
            "é≠中",
        ]
        script = """([names, lines]) => import('/console/static/pages/task_syntax.js').then((syntax) =>
            names.map(syntax.kindOf).map((kind) =>
                lines.map((line) => syntax.parts(line, kind).map(([, part]) => part).join(''))))"""
        whole = [one.replace("\n", " ") for one in lines]
        names = ["a.py", "a.js", "a.sql", "a.json", "Dockerfile", "a.unknown", ""]
        assert await page.evaluate(script, [names, whole]) == [whole] * len(names)


async def test_hostile_failures_are_inert_and_every_code_has_words(staged: Staged) -> None:
    api, tasks = hostile()
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks")
        for text in PAYLOADS:
            api.fail_next["/v1/tasks"] = Refusal(502, text, text, text)
            await page.evaluate("dispatchEvent(new PopStateEvent('popstate'))")
            await expect(page.get_by_role("alert")).to_be_visible()
            await unharmed(stage)
        script = """codes => import('/console/static/words.js').then((words) =>
            codes.filter((code) => words.explain({ code, message: '' }).includes('It failed')))"""
        assert await page.evaluate(script, sorted({code for route in REST for code in route.errors})) == []
        assert tasks.calls
        stage.browser.check()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_can_be_read_and_fit_a_narrow_screen(staged: Staged, scheme: str) -> None:
    api = FakeApi()
    tasks = with_sandbox(api)
    running = task(2, "running", "running", [attempt(1, None)])
    tasks.tasks = [task(1, "a" * 200, attempts=[attempt(1, rank=1), attempt(2, "failed"), attempt(3, rank=2)]), running]
    for kind, data in lines_of("words"):
        tasks.say(running, kind, data)
    paths = ["/tasks", "/tasks/new", "/environments", "/environments/env_1", "/environments/new"]
    async with staged(api, scheme=scheme, width=360, height=740) as stage:
        page = await stage.sign_in()
        for path in (*paths, *(f"/tasks/{one['id']}" for one in tasks.tasks)):
            await stage.open(path)
            await expect(page.locator(".loading")).to_have_count(0)
            await page.wait_for_timeout(200)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 360, path
            assert await contrasts(page) == [], path
        stage.browser.check()


async def test_the_tabs_of_a_task_are_moved_by_arrows(staged: Staged) -> None:
    api = FakeApi()
    tasks = with_sandbox(api)
    tasks.tasks = [task(1, "one")]
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{tasks.tasks[0]['id']}")
        await page.get_by_role("tab", name="Diff").focus()
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("tab", name="Log")).to_be_focused()
        await expect(page.get_by_role("tabpanel", name="Log")).to_be_visible()
        await page.keyboard.press("ArrowLeft")
        await expect(page.get_by_role("region", name="Diff of app/money.py")).to_be_visible()
        await page.get_by_role("button", name="Approve").press("Enter")
        await expect(page.get_by_role("radio")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("button", name="Approve")).to_be_focused()
        stage.browser.check()
