"""A task's diff into the repository that the command stands in, by the user's own git.

Rules that hold: what it touches is shown first; it is tried without writing (``git apply --3way --check``), and a
diff that does not fit changes nothing; then it is applied with ``--3way``. git itself refuses paths outside of the
work tree and inside ``.git``. Nothing is committed. What git prints of a diff is shown escaped.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import click

from ops.cli.inert import shown
from ops.cli.output import fail, say

_TIME_S: Final = 300.0


def work_tree() -> Path:
    """The root of the repository that the command stands in. Ends the command when there is none."""
    if shutil.which("git") is None:
        fail("there is no git on the PATH; install it, or use tasks diff")
    done = _git(Path.cwd(), "rev-parse", "--show-toplevel")
    if done.returncode != 0:
        fail("this folder is in no git repository; change into the one that the task is about")
    return Path(done.stdout.decode("utf-8", "surrogateescape").rstrip("\n"))


def preview(tree: Path, diff: bytes) -> None:
    """Shows what would be touched and tries it without writing. Ends the command when it does not fit."""
    if not diff.strip():
        fail("the task changed nothing; there is nothing to apply")
    _show(_git(tree, "apply", "--stat", "--summary", "-", stdin=diff).stdout)
    tried = _git(tree, "apply", "--3way", "--check", "-", stdin=diff)
    if tried.returncode != 0:
        _show(tried.stderr)
        fail("the diff does not fit this work tree; nothing was changed (commit or put away what you have changed)")


def apply(tree: Path, diff: bytes) -> None:
    """Applies it to the work tree and the index. Ends the command when conflicts are left."""
    done = _git(tree, "apply", "--3way", "--whitespace=nowarn", "-", stdin=diff)
    if done.returncode != 0:
        _show(done.stderr)
        fail("the diff was applied with conflicts; resolve what git status shows, or undo it with git checkout")
    say("applied; look at it with git diff --cached, nothing was committed")


def _show(text: bytes) -> None:
    for one in text.decode("utf-8", "backslashreplace").rstrip("\n").split("\n"):
        click.echo(shown(one), err=True)


def _git(tree: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(  # noqa: S603 - the user's own git, over a diff on standard input
        ["git", *arguments],  # noqa: S607 - the user's own git
        cwd=tree,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=_TIME_S,
    )
