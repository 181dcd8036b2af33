"""What did the run change? One unified diff against the commit that it began from, whatever the agent did to git.

Rules that hold:

* the index is one of our own, made from the base: staged, unstaged, committed and new files all count, and a lock or
  flags that the agent left in its index change nothing; ignored files do not count;
* external diffs, text conversion, hooks and the file monitor are off, prefixes and context are fixed, so the result
  applies with ``git apply`` and ``patch -p1``; binary files are in it;
* it is capped: beyond 20 MB it ends after the last file that fits whole, and says so.

Filters that the agent configured do run: in its own container, as itself.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .checkout import Git, GitFailed
from .processes import Stop

DIFF_MAX_BYTES = 20 << 20
WITHIN_S = 60.0
_FIXED = (
    "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "core.quotePath=true",
    "-c", "diff.orderFile=/dev/null", "-c", "diff.ignoreSubmodules=none", "-c", "core.safecrlf=false",
)  # fmt: skip
_DIFF = (
    "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/", "-U3",
    "--inter-hunk-context=0", "--submodule=short", "--no-relative",
)  # fmt: skip


@dataclass(frozen=True)
class Changes:
    """``files``, ``added`` and ``removed`` count the whole difference, also when the diff was cut."""

    files: int = 0
    added: int = 0
    removed: int = 0
    size_bytes: int = 0
    cut: bool = False


class _Capped:
    """A file that takes pieces up to a size and forgets the rest."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._file = path.open("wb")
        self._left = max_bytes
        self.cut = False

    def __call__(self, piece: bytes) -> None:
        self.cut = self.cut or len(piece) > self._left
        kept = piece[: self._left]
        self._file.write(kept)
        self._left -= len(kept)

    def close(self) -> None:
        self._file.close()


def apply_patch(git: Git, patch: str) -> None:
    """Applies a patch to the work tree. Raises GitFailed; nothing has been changed then."""
    git.run("apply", "--whitespace=nowarn", "-", stdin=patch.encode("utf-8", "surrogateescape"))


def diff(git: Git, base: str, target: Path, max_bytes: int = DIFF_MAX_BYTES) -> Changes:
    """Writes the difference between ``base`` and the work tree. Raises GitFailed or OSError: there is no diff then."""
    stop = Stop(WITHIN_S)  # of its own: a run that was stopped is still owed its diff
    with tempfile.TemporaryDirectory(prefix="runner-") as folder:
        Path(folder).chmod(0o777)  # as root, git is another
        ours = {"GIT_INDEX_FILE": f"{folder}/index"}
        git.run("read-tree", base, more=ours, stop=stop)
        _intend_new_files(git, ours, stop)
        counts = git.run(*_FIXED, *_DIFF, "--numstat", base, "--", more=ours, stop=stop)
        file = _Capped(target, max_bytes)
        try:
            git.run(*_FIXED, *_DIFF, "--binary", base, "--", take=file, more=ours, stop=stop)
        finally:
            file.close()
    if file.cut:
        _end_at_a_file(target)
    return _counted(counts, target.stat().st_size, cut=file.cut)


def _intend_new_files(git: Git, ours: dict[str, str], stop: Stop) -> None:
    """``git add -A -N``; a repository inside that has no commit makes it fail, then new files are named one by one."""
    try:
        git.run("add", "-A", "-N", more=ours, stop=stop)
    except GitFailed:
        listed = git.run("ls-files", "-z", "--others", "--exclude-standard", more=ours, stop=stop)
        names = [name for name in listed.split("\0") if name and not name.endswith("/")]
        if names:
            data = "\0".join(names).encode("utf-8", "surrogateescape")
            git.run(
                "--literal-pathspecs", "add", "-N", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul",
                stdin=data, more=ours, stop=stop,
            )  # fmt: skip


def _end_at_a_file(path: Path) -> None:
    data = path.read_bytes()
    at = data.rfind(b"\ndiff --git ")
    path.write_bytes(data[: at + 1])


def _counted(numstat: str, size_bytes: int, *, cut: bool) -> Changes:
    files = added = removed = 0
    for line in numstat.splitlines():
        words = line.split("\t", 2)
        if len(words) == 3:
            files += 1
            with contextlib.suppress(ValueError):  # "-" of a binary file
                added, removed = added + int(words[0]), removed + int(words[1])
    return Changes(files, added, removed, size_bytes, cut)
