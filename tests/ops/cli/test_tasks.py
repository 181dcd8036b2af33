"""``tasks`` against a stand-in of the REST API: what is asked, what is shown, what happens to a repository."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops.cli.root import root
from ops.cli.session import Surroundings
from tests.fakes.clock import FakeClock
from tests.ops.cli.tasks_api import DIFF, EVIL, KEY, TasksApi, log_items, tasks_api

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[TasksApi]:
    with tasks_api() as running:
        yield running


class Instant(FakeClock):
    """Nobody waits: a sleep is over when it begins."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


def run(api: TasksApi, *arguments: str, code: int = 0, stdin: str = "", key: str = KEY) -> Result:
    clean = {name: None for name in os.environ if name.startswith("CODEX_")}
    environment = {**clean, "CODEX_RELAY_URL": api.url, "CODEX_RELAY_KEY": key}
    surroundings = Surroundings(clock=Instant())
    result = CliRunner().invoke(root, ["tasks", *arguments], env=environment, input=stdin, obj=surroundings)
    assert result.exit_code == code, (result.output, result.exception)
    assert_inert(result.output)
    assert KEY not in result.output
    return result


def assert_inert(text: str) -> None:
    assert [one for one in text if not one.isprintable() and one not in "\n\t"] == []


# create


def test_a_task_is_handed_over_with_what_was_said(api: TasksApi, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("ghp_token\n")
    (tmp_path / "first.diff").write_bytes(DIFF)
    result = run(
        api, "create", "fix it", "--env", "widgets", "--git", "https://git.example/a.git", "--ref", "main",
        "--git-token-file", str(tmp_path / "token"), "--diff", str(tmp_path / "first.diff"), "--attempts", "3",
        "--effort", "high", "--artifact", "out/a.txt", "--budget-tokens", "5000",
    )  # fmt: skip
    assert result.stdout == "task_1\n"
    (asked,) = api.of("POST", "/v1/tasks")
    assert asked.json == {
        "environment": "widgets",
        "prompt": "fix it",
        "attempts": 3,
        "effort": "high",
        "artifacts": ["out/a.txt"],
        "budget_tokens": 5000,
        "starting_diff": DIFF.decode(),
        "source": {"git": {"url": "https://git.example/a.git", "ref": "main", "token": "ghp_token"}},
    }
    assert len(asked.headers["idempotency-key"]) == 32


def test_the_prompt_may_come_from_standard_input_and_the_source_from_a_file(api: TasksApi, tmp_path: Path) -> None:
    archive = tmp_path / "work.zip"
    archive.write_bytes(b"PK" * 300_000)
    run(api, "create", "--env", "env_1", "--zip", str(archive), "--idempotency-key", "again", stdin="from a pipe\n")
    (upload,) = api.of("POST", "/v1/uploads")
    assert upload.body == archive.read_bytes()
    assert upload.headers["content-type"] == "application/zip"
    (asked,) = api.of("POST", "/v1/tasks")
    assert asked.json["source"] == {"upload": "up_1"}
    assert asked.json["prompt"] == "from a pipe\n"
    assert asked.headers["idempotency-key"] == "again"


def test_waiting_ends_with_the_task(api: TasksApi) -> None:
    api.states = ["queued", "setting_up", "running", "ready"]
    assert "is ready" in run(api, "create", "x", "--env", "e", "--wait").stderr
    api.states = ["queued", "failed"]
    assert "tasks logs task_1" in run(api, "create", "x", "--env", "e", "--wait", code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", " ", "--env", "e"),
        ("create", "x"),
        ("create", "x", "--env", "e", "--ref", "main"),
        ("create", "x", "--env", "e", "--attempts", "5"),
        ("create", "x", "--env", "e", "--zip", __file__),
        ("show", "../keys"),
        ("cancel", "a?b"),
    ],
)
def test_wrong_use_asks_nobody(api: TasksApi, arguments: tuple[str, ...]) -> None:
    run(api, *arguments, code=2)
    assert api.asked == []


# show


def test_what_is_untrusted_is_shown_and_never_obeyed(api: TasksApi) -> None:
    api.log = log_items(1)
    shown = [run(api, "list").stdout, run(api, "show", "task_1").stdout, run(api, "logs", "task_1").stdout]
    assert all("\\x1b]0;owned" in one for one in shown)
    for command in (("list",), ("show", "task_1"), ("logs", "task_1")):
        assert run(api, *command, "--json").stdout.isascii()
    assert json.loads(run(api, "show", "task_1", "--json").stdout)["title"] == EVIL


def test_a_list_says_where_it_goes_on(api: TasksApi) -> None:
    result = run(api, "list", "--state", "ready", "--env", "env_1", "--limit", "5", "--before", "task_9")
    (asked,) = api.of("GET", "/v1/tasks")
    assert asked.query == {"state": "ready", "environment": "env_1", "limit": "5", "before": "task_9"}
    assert "--before task_0" in result.stderr


def test_a_link_names_a_task_too(api: TasksApi) -> None:
    run(api, "show", "https://relay.example/console/tasks/task_1")
    assert api.of("GET", "/v1/tasks/task_1")


def test_a_refusal_is_one_line_with_the_next_step(api: TasksApi) -> None:
    assert "401 invalid_api_key" in run(api, "list", code=1, key="at-cr-wrong").stderr
    api.refusals["approve"] = 409
    assert run(api, "approve", "task_1", code=1).stderr.count("\n") == 1


# logs


def numbers(output: str) -> list[int]:
    return [json.loads(one)["number"] for one in output.splitlines()]


def test_the_log_is_read_page_by_page(api: TasksApi) -> None:
    api.log = log_items(5)
    assert numbers(run(api, "logs", "task_1", "--json").stdout) == [1, 2, 3, 4, 5]
    assert numbers(run(api, "logs", "task_1", "--json", "--after", "3").stdout) == [4, 5]


def test_a_log_that_breaks_off_is_taken_up_again_without_a_line_lost_or_doubled(api: TasksApi) -> None:
    api.log = log_items(9)
    api.cuts = [3, 0, 2]
    api.states = ["running", "ready"]
    result = run(api, "logs", "-f", "task_1", "--json")
    assert numbers(result.stdout) == list(range(1, 10))
    resumed = [one.headers["last-event-id"] for one in api.asked if "last-event-id" in one.headers]
    assert resumed == ["0", "3", "3", "5", "9"]
    assert result.stderr.count("taking the log up again") == 3


def test_following_a_task_that_fails_ends_with_1(api: TasksApi) -> None:
    api.log, api.states = log_items(1), ["failed"]
    assert "is failed" in run(api, "logs", "-f", "task_1", code=1).stderr


def test_a_gateway_that_stays_away_ends_the_following(api: TasksApi) -> None:
    api.log, api.cuts = log_items(1), [0] * 50
    assert "cannot reach the gateway" in run(api, "logs", "-f", "task_1", code=1).stderr
    assert len(api.asked) == 8


# acts


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        (("cancel", "task_1"), b""),
        (("retry", "task_1"), b""),
        (("claim", "task_1"), b""),
        (("approve", "task_1", "--attempt", "2"), b'{"attempt":2}'),
        (("reject", "task_1", "--reason", "no tests"), b'{"reason":"no tests"}'),
    ],
)
def test_an_act_is_one_request(api: TasksApi, arguments: tuple[str, ...], body: bytes) -> None:
    assert run(api, *arguments).stdout == "task_1\n"
    (asked,) = api.asked
    assert (asked.method, asked.path, asked.body) == ("POST", f"/v1/tasks/task_1/{arguments[0]}", body)


def test_a_link_is_made_listed_and_taken_back(api: TasksApi) -> None:
    assert run(api, "share", "task_1", "--expires", "12h").stdout == "https://relay.example/share/abc\n"
    assert api.asked[-1].json == {"expires_in_s": 43_200.0}
    assert "sh_1" in run(api, "share", "task_1", "--list").stdout
    run(api, "share", "task_1", "--revoke", "sh_1")
    assert api.of("DELETE", "/v1/tasks/task_1/share/sh_1")


# diff and apply


def test_a_diff_in_a_pipe_is_the_exact_bytes(api: TasksApi) -> None:
    api.diff = DIFF + b"\x1b[31m\xff\r\n"
    clean = {"CODEX_RELAY_URL": api.url, "CODEX_RELAY_KEY": KEY}
    assert CliRunner().invoke(root, ["tasks", "diff", "task_1"], env=clean).stdout_bytes == api.diff


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repo"
    (folder / "below").mkdir(parents=True)
    (folder / "a.txt").write_text("old\n")
    for arguments in (
        ("init", "-q"),
        ("add", "a.txt"),
        ("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    monkeypatch.chdir(folder / "below")
    return folder


def test_a_diff_is_shown_tried_asked_for_and_applied(api: TasksApi, repository: Path) -> None:
    assert "1 file changed, 1 insertion(+), 1 deletion(-)" in run(api, "apply", "task_1", stdin="n\n", code=1).stderr
    assert (repository / "a.txt").read_text() == "old\n"
    assert "nothing was committed" in run(api, "apply", "task_1", "--yes").stderr
    assert (repository / "a.txt").read_text() == "new\n"
    assert len(api.of("POST", "/v1/tasks/task_1/applied")) == 1


def test_what_does_not_fit_changes_nothing(api: TasksApi, repository: Path) -> None:
    (repository / "a.txt").write_text("mine\n")
    assert "nothing was changed" in run(api, "apply", "task_1", "--yes", code=1).stderr
    assert (repository / "a.txt").read_text() == "mine\n"
    api.diff = b"\n"
    assert "changed nothing" in run(api, "apply", "task_1", "--yes", code=1).stderr
    assert api.of("POST", "/v1/tasks/task_1/applied") == []


@pytest.mark.parametrize("name", ["../outside.txt", ".git/hooks/post-checkout", "/tmp/outside.txt"])
def test_a_hostile_diff_leaves_the_work_tree(api: TasksApi, repository: Path, name: str) -> None:
    api.diff = (
        f"diff --git a/{name} b/{name}\nnew file mode 100755\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+evil\n"
    ).encode()
    run(api, "apply", "task_1", "--yes", code=1)
    assert not (repository / ".git/hooks/post-checkout").exists()
    assert not (repository.parent / "outside.txt").exists()
    assert not Path("/tmp/outside.txt").exists()


def test_what_the_gateway_does_not_note_is_said_and_stays_applied(api: TasksApi, repository: Path) -> None:
    api.refusals["applied"] = 409
    assert "did not note it" in run(api, "apply", "task_1", "--yes").stderr
    assert (repository / "a.txt").read_text() == "new\n"


def test_outside_of_a_repository_nothing_is_fetched(
    api: TasksApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert "in no git repository" in run(api, "apply", "task_1", code=1).stderr
    assert api.asked == []
