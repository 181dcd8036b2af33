"""Tasks in a real Chromium: found, asked for, followed while they run, read as a diff, and decided upon."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from auth.roles import Role
from tests.console.conftest import Stage
from tests.console.fake_api import CSRF, FakeApi, Refusal
from tests.console.fake_records import tenant
from tests.console.fake_tasks import FakeTasks, attempt, task, with_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(180)]
Staged = Callable[..., AbstractAsyncContextManager[Stage]]


def shop(role: Role = Role.OWNER) -> tuple[FakeApi, FakeTasks]:
    api = FakeApi(role=role)
    return api, with_sandbox(api)


def three() -> list[dict[str, object]]:
    return [
        attempt(1, rank=2, tests_passed=False, reasons=["its tests fail", "61200 tokens"]),
        attempt(2, rank=1),
        attempt(3, "timed_out", tests_passed=None),
    ]


async def rows(page: Page, *titles: str) -> None:
    await expect(page.get_by_role("table", name="Tasks").locator("tbody a")).to_have_text(list(titles))


async def test_tasks_are_listed_filtered_paged_and_renewed(staged: Staged) -> None:
    api, tasks = shop()
    tasks.tasks = [task(n, f"task {n}", ("ready", "failed")[n % 2]) for n in range(1, 61)]
    tasks.tasks[9]["environment_id"] = "env_2"
    tasks.tasks[10]["archived"] = True
    async with staged(api) as stage:
        page = await stage.sign_in()
        await page.get_by_role("link", name="Tasks").click()
        await rows(page, *(f"task {n}" for n in range(60, 9, -1) if n != 11))
        await page.get_by_role("button", name="Older").click()
        await rows(page, *(f"task {n}" for n in range(9, 0, -1)))
        await page.get_by_role("button", name="Newer").click()
        await expect(page.get_by_role("link", name="task 60")).to_be_visible()
        await page.get_by_label("Environment").select_option("env_2")
        await rows(page, "task 10")
        await page.get_by_label("State").select_option("failed")
        await expect(page.get_by_text("No task fits")).to_be_visible()
        await page.get_by_label("Environment").select_option("")
        await page.get_by_label("Archived").select_option("yes")
        await rows(page, "task 11")
        await page.reload()
        await rows(page, "task 11")
        await expect(page.get_by_label("State")).to_have_value("failed")
        tasks.tasks.append(task(61, "one more", "failed", archived=True))
        await rows(page, "one more", "task 11")
        await page.get_by_role("link", name="one more").click()
        await expect(page.get_by_role("heading", name="one more")).to_be_visible()
        assert page.url.endswith(f"/console/tasks/{tasks.tasks[-1]['id']}")
        stage.browser.check()


async def test_a_task_is_asked_for_by_git_address(staged: Staged) -> None:
    api, tasks = shop()
    api.tenants.append(tenant("ten_2", "Support", ["default"]))
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks")
        await page.get_by_role("main").get_by_role("link", name="New task").first.click()
        await page.get_by_label("Tenant").select_option("ten_2")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("What is to be done")
        await page.get_by_label("What is to be done").fill("Make the tests pass.")
        await page.get_by_label("Another Git repository").check()
        await page.get_by_label("Address").fill("git@git.example:shop/web.git")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("https://")
        await page.get_by_label("Address").fill("https://git.example/shop/web.git")
        await page.get_by_label("Branch, tag or commit").fill("main")
        await page.get_by_label("Token", exact=True).fill("glpat-very-secret")
        await page.get_by_label("Attempts").select_option("3")
        await page.get_by_label("Model").fill("gpt-5.5")
        await page.get_by_label("Effort").select_option("high")
        await page.get_by_label("Budget").fill("500000")
        api.fail_next["POST /v1/tasks"] = Refusal(429, "queue_full", "200 tasks of this tenant wait already.")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("Too many tasks wait already")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("heading", name="Make the tests pass.")).to_be_visible()
        await expect(page.locator(".attempt")).to_have_count(3)
        refused, taken = tasks.sent("POST", "/v1/tasks")
        assert refused == taken == {
            "environment": "env_1", "prompt": "Make the tests pass.", "attempts": 3, "model": "gpt-5.5",
            "effort": "high", "budget_tokens": 500000,
            "source": {"git": {"url": "https://git.example/shop/web.git", "ref": "main", "token": "glpat-very-secret"}},
        }  # fmt: skip
        posts = [(path, headers) for method, path, _, headers in tasks.calls if method == "POST"]
        assert {path for path, _ in posts} == {"/v1/tasks?tenant=ten_2"}
        assert {headers["x-csrf-token"] for _, headers in posts} == {CSRF}
        assert len({headers["idempotency-key"] for _, headers in posts}) == 1
        assert "glpat" not in page.url
        stage.browser.check()


async def test_a_task_is_asked_for_by_zip(staged: Staged, tmp_path: Path) -> None:
    api, tasks = shop(Role.OWNER)
    (tmp_path / "notes.doc").write_bytes(b"x")
    (tmp_path / "web.zip").write_bytes(b"PK\x03\x04" + b"z" * 3000)
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks/new?environment=env_2")
        await expect(page.get_by_label("Environment", exact=True)).to_have_value("env_2")
        await page.get_by_label("What is to be done").fill("Tidy up.")
        await page.get_by_label("A zip or tar file").check()
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("Choose a file")
        await page.get_by_label("File", exact=True).set_input_files(tmp_path / "notes.doc")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("Send a .zip, a .tar or a .tar.gz")
        await page.get_by_label("File", exact=True).set_input_files(tmp_path / "web.zip")
        await expect(page.get_by_text("web.zip, 2.9 KiB")).to_be_visible()
        api.fail_next["POST /v1/tasks"] = Refusal(503, "store_unavailable", "The store is away.")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was changed")
        await page.get_by_role("button", name="Start the task").click()
        await expect(page.get_by_role("heading", name="Tidy up.")).to_be_visible()
        assert tasks.uploads == [(tmp_path / "web.zip").read_bytes()]
        (kind,) = {headers["content-type"] for _, path, _, headers in tasks.calls if path.startswith("/v1/uploads")}
        assert kind == "application/zip"
        assert tasks.sent("POST", "/v1/tasks")[-1]["source"] == {"upload": f"up_{1:032x}"}
        stage.browser.check()


async def test_a_running_task_is_followed_and_stopped(staged: Staged) -> None:
    api, tasks = shop()
    one = task(1, "speed it up", "running", [attempt(1, None), attempt(2, None)])
    tasks.tasks = [one]
    tasks.say(one, "setup.output", {"text": "\x1b[32minstalled\x1b[0m\n"})
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{one['id']}")
        log = page.get_by_role("log", name="Log")
        await expect(page.get_by_role("tab", name="Log")).to_have_attribute("aria-selected", "true")
        await expect(log).to_contain_text("installed")
        assert "[32m" not in await log.inner_text()
        for n in range(1200):
            tasks.say(one, "codex.text", {"text": f"line {n}"}, turn=1 + n % 2)
        await expect(log).to_contain_text("line 1199")
        at_end = "e => e.scrollHeight - e.scrollTop - e.clientHeight < 4"
        assert await log.evaluate(at_end)
        await page.get_by_label("Attempt", exact=True).select_option("2")
        await expect(log.get_by_text("line 1198", exact=True)).to_be_hidden()
        await expect(log.get_by_text("line 1199", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Stop following").click()
        tasks.say(one, "codex.text", {"text": "not seen yet"}, turn=2)
        await page.wait_for_timeout(1500)
        await expect(log.get_by_text("not seen yet")).to_have_count(0)
        await page.get_by_role("button", name="Follow", exact=True).click()
        await expect(log.get_by_text("not seen yet")).to_be_visible()
        tasks.move(one, "ready")
        one["attempts"] = three()[:2]
        one["files"] = task(1, "x", attempts=three()[:2])["files"]
        await expect(page.locator("#live")).to_have_text("The task: To be reviewed")
        await expect(page.get_by_role("button", name="Approve")).to_be_visible()
        await expect(page.get_by_role("button", name="Stop following")).to_be_hidden()
        looked = [path for _, path, _, _ in tasks.calls if "/log" in path]
        assert "after=1201" in "".join(looked)
        stage.browser.check()


async def test_attempts_stand_side_by_side_with_their_diffs(staged: Staged) -> None:
    api, tasks = shop()
    one = task(1, "totals", attempts=three())
    tasks.tasks = [one]
    tasks.diffs[(one["id"], 1)] = "--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n"
    tasks.diffs[(one["id"], 3)] = "--- a/big\n+++ b/big\n@@ -0,0 +1,9000 @@\n" + "+x\n" * 8999 + "+" + "y" * 5000 + "\n"
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{one['id']}")
        cards = page.locator(".attempt")
        await expect(cards).to_have_count(3)
        boxes = [await cards.nth(n).bounding_box() for n in range(3)]
        assert len({box["y"] for box in boxes if box}) == 1
        await expect(cards.nth(0)).to_contain_text("Rank 2")
        await expect(cards.nth(0)).to_contain_text("its tests fail")
        await expect(cards.nth(1)).to_contain_text("Rank 1")
        await expect(cards.nth(2)).to_contain_text("Its time was up")
        await expect(page.get_by_role("heading", name="Diff of attempt 2")).to_be_visible()
        money = page.get_by_role("region", name="Diff of app/money.py")
        added = await money.locator(".line.added code").all_inner_texts()
        assert added[0] == "    if not items:"
        assert added[-1] == "++ not a header but an added line"
        assert await money.locator(".line.removed code").all_inner_texts() == [
            '    return sum(one["price"] for one in items)',
            "-- not a header but a removed line",
        ]
        assert await money.locator(".line.hunk").count() == 2
        numbers = await money.locator(".line.added .no:nth-child(2)").evaluate_all("all => all.map(e => e.dataset.no)")
        assert numbers == ["3", "4", "5", "21"]
        assert "if" in await money.locator(".tok-keyword").all_inner_texts()
        assert '"price"' in await money.locator(".tok-string").all_inner_texts()
        assert "# amounts are whole cents" in await money.locator(".tok-comment").all_inner_texts()
        cart = page.get_by_role("region", name="Diff of web/cart.js")
        assert "`sum ${items}`" in await cart.locator(".tok-string").all_inner_texts()
        await page.get_by_role("button", name="Show the diff of attempt 1").click()
        await expect(page.get_by_role("heading", name="Diff of attempt 1")).to_be_visible()
        await expect(page.locator(".line.note")).to_have_text("\\ No newline at end of file".rjust(28))
        await page.get_by_role("button", name="Show the diff of attempt 3").click()
        await expect(page.get_by_text("5,001 more lines are not shown")).to_be_visible()
        assert await page.locator(".line").count() == 4000
        link = page.get_by_role("link", name="Download the whole diff")
        assert await link.get_attribute("href") == f"/v1/tasks/{one['id']}/attempts/3/files/diff.patch"
        async with page.expect_download() as coming:
            await link.click()
        assert (await coming.value).suggested_filename in {"diff.patch", "x"}
        stage.browser.check()


async def test_a_task_is_claimed_approved_applied_and_archived(staged: Staged) -> None:
    api, tasks = shop()
    one = task(1, "totals", attempts=three())
    tasks.tasks = [one]
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{one['id']}")
        await page.get_by_role("button", name="Claim the review").click()
        await expect(page.get_by_role("button", name="Claim the review")).to_have_count(0)
        await page.get_by_role("button", name="Approve").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("radio")).to_have_count(2)  # the one that failed cannot be taken
        await expect(dialog.get_by_label("Attempt 2")).to_be_checked()
        await dialog.get_by_label("Attempt 1").check()
        await dialog.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("Approved by")).to_be_visible()
        assert one["chosen"] == 1
        await expect(page.locator(".attempt").nth(0)).to_contain_text("Chosen")
        await page.get_by_role("button", name="Mark as applied").click()
        await expect(page.locator(".badge").filter(has_text="Applied")).to_be_visible()
        await page.get_by_role("button", name="More acts").click()
        await expect(page.get_by_role("menuitem", name="Retry")).to_have_count(0)
        await page.get_by_role("menuitem", name="Archive").click()
        await expect(page.locator(".badge").filter(has_text="Archived")).to_be_visible()
        assert tasks.sent("POST", f"/v1/tasks/{one['id']}/approve") == [{"attempt": 1}]
        stage.browser.check()


async def test_a_task_is_rejected_followed_up_cancelled_and_retried(staged: Staged) -> None:
    api, tasks = shop()
    one = task(1, "totals")
    tasks.tasks = [one]
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{one['id']}")
        await page.get_by_role("button", name="Reject").click()
        await page.get_by_label("Why", exact=True).fill("No test.")
        await page.get_by_role("dialog").get_by_role("button", name="Reject").click()
        await expect(page.get_by_role("definition").filter(has_text="ada: No test.")).to_be_visible()
        await page.get_by_role("button", name="Follow up").click()
        await page.get_by_label("What else is to be done").fill("Add a test.")
        await page.get_by_role("button", name="Ask for it").click()
        await expect(page.locator(".attempt")).to_have_count(2)
        assert tasks.sent("POST", f"/v1/tasks/{one['id']}/follow-up") == [{"prompt": "Add a test."}]
        await page.get_by_role("button", name="Cancel", exact=True).click()
        await page.get_by_role("button", name="Cancel the task").click()
        await expect(page.get_by_text("It was cancelled", exact=False).first).to_be_visible()
        await page.get_by_role("button", name="More acts").click()
        await page.get_by_role("menuitem", name="Retry").click()
        await expect(page.locator(".attempt")).to_have_count(3)
        tasks.move(one, "ready")
        await expect(page.get_by_role("button", name="Approve")).to_be_visible()
        api.fail_next[f"POST /v1/tasks/{one['id']}/claim"] = Refusal(409, "conflict", "A task that is applied stays.")
        await page.get_by_role("button", name="Claim the review").click()
        await expect(page.locator(".toast.bad")).to_contain_text("It has changed meanwhile")
        stage.browser.check()


async def test_a_link_is_made_shown_once_and_taken_back(staged: Staged) -> None:
    api, tasks = shop()
    one = task(1, "totals")
    tasks.tasks = [one]
    async with staged(api) as stage:
        page = await stage.sign_in(f"/tasks/{one['id']}")
        await page.get_by_role("button", name="More acts").click()
        await page.get_by_role("menuitem", name="Share").click()
        await page.get_by_label("It ends after").select_option("604800")
        await page.get_by_role("button", name="Make a link").click()
        await expect(page.get_by_text("https://relay.example/share/once.1.x")).to_be_visible()
        assert tasks.sent("POST", f"/v1/tasks/{one['id']}/share") == [{"expires_in_s": 604800}]
        await page.get_by_role("button", name="Take back the link of ada").click()
        await expect(page.get_by_text("No link leads here")).to_be_visible()
        assert tasks.shares[one["id"]] == []
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("share/once.1.x")).to_have_count(0)
        stage.browser.check()


@pytest.mark.parametrize("role", list(Role))
async def test_only_what_the_role_may_do_with_tasks_is_offered(staged: Staged, role: Role) -> None:
    api, tasks = shop(role)
    one = task(1, "totals")
    tasks.tasks = [one]
    writes = role is not Role.AUDITOR
    async with staged(api) as stage:
        page = await stage.sign_in("/tasks")
        links = await page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts()
        assert {"Tasks", "Environments"} <= set(links)
        await rows(page, "totals")
        await expect(page.get_by_role("link", name="New task")).to_have_count(int(writes))
        await stage.open(f"/tasks/{one['id']}")
        await expect(page.get_by_role("heading", name="Diff of attempt 1")).to_be_visible()
        await expect(page.get_by_role("button", name="Approve")).to_have_count(int(writes))
        await stage.open("/environments/env_1")
        await expect(page.get_by_role("button", name="Save")).to_have_count(int(writes))
        await expect(page.get_by_role("alert")).to_have_count(0)
        await stage.open("/environments/new")
        if not writes:
            await expect(page.get_by_text("does not change them")).to_be_visible()
        assert all(method == "GET" for method, _, _, _ in tasks.calls)
        stage.browser.check()
