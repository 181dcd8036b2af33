"""What is written of a task is what is read back, and the token of its repository can be taken out."""

from __future__ import annotations

from sandbox.bodies import (
    TITLE_MAX,
    AttemptBody,
    Review,
    TaskBody,
    read_attempt,
    read_task,
    title_of,
    without_token,
    write_attempt,
    write_task,
)
from sandbox.types import ArchiveSource, Ended, GitSource, Phase, RunResult, TaskSpec, Usage
from store.records import Secret

GIT = GitSource("https://git.example.com/a/b.git", "main", Secret("tok-123"))


def spec(source: GitSource | ArchiveSource | None = None) -> TaskSpec:
    return TaskSpec("fix it", "gpt-5.5", "env_1", source, attempts=2, artifacts=("dist/a.txt",), effort="high")


def test_a_task_comes_back_as_it_was() -> None:
    review = Review("ann", ("bob",), None, "")
    for source in (None, GIT, GitSource("https://x.example/y"), ArchiveSource("acme/uploads/u1", "a.zip")):
        body = TaskBody("fix it", "ann", spec(source), Ended.FAILED, 2, review, 12.5)
        assert read_task(write_task(body)) == body


def test_a_token_shows_itself_nowhere_and_can_be_taken_out() -> None:
    body = TaskBody("t", "ann", spec(GIT))
    assert "tok-123" not in repr(body)
    cleaned = without_token(body.spec)
    assert cleaned.source == GitSource(GIT.url, GIT.ref)
    assert b"tok-123" not in write_task(TaskBody("t", "ann", cleaned))
    assert without_token(spec()) == spec()


def test_an_attempt_comes_back_as_it_was() -> None:
    result = RunResult(Ended.DONE, "ok", 0, "th_1", Usage(3, 2, 1), (("diff.patch", "k"),), 1, 2, 3, True)
    body = AttemptBody(Phase.JUDGE, "c1", "img", 1.0, 2.0, "more", "th_0", 1, result)
    assert read_attempt(write_attempt(body)) == body
    assert read_attempt(b"{}") == AttemptBody()


def test_a_title_is_one_short_line() -> None:
    assert title_of(" fix\n\tthe  bug ") == "fix the bug"
    long = title_of("word " * 100)
    assert len(long) <= TITLE_MAX
    assert long.endswith("…")
