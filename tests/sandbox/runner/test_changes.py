"""The diff, whatever the agent did to git meanwhile; every one is applied to a fresh clone and compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.runner.changes import Changes, apply_patch, diff
from sandbox.runner.checkout import Git, GitFailed
from sandbox.runner.order import Places
from sandbox.runner.processes import Stop

pytestmark = pytest.mark.slow
RunGit = Callable[..., str]


@pytest.fixture
def git(places: Places) -> Git:
    return Git(places, Stop(60.0))


def taken(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def applied(run_git: RunGit, places: Places, base: str, into: Path) -> dict[str, bytes]:
    run_git("clone", "-q", str(places.workspace), str(into))
    run_git("checkout", "-q", base, folder=into)
    if (places.out / "diff.patch").stat().st_size:
        run_git("apply", str(places.out / "diff.patch"), folder=into)
    return taken(into)


def test_every_kind_of_change_is_in_it(
    git: Git, places: Places, repository: str, run_git: RunGit, tmp_path: Path
) -> None:
    work = places.workspace
    (work / "a.txt").unlink()
    (work / "b.bin").write_bytes(bytes(range(256)) * 50)
    (work / "dir").mkdir()
    (work / "dir" / 'sp ace "q" \n<script>').write_text("x\n")
    (work / "ignored.o").write_text("not mine")
    (work / "link").symlink_to("/etc/passwd")
    (work / "no-end").write_text("no newline")
    found = diff(git, repository, places.out / "diff.patch")
    assert (found.files, found.removed, found.cut) == (5, 2, False)
    expected = {name: data for name, data in taken(work).items() if name not in {"ignored.o", "link"}}
    result = applied(run_git, places, repository, tmp_path / "clone")
    assert {name: data for name, data in result.items() if name != "link"} == expected
    assert (tmp_path / "clone" / "link").is_symlink()
    assert run_git("diff", "--cached", "--name-only") == "", "the agent's own index is not touched"


def lock(work: Path, run_git: RunGit) -> None:
    (work / ".git" / "index.lock").write_text("")


def flags(work: Path, run_git: RunGit) -> None:
    run_git("update-index", "--assume-unchanged", "a.txt")


def committed(work: Path, run_git: RunGit) -> None:
    run_git("commit", "-q", "-a", "--allow-empty", "-m", "mine")
    run_git("checkout", "-q", "-b", "other")


def no_index(work: Path, run_git: RunGit) -> None:
    (work / ".git" / "index").unlink()


def prefixes(work: Path, run_git: RunGit) -> None:
    for name, value in (
        ("diff.noprefix", "true"),
        ("diff.mnemonicPrefix", "true"),
        ("diff.context", "0"),
        ("color.ui", "always"),
        ("diff.submodule", "log"),
        ("diff.orderFile", "/nowhere"),
    ):
        run_git("config", name, value)


def hooks(work: Path, run_git: RunGit) -> None:
    canary = f"touch {work.parent}/canary"
    for name, value in (
        ("core.fsmonitor", canary),
        ("diff.external", canary),
        ("diff.x.textconv", canary),
        ("diff.x.command", canary),
        ("core.hooksPath", str(work.parent / "hooks")),
    ):
        run_git("config", name, value)
    (work / ".git" / "info").mkdir(exist_ok=True)
    (work / ".git" / "info" / "attributes").write_text("* diff=x\n")


def inner_repository(work: Path, run_git: RunGit) -> None:
    (work / "inner").mkdir()
    run_git("init", "-q", folder=work / "inner")
    (work / "inner" / "lost.txt").write_text("x")


@pytest.mark.parametrize("trick", [lock, flags, committed, no_index, prefixes, hooks, inner_repository])
def test_nothing_that_the_agent_did_to_git_hides_or_breaks_it(
    git: Git,
    places: Places,
    repository: str,
    run_git: RunGit,
    tmp_path: Path,
    trick: Callable[[Path, RunGit], None],
) -> None:
    (places.workspace / "a.txt").write_text("ONE\ntwo\n")
    (places.workspace / "new.txt").write_text("new\n")
    trick(places.workspace, run_git)
    found = diff(git, repository, places.out / "diff.patch")
    assert (found.files, found.added, found.removed) == (2, 2, 1)
    patch = (places.out / "diff.patch").read_text()
    assert "\x1b" not in patch
    assert not (tmp_path / "canary").exists()
    clone = tmp_path / "clone"
    run_git("init", "-q", str(clone), folder=tmp_path)
    (clone / "a.txt").write_text("one\ntwo\n")
    run_git("apply", str(places.out / "diff.patch"), folder=clone)
    assert (clone / "a.txt").read_text() == "ONE\ntwo\n"
    assert (clone / "new.txt").read_text() == "new\n"


def test_no_change_is_an_empty_diff(git: Git, places: Places, repository: str) -> None:
    assert diff(git, repository, places.out / "diff.patch") == Changes()


def test_one_that_is_too_large_ends_after_the_last_file_that_fits(
    git: Git, places: Places, repository: str, run_git: RunGit, tmp_path: Path
) -> None:
    for name in ("b", "c", "d"):
        (places.workspace / name).write_text(name * 70 + "\n")
    found = diff(git, repository, places.out / "diff.patch", max_bytes=300)
    assert (found.files, found.cut) == (3, True)
    result = applied(run_git, places, repository, tmp_path / "clone")
    assert {"b", "c", "d"} & set(result) == {"b"}
    assert found.size_bytes == (places.out / "diff.patch").stat().st_size < 300


def test_a_patch_is_applied_whole_or_not_at_all(git: Git, places: Places, repository: str) -> None:
    good = "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-one\n+ONE\n two\n"
    bad = good + "--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-x\n+y\n"
    outside = "--- /dev/null\n+++ b/../outside.txt\n@@ -0,0 +1 @@\n+x\n"
    inside_git = "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n"
    for patch in (bad, outside, inside_git, "no patch"):
        with pytest.raises(GitFailed):
            apply_patch(git, patch)
    assert (places.workspace / "a.txt").read_text() == "one\ntwo\n"
    assert not (places.workspace.parent / "outside.txt").exists()
    assert not (places.workspace / ".git" / "hooks" / "x").exists()
    apply_patch(git, good)
    assert (places.workspace / "a.txt").read_text() == "ONE\ntwo\n"
